"""`@declare_intended`: an op has a gradient that differs from the derivative (see `declarations.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tinygen.node import Op

F = TypeVar("F", bound=Callable[..., Any])


def declare_intended(why: str) -> Callable[[F], F]:
    """Declare that the gradient of an op is meant to differ from the derivative; reports show `why`."""

    def declare(f: F) -> F:
        if not isinstance(getattr(f, "op", None), Op):
            raise TypeError("@declare_intended declares an op: it stands above @op")
        f.op.intended = why  # type: ignore[attr-defined]
        return f

    return declare

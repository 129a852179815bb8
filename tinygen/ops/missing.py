"""Names that a Tensor does not have, each with its replacement: PyTorch's methods, NumPy's functions.

Each name is a descriptor that raises. A `__getattr__` would be shorter, but would slow down every attribute
that exists (CPython's shortcut for slots is off in a class that has one), by 7 % of each op.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from tinygen.tensor import Tensor
from tinygen.types import TensorLike
from tinygen.words import METHODS, attribute_hint


class Missing:
    """Raises AttributeError with the hint, so that `hasattr` is False."""

    def __init__(self, name: str, hint: str) -> None:
        self.name, self.hint = name, hint

    def __get__(self, x: TensorLike, kind: Any = None) -> NoReturn:
        raise AttributeError(self.hint, name=self.name, obj=x)


def names_of(x: Tensor) -> Iterable[str]:
    """`dir(x)`: the names that are there."""
    return [name for name in object.__dir__(x) if type(vars(Tensor).get(name)) is not Missing]


functions = [
    name for name, f in vars(np).items() if callable(f) and not isinstance(f, type) and name[0] != "_"
]
hints = {f"{name}_": attribute_hint(f"{name}_") for name in functions}
hints |= {name: f"{attribute_hint(name)}: write np.{name}(x)" for name in functions}
hints |= {name: attribute_hint(name) for name in METHODS}
for name, hint in hints.items():
    if not hasattr(Tensor, name):
        setattr(Tensor, name, Missing(name, hint))
Tensor.__dir__ = names_of  # type: ignore[method-assign, assignment]

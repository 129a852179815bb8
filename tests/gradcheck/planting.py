"""What a planted bug is: a right op or layer with one thing wrong in its gradient, inputs to look at it, and
what kind of mistake a person would call it. The bugs are in `bugs_*.py`; `corpus.py` has them all.

The kinds were written down beside the bugs, before the checker was asked. None stands where a mistake has
no name that its numbers could tell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygen
from tinygen.gradcheck import Kind


class Bug(NamedTuple):
    name: str
    of: str  # the op or the layer that it is a wrong copy of
    kind: Kind | None
    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    order: int = 1

    @property
    def is_op(self) -> bool:
        return hasattr(self.f, "op")


PLANTED: list[Bug] = []


def wrong_op(of: str, kind: Kind | None, *inputs: Any, order: int = 1) -> Callable[[Any], Any]:
    """Make an op of the body below, and plant it."""

    def plant(body: Any) -> Any:
        f = tinygen.op(body)
        PLANTED.append(Bug(body.__name__, of, kind, f, inputs, order))
        return f

    return plant


def wrong_function(of: str, kind: Kind | None, *inputs: Any, order: int = 1) -> Callable[[Any], Any]:
    """Plant a function of right ops, or a Module (a function without arguments makes it)."""

    def plant(f: Any) -> Any:
        made = f() if isinstance(f, type) else f
        PLANTED.append(Bug(f.__name__, of, kind, made, inputs, order))
        return f

    return plant


rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    return rng.uniform(0.5, 2.0, size=shape)


def off_zero(*shape: int) -> np.ndarray:
    """None near 0, where kinks are, and none at a border of [-1, 1]."""
    return rng.choice([-1.7, -1.4, -0.6, -0.3, 0.3, 0.6, 1.4, 1.7], size=shape) + rng.uniform(
        -0.1, 0.1, size=shape
    )

"""How the bugs in `bugs_users_*.py` and `bugs_second_*.py` are planted: mistakes that users make in ops and
layers of their own.

Each is like a `planting.Bug`, with all kinds that a person would accept, written down before the checker was
asked (the first is the one expected; None where a mistake has no name), and the op to blame. A
control has no kinds: it is right.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygen
from tinygen.gradcheck import Kind


class UserBug(NamedTuple):
    name: str
    of: str  # the op or the layer that it is a wrong copy of
    kinds: tuple[Kind | None, ...]  # none: it is right
    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    order: int
    culprit: str | None  # the name of the wrong op, if one op is to blame


WRONG: list[UserBug] = []
RIGHT: list[UserBug] = []


def planted(bug: UserBug) -> None:
    (WRONG if bug.kinds else RIGHT).append(bug)


def wrong_op(of: str, kinds: Any, *inputs: Any, order: int = 1) -> Callable[[Any], Any]:
    """Make an op of the body below, and plant it."""

    def plant(body: Any) -> Any:
        f = tinygen.op(body)
        kinds_of = kinds if isinstance(kinds, tuple) else (kinds,)
        planted(UserBug(body.__name__, of, kinds_of, f, inputs, order, body.__name__ if kinds_of else None))
        return f

    return plant


def wrong_function(
    of: str, kinds: Any, *inputs: Any, order: int = 1, culprit: str | None = None
) -> Callable[[Any], Any]:
    """Plant a function of Tensors, or a Module (a class, made without arguments)."""

    def plant(f: Any) -> Any:
        made = f() if isinstance(f, type) else f
        kinds_of = kinds if isinstance(kinds, tuple) else (kinds,)
        planted(UserBug(f.__name__, of, kinds_of, made, inputs, order, culprit))
        return f

    return plant


def right_op(of: str, *inputs: Any, order: int = 1) -> Callable[[Any], Any]:
    return wrong_op(of, (), *inputs, order=order)


def right_function(of: str, *inputs: Any, order: int = 1) -> Callable[[Any], Any]:
    return wrong_function(of, (), *inputs, order=order)


rng = np.random.default_rng(15)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    return rng.uniform(0.5, 2.0, size=shape)


def spread(*shape: int) -> np.ndarray:
    """No two of them, nor of them and 0, closer than about 0.1."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2 + 0.5) * 0.2 + rng.uniform(-0.04, 0.04, size=size)
    return rng.permutation(values).reshape(shape)


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def standardized(x: Any, axis: Any, eps: float = 1e-5) -> tuple[Any, Any]:
    centered = x - x.mean(axis=axis, keepdims=True)
    inv = 1 / np.sqrt((centered * centered).mean(axis=axis, keepdims=True) + eps)
    return centered * inv, inv


def attention_back(g: Any, q: Any, k: Any, v: Any, p: Any, scale: float) -> tuple[Any, Any, Any]:
    """The gradients of softmax(scale q kᵀ) v, where p is the softmax."""
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g

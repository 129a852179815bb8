"""Complex numbers as pairs of real ones, which is how their gradients are checked; cases with them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from optable import normal

from tinygen import Tensor


class Case(NamedTuple):
    """One way of calling one op. All inputs are differentiated."""

    name: str
    f: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    torch: Callable[..., Any] | None = None


def waves(*shape: int) -> np.ndarray:
    """Complex numbers off 0 and off the negative real axis, where log and the angle jump."""
    radius, angle = np.exp(0.3 * normal(*shape)), np.clip(normal(*shape), -2.5, 2.5)
    return np.asarray(radius * np.exp(1j * angle))


def as_list(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


def parts(value: Any) -> tuple[Any, ...]:
    """The real numbers in complex and real values."""
    values = value if isinstance(value, (tuple, list)) else [value]
    found = []
    for y in values:
        found += [np.real(y), np.imag(y)] if y.dtype.kind == "c" else [y] if y.dtype.kind == "f" else []
    return tuple(found)


def join_parts(numbers: list[Any], like: tuple[Any, ...]) -> list[Any]:
    """Complex numbers again, where `like` has them."""
    rest = iter(numbers)
    return [next(rest) + 1j * next(rest) if x.dtype.kind == "c" else next(rest) for x in like]


def leaves(inputs: tuple[Any, ...], precision: Any = np.float64) -> list[Tensor]:
    dtypes = {"c": np.result_type(precision, np.complex64), "f": precision}
    return [Tensor(x.astype(dtypes[x.dtype.kind]), requires_grad=True) for x in inputs]


def weighted(value: Any, kind: Any = np.asarray) -> Any:
    """A real number in which every part of the value has a weight of its own, an array of this kind."""
    total = 0.0
    for i, y in enumerate(as_list(value)):
        if y.dtype.kind in "fc":
            w = kind(weights(i, y).astype(y.dtype))
            total = total + np.real(np.conj(w) * y).sum()
    return total


def weights(seed: int, y: Any) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=tuple(y.shape)) + 1j * rng.normal(size=tuple(y.shape))
    return w if "complex" in str(y.dtype) else w.real


def bent(value: Any) -> Any:
    """`weighted`, and squares, so that its gradient depends on the value."""
    return weighted(value) + sum(
        np.real(y * np.conj(y)).sum() for y in as_list(value) if y.dtype.kind in "fc"
    )

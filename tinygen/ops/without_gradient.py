"""Ops that have no gradient: comparisons and tests, which give bools; constants; the shape of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.tape import implements, op
from tinygen.tensor import Array, Tensor
from tinygen.types import DType, TensorLike

__all__ = [
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "not_equal",
]

# -- comparisons and tests: elementwise, they give bools -------------------------------------------


def without_gradient(function: np.ufunc) -> Callable[..., Tensor]:
    """The op of a function of NumPy that gives bools."""

    def body(*args: Array) -> Any:
        return (function(*args),)

    body.__name__ = function.__name__
    body.__doc__ = f"`np.{function.__name__}`, entry by entry: an array of bools, without a gradient."
    return implements(function)(op(body))


equal = without_gradient(np.equal)
not_equal = without_gradient(np.not_equal)
less = without_gradient(np.less)
less_equal = without_gradient(np.less_equal)
greater = without_gradient(np.greater)
greater_equal = without_gradient(np.greater_equal)
logical_and = without_gradient(np.logical_and)
logical_or = without_gradient(np.logical_or)
logical_not = without_gradient(np.logical_not)
isnan = without_gradient(np.isnan)
isfinite = without_gradient(np.isfinite)


# -- constants and facts ---------------------------------------------------------------------------


def constant_like(function: Callable[..., Array], entries: str) -> Callable[..., Tensor]:
    """`function`, np.zeros_like or another one with these arguments, for Tensors."""

    @implements(function)
    def constant(
        a: TensorLike,
        dtype: DType = None,
        order: str = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Tensor:
        return Tensor(function(a._data, dtype=dtype, shape=shape))

    constant.__name__ = function.__name__
    constant.__doc__ = f"A constant: {entries} of a's shape, dtype and device, or of the given ones."
    return constant


zeros_like = constant_like(np.zeros_like, "zeros")
ones_like = constant_like(np.ones_like, "ones")
empty_like = constant_like(np.empty_like, "entries that were never written,")


@implements(np.shape)
def shape(x: TensorLike) -> Any:
    """The length of each axis."""
    return x.shape


@implements(np.ndim)
def ndim(x: TensorLike) -> Any:
    """The number of axes."""
    return x.ndim

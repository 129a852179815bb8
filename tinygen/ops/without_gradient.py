"""Ops that have no gradient: comparisons and tests, which give bools; constants; the shape of a tensor."""

from __future__ import annotations

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


def without_gradient(function: np.ufunc) -> Any:
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


@implements(np.zeros_like)
def zeros_like(
    x: TensorLike,
    dtype: DType = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Tensor:
    """A constant: zeros of x's shape, dtype and device, or of the given ones."""
    return Tensor(np.zeros_like(x._data, dtype=dtype, shape=shape))


@implements(np.ones_like)
def ones_like(
    x: TensorLike,
    dtype: DType = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Tensor:
    """A constant: ones of x's shape, dtype and device, or of the given ones."""
    return Tensor(np.ones_like(x._data, dtype=dtype, shape=shape))


@implements(np.shape)
def shape(x: TensorLike) -> Any:
    """The length of each axis."""
    return x.shape


@implements(np.ndim)
def ndim(x: TensorLike) -> Any:
    """The number of axes."""
    return x.ndim

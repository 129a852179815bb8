"""Products, and running sums and products. Nothing is divided, so zeros among the factors are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.ops import reduce
from tinygen.ops.compose import as_operand, axes_of, composition, refuse_out
from tinygen.ops.index import axis_from_0
from tinygen.ops.numpy.reduce import is_given
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Axis, DType, TensorLike, ValueAndRules


@composition("prod")
def prod(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = 1,
    where: Any = True,
) -> TensorLike:
    """The product over `axis` (of all entries for None)."""
    refuse_out(out)
    a = as_operand(a) if dtype is None else as_operand(a).astype(dtype)
    a = np.where(where, a, 1) if is_given(where) else a
    axes = axes_of(axis, a.ndim)
    rest = tuple(n for i, n in enumerate(a.shape) if i not in axes)
    last = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    y: Any = product(np.reshape(last, (*rest, math.prod(a.shape[i] for i in axes))))
    y = np.reshape(y, reduce.keepdims_shape(a.shape, axis)) if keepdims else y
    return y if not isinstance(initial, Tensor) and initial == 1 else y * initial


@show_as("prod")
@op
def product(x: Array) -> ValueAndRules:
    """Over the last axis. The gradient by an entry is the product of the others, from the left and from the
    right of it: nothing is divided, so zeros are exact."""

    def dx(g: Array) -> Array:
        left = product_before(x)
        right = np.flip(product_before(np.flip(x, -1)), -1)
        return g[..., None] * (left * right)

    return np.prod(x, axis=-1), dx


def product_before(x: Array) -> Array:
    """The product of all entries before each one, along the last axis."""
    if x.shape[-1] == 0:
        return x
    return np.cumprod(np.concatenate([np.ones_like(x[..., :1]), x[..., :-1]], axis=-1), axis=-1)


@show_as("cumprod")
@op
def running_product(x: Array) -> ValueAndRules:
    """Along the last axis. The gradient by x_i is Σ_k≥i g_k Π_j≤k, j≠i x_j: the product before i, times
    s_i = g_i + x_i+1 s_i+1."""

    def dx(g: Array) -> Array:
        n = x.shape[-1]
        if n == 0:
            return g
        s = [g[..., -1]]
        for i in range(n - 2, -1, -1):
            s.append(g[..., i] + x[..., i + 1] * s[-1])
        return product_before(x) * np.stack(s[::-1], axis=-1)

    return np.cumprod(x, axis=-1), dx


@composition("cumprod")
def cumprod(a: Array, axis: Axis = None, dtype: DType = None, out: Any = None) -> TensorLike:
    """The running product along an axis (of the flattened a for None)."""
    refuse_out(out)
    a = a if dtype is None else a.astype(dtype)
    if axis is None:
        return running_product(np.ravel(a))
    y: Any = running_product(np.moveaxis(a, axis, -1))
    return np.moveaxis(y, -1, axis)


def define_cumulative(name: str, running: Callable[..., Any], start: int) -> Callable[..., Any]:
    """np.cumulative_sum or np.cumulative_prod, whose running sum or product starts with `start`."""

    @composition(name)
    def call(
        x: TensorLike,
        /,
        *,
        axis: int | None = None,
        dtype: DType = None,
        out: Any = None,
        include_initial: bool = False,
    ) -> TensorLike:
        refuse_out(out)
        if axis is None and x.ndim > 1:
            raise ValueError("an array of more than one axis needs axis=")
        x = np.atleast_1d(x)
        axis = 0 if axis is None else axis_from_0(axis, x.ndim)
        y = running(x, axis=axis, dtype=dtype)
        if not include_initial:
            return y
        first = np.full_like(y, start, shape=tuple(1 if i == axis else n for i, n in enumerate(x.shape)))
        return np.concatenate([first, y], axis=axis)

    return call


cumulative_sum = define_cumulative("cumulative_sum", np.cumsum, 0)
cumulative_prod = define_cumulative("cumulative_prod", np.cumprod, 1)

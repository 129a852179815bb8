"""Products: matmul, linear, tensordot, outer.

The gradient of a product by one factor is the product of the gradient with the other factors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import operands
from tinygen.ops.index import axis_from_0
from tinygen.summation import sum_over
from tinygen.tape import implements, op
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike, ValueAndRules

__all__ = ["dot", "linear", "matmul", "outer", "tensordot"]


@implements(np.matmul)
@op
def matmul(a: Array, b: Array) -> ValueAndRules:
    """a @ b: (..., n, k) @ (..., k, m) -> (..., n, m); a vector (k,) counts as a row on the left and as a
    column on the right."""
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        a, b = operands(a, b)
    y = a @ b
    if a.ndim == b.ndim == 2:
        return y, lambda g: g @ b.T, lambda g: a.T @ g
    row, column = a.ndim == 1, b.ndim == 1
    shared = b.ndim == 2 and not row  # one matrix for all of a's rows

    def with_all_axes(g: Array) -> Array:  # (..., n, m): the axes that vectors do not have are put back
        if column:
            g = g[..., None]
        if row:
            g = g[..., None, :]
        return g

    def da(g: Array) -> Array:
        d = with_all_axes(g) @ (b[None, :] if column else b.swapaxes(-1, -2))
        return d[..., 0, :] if row else d

    def db(g: Array) -> Array:
        if shared:  # one large product instead of many that are then summed
            return as_matrix(a).T @ as_matrix(g)
        d = (a[:, None] if row else a.swapaxes(-1, -2)) @ with_all_axes(g)
        return d[..., 0] if column else d

    return y, da, db


def as_matrix(x: Array) -> Array:
    """(..., n) as one matrix (N, n). A -1 in its shape would be ambiguous when n is 0."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@implements(np.dot)
def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """a @ b of vectors and matrices, a * b with a number; of larger arrays the sum over the last axis of
    a and the last but one of b."""
    if 0 in (np.ndim(a), np.ndim(b)):
        return a * b
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        return np.tensordot(a, b, ((-1,), (-2 if np.ndim(b) > 1 else 0,)))  # type: ignore[return-value]
    return matmul(a, b)


@op
def linear(x: Array, weight: Array, bias: Array | None = None) -> ValueAndRules:
    """x Wᵀ + b for x (..., in), weight (out, in), bias (out): (..., out). One GEMM over all rows of x."""
    flat = as_matrix(x)  # (N, in)
    shape, out = x.shape, weight.shape[0]
    y = flat @ weight.T
    if bias is not None:
        y = y + bias
    return (
        y.reshape(*shape[:-1], out),
        lambda g: (as_matrix(g) @ weight).reshape(shape),
        lambda g: as_matrix(g).T @ flat,
        lambda g: sum_over(as_matrix(g), 0),
    )


@implements(np.tensordot)
def tensordot(a: TensorLike, b: TensorLike, axes: Any = 2) -> TensorLike:
    """The sum over pairs of axes: `axes` = n (the last n of a with the first n of b), or two sequences."""
    a, b = operands(a, b)
    if isinstance(axes, (int, np.integer)):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    left, right = ([int(i)] if isinstance(i, (int, np.integer)) else list(i) for i in axes)
    left, right = [axis_from_0(i, a.ndim) for i in left], [axis_from_0(i, b.ndim) for i in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError(f"tensordot: axes {left} of {a.shape} do not fit axes {right} of {b.shape}")
    keep_a = [i for i in range(a.ndim) if i not in left]
    keep_b = [i for i in range(b.ndim) if i not in right]
    shape_a = tuple(a.shape[i] for i in keep_a)
    shape_b = tuple(b.shape[i] for i in keep_b)
    summed = int(np.prod([a.shape[i] for i in left]))
    flat_a = np.reshape(np.transpose(a, keep_a + left), (int(np.prod(shape_a)), summed))
    flat_b = np.reshape(np.transpose(b, right + keep_b), (summed, int(np.prod(shape_b))))
    return np.reshape(flat_a @ flat_b, shape_a + shape_b)


@implements(np.outer)
def outer(a: TensorLike, b: TensorLike) -> TensorLike:
    """Every entry of a times every entry of b: (a.size, b.size)."""
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))

"""Norms of vectors and matrices, and the condition number.

At a vector of zeros, where norms have a kink, the gradient is defined as 0, and so it is for entries that are
0.
Entries that share the largest absolute value share the gradient of the maximum norm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import axes_of
from tinygen.ops.matrices.solve import conj
from tinygen.ops.reduce import keepdims_shape
from tinygen.tape import implements, in_replay, op, show_as
from tinygen.tensor import Array
from tinygen.types import Axis, TensorLike, ValueAndRules


@implements(np.linalg.norm)
def norm(x: TensorLike, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """As `np.linalg.norm`: of vectors along an axis, of matrices in two axes; of all entries for None. `ord`
    is None, "fro", "nuc", inf, -inf, 0, or a number."""
    if axis is None and (ord is None or (x.ndim == 1 and ord == 2) or (x.ndim == 2 and ord == "fro")):
        return length(x, None, keepdims)
    axes = axes_of(axis, x.ndim)
    if len(axes) == 1:
        return norm_of_vectors(x, 2 if ord is None else ord, axes[0], keepdims)
    if len(axes) == 2:
        return norm_of_matrices(x, ord, axes, keepdims)
    raise ValueError(
        f"norm: of vectors (1 axis) or matrices (2 axes), got {len(axes)} axes of shape {x.shape}"
    )


@implements(np.linalg.vector_norm)
def vector_norm(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """The norm of all entries along the axes (one, several, or None for all), taken as one vector."""
    return norm_of_vectors(x, ord, axis, keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: TensorLike, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """The norm of the matrices in the last two axes."""
    return norm_of_matrices(x, ord, axes_of((-2, -1), x.ndim), keepdims)


def norm_of_vectors(x: TensorLike, ord: Any, axis: Axis, keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord {ord!r} is for matrices; of a vector it is a number, inf or -inf")
    if ord == 2:
        return length(x, axis, keepdims)
    if ord == 0:
        return nonzeros(x, axis, keepdims)
    size = np.abs(as_float(x))
    if ord == math.inf:
        return size.max(axis=axis, keepdims=keepdims)
    if ord == -math.inf:
        return size.min(axis=axis, keepdims=keepdims)
    return size.sum(axis=axis, keepdims=keepdims) if ord == 1 else power_norm(x, float(ord), axis, keepdims)


def norm_of_matrices(x: TensorLike, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    row, column = axes
    if ord in (None, "fro", "f"):
        return length(x, axes, keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        along, across = (row, column) if abs(ord) == 1 else (column, row)
        sums = np.abs(as_float(x)).sum(axis=along, keepdims=True)
        y = sums.max(axis=across, keepdims=True) if ord > 0 else sums.min(axis=across, keepdims=True)
    elif ord in (2, -2, "nuc"):
        values = np.linalg.svdvals(np.moveaxis(as_float(x), axes, (-2, -1)))
        y = values.sum(axis=-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
        y = y.reshape(keepdims_shape(x.shape, axes))
    else:
        raise ValueError(f'norm: ord {ord!r} is for vectors; of a matrix it is "fro", "nuc", ±1, ±2 or ±inf')
    return y if keepdims else np.squeeze(y, axes)


def as_float(x: TensorLike) -> Any:
    return x if x.dtype.kind in "fc" else x.astype(np.float32)


@show_as("norm")
@op
def length(x: Array, axis: Axis, keepdims: bool) -> ValueAndRules:
    """√Σ|x|². Its gradient is the unit vector; 0 for a vector of zeros."""
    shape = keepdims_shape(x.shape, axis)
    y: Any
    if in_replay(x):
        y = length(x, axis, keepdims)
    elif axis is None:
        y = np.linalg.norm(x).reshape(shape if keepdims else ())
    else:
        y = np.sqrt(np.real(x * conj(x)).sum(axis=axis, keepdims=keepdims))

    def dx(g: Array) -> Array:
        size = y.reshape(shape)
        there = size != 0
        return g.reshape(shape) * np.where(there, conj(x) / np.where(there, size, 1), 0)

    return y, dx


@show_as("norm")
@op
def power_norm(x: Array, p: float, axis: Axis, keepdims: bool) -> ValueAndRules:
    """(Σ|x|^p)^(1/p). Its gradient is sign(x) (|x| / norm)^(p - 1)."""
    shape = keepdims_shape(x.shape, axis)
    y = power_norm(x, p, axis, keepdims) if in_replay(x) else power_mean(x, p, axis, keepdims)

    def dx(g: Array) -> Array:
        size = y.reshape(shape)
        there = (x != 0) & (size != 0) & (size != math.inf)
        ratio = np.where(there, np.abs(x), 1) / np.where(there, size, 1)
        return g.reshape(shape) * np.where(there, conj(np.sign(x)) * ratio ** (p - 1), 0)

    return y, dx


def power_mean(x: Array, p: float, axis: Axis, keepdims: bool) -> Array:
    y = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
    return y if keepdims else np.squeeze(y, axis)


@show_as("norm")
@op
def nonzeros(x: Array, axis: Axis, keepdims: bool) -> ValueAndRules:
    """How many entries are not 0; no small step changes that."""
    dtype = np.abs(x).dtype if x.dtype.kind in "fc" else np.float32
    return (x != 0).astype(dtype).sum(axis=axis, keepdims=keepdims), lambda g: np.zeros_like(x)


@implements(np.linalg.cond)
def cond(x: TensorLike, p: Any = None) -> Any:
    """The condition number ‖A‖ ‖A⁻¹‖ in the norm p; for None and 2, largest by smallest singular value."""
    if p in (None, 2, -2):
        values = np.linalg.svdvals(x)
        largest, smallest = values[..., 0], values[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    return matrix_norm(x, ord=p) * matrix_norm(np.linalg.inv(x), ord=p)

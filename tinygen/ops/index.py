"""Indexing: reading entries, and its transpose, adding into entries.

An entry that is read twice gets two gradients, which must be added, not overwritten. `scatter_add` does that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.arrays import device_of
from tinygen.ops.compose import arrays_in
from tinygen.tape import implements, in_replay, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Shape, TensorLike, ValueAndRules

__all__ = ["embedding", "getitem", "scatter_add", "take", "take_along_axis"]


def axis_from_0(axis: int, ndim: int) -> int:
    """An axis counted from 0. Raises np.exceptions.AxisError for one that is not there."""
    return int(np.lib.array_utils.normalize_axis_index(axis, ndim))


def getitem(x: TensorLike, index: Any) -> Tensor:
    """x[index], NumPy's basic and advanced indexing; Tensors of ints or bools may be indices."""
    return entries(x, arrays_in(index), *tensors_in(index))


def tensors_in(index: Any) -> list[Tensor]:
    """The Tensors of an index, which is one of them or a tuple."""
    return [i for i in (index if isinstance(index, tuple) else (index,)) if isinstance(i, Tensor)]


@show_as("getitem")
@op
def entries(x: Array, index: Any, *held: Array) -> ValueAndRules:
    """x[index]. `held` are the Tensors in the index: they are arguments so that the tape sees later writes
    into their memory."""
    shape = x.shape
    return x[index], lambda g: scatter_add(g, index, shape)


@op
def scatter_add(x: Array, index: Any, shape: Shape) -> ValueAndRules:
    """Zeros of `shape` with x added at `index`; an entry that is indexed twice receives both. It is the
    transpose of `x[index]`, and its gradient is g[index]."""
    y = scatter_add(x, index, shape) if in_replay(x) else scatter_into_zeros(x, index, shape)
    return y, lambda g: g[index]


def scatter_into_zeros(x: Array, index: Any, shape: Shape) -> Array:
    """Zeros of `shape` with x added at `index`."""
    y = np.zeros_like(x, shape=shape)
    if any(may_repeat(i) for i in (index if isinstance(index, tuple) else (index,))):
        np.add.at(y, index, x)
    else:
        y[index] = x
    return y


def may_repeat(index: Any) -> bool:
    """Whether an index may name an entry twice: lists and arrays of ints may; slices and masks cannot."""
    array = np.asarray(index) if isinstance(index, list) else index
    return getattr(array, "dtype", np.dtype(bool)).kind != "b"


def require_integers(name: str, indices: Any) -> None:
    """Raises TypeError for indices of another kind, such as masks."""
    kind = getattr(indices, "dtype", np.dtype(int))
    if kind.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, got {kind}; where a mask is True: x[mask]")


@implements(np.take)
def take(x: TensorLike, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Tensor:
    """The entries at `indices` along an axis (of the flattened x for None). An index outside raises
    IndexError; with `mode` "wrap" it counts modulo the length, with "clip" it is the nearest one inside."""
    indices = np.asarray(indices) if isinstance(indices, (tuple, list)) else indices
    require_integers("take", indices)
    if mode != "raise":
        indices = arrays_in(indices)
        n = x.size if axis is None else x.shape[axis]
        indices = np.mod(indices, n) if mode == "wrap" else np.clip(indices, 0, n - 1)
    if axis is None:
        return getitem(np.ravel(x), indices)
    return getitem(x, (*[slice(None)] * axis_from_0(axis, x.ndim), indices))


@implements(np.take_along_axis)
def take_along_axis(x: TensorLike, indices: Any, axis: int | None = -1) -> Tensor:
    """For each position of `indices`, the entry of x at that index along `axis`: one logit a row. Along the
    other axes x and `indices` are broadcast."""
    indices = indices if hasattr(indices, "ndim") else np.asarray(indices)
    require_integers("take_along_axis", indices)
    if axis is None:
        return getitem(np.ravel(x), indices)
    held = tensors_in(indices)
    indices = arrays_in(indices)
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices have shape {indices.shape}, x {x.shape}: same ndim needed"
        )
    grid = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    grid[axis] = indices
    return entries(x, tuple(grid), *held)


# -- rows of a table -------------------------------------------------------------------------------


@op
def embedding(weight: Array, ids: Array) -> ValueAndRules:
    """Rows of `weight` (V, C) for integer `ids` (...): (..., C).

    An id outside [0, V) raises IndexError; on a GPU, where a check would synchronize, its row is NaN."""
    ids, invalid = checked_ids("embedding ids", ids, len(weight))
    shape = weight.shape
    return nan_where(invalid, weight[ids]), lambda g: scatter_add(g, ids, shape)


def checked_ids(
    name: str, ids: TensorLike, upper: int, ignore: int | None = None
) -> tuple[TensorLike, Array | None]:
    """`ids`, and where they are invalid: not in [0, upper) and not `ignore`.

    On the CPU an invalid id raises IndexError (NumPy would read -1 as the last row), and the second result
    is None. On a GPU an error would need a synchronization at every step: there invalid ids are replaced by
    `ignore` or 0 (CuPy would wrap them around), and the second result is a mask of them, for `nan_where`.
    Raises TypeError unless the ids are integers."""
    ids = np.asarray(ids) if isinstance(ids, list | tuple) else ids
    array = arrays_in(ids)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if device_of(array) == "cuda":
        invalid = (array < 0) | (array >= upper)
        invalid = invalid if ignore is None else invalid & (array != ignore)
        return np.where(invalid, ignore or 0, array), invalid
    counted = array if ignore is None else array[array != ignore]
    if counted.size and not (counted.min() >= 0 and counted.max() < upper):
        besides = "" if ignore is None else f" or {ignore}, which is ignored"
        raise IndexError(
            f"{name} must be in [0, {upper}){besides}; got {int(counted.min())} to {int(counted.max())}"
        )
    return ids, None


def nan_where(invalid: Array | None, x: TensorLike) -> TensorLike:
    """x (..., *rest) with NaN where `invalid` (...) is True; x itself for None."""
    if invalid is None:
        return x
    return np.where(invalid.reshape(invalid.shape + (1,) * (x.ndim - invalid.ndim)), np.nan, x)

"""Indexing: reading entries, and its transpose, adding into entries.

Reading the same entry twice gives it two gradients, which must be added, not overwritten: that is
what `scatter_add` is for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.tape import implements, op, shown_as
from tinygen.tensor import Array, Tensor, device_of
from tinygen.types import TensorLike, ValueAndRules

__all__ = ["embedding", "getitem", "scatter_add", "take", "take_along_axis"]


def plain(index: Any) -> Any:
    """An index with the arrays of the Tensors in it."""
    if isinstance(index, tuple):
        return tuple(plain(i) for i in index)
    return index._data if isinstance(index, Tensor) else index


def axis_from_0(axis: int, ndim: int) -> int:
    """An axis counted from 0. Raises np.exceptions.AxisError for one that is not there."""
    return int(np.lib.array_utils.normalize_axis_index(axis, ndim))


def getitem(x: TensorLike, index: Any) -> Tensor:
    """x[index], NumPy's basic and advanced indexing; Tensors of ints or bools may be indices."""
    return entries(x, plain(index), *tensors(index))


def tensors(index: Any) -> list[Tensor]:
    return [i for i in (index if isinstance(index, tuple) else (index,)) if isinstance(i, Tensor)]


@shown_as("getitem")
@op
def entries(x: Array, index: Any, *held: Array) -> ValueAndRules:
    """x[index]. `held` are the Tensors whose arrays the index has: so the tape sees writes into them."""
    shape = x.shape
    return x[index], lambda g: scatter_add(g, index, shape)


@op
def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> ValueAndRules:
    """Zeros of `shape`, into whose entries [index] x has been added, repeatedly where they repeat."""
    y = scatter_add(x, index, shape) if isinstance(x, Tensor) else added(x, index, shape)
    return y, lambda g: g[index]


def added(x: Array, index: Any, shape: tuple[int, ...]) -> Array:
    y = np.zeros_like(x, shape=shape)
    if any(may_repeat(i) for i in (index if isinstance(index, tuple) else (index,))):
        np.add.at(y, index, x)
    else:
        y[index] = x
    return y


def may_repeat(index: Any) -> bool:
    """Whether it may name an entry twice: lists and arrays of ints do; slices, ints and masks never."""
    array = np.asarray(index) if isinstance(index, list) else index
    return getattr(array, "dtype", np.dtype(bool)).kind != "b"


def require_integers(name: str, indices: Any) -> None:
    kind = getattr(indices, "dtype", np.dtype(int))
    if kind.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, got {kind}; where a mask is True: x[mask]")


@implements(np.take)
def take(x: TensorLike, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Tensor:
    """The entries at `indices` along an axis (of the flattened x for None). Indices outside are an error, or
    are brought inside, with `mode` "wrap" or "clip"."""
    indices = np.asarray(indices) if isinstance(indices, (tuple, list)) else indices
    require_integers("take", indices)
    if mode != "raise":
        indices = plain(indices)
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
    held = tensors(indices)
    indices = plain(indices)
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices have shape {indices.shape}, x {x.shape}: same ndim needed"
        )
    grid = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    grid[axis] = indices
    return entries(x, tuple(grid), *held)


@op
def embedding(weight: Array, ids: Array) -> ValueAndRules:
    """Rows of `weight` (V, C) for integer `ids` (...): (..., C).

    Raises IndexError for an id outside [0, V): NumPy would read -1 as the last row, CuPy wraps all. Of ids on
    a card such a one has a row of NaN: an error would have to wait for the card, in every step."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding ids must be integers, got {ids.dtype}")
    shape = weight.shape
    if device_of(ids) == "cuda":
        there = (ids >= 0) & (ids < len(weight))
        ids = np.where(there, ids, 0)
        return np.where(there[..., None], weight[ids], np.nan), lambda g: scatter_add(g, ids, shape)
    if ids.size and not (ids.min() >= 0 and ids.max() < len(weight)):
        raise IndexError(f"ids must be in [0, {len(weight)}), got {int(ids.min())} to {int(ids.max())}")
    return weight[ids], lambda g: scatter_add(g, ids, shape)

"""Shapes: moving, joining, cutting and repeating entries.

Each of these ops is linear, and its gradient is its transpose: entries that moved move back, repeated entries
are summed, and zeros fill the places of entries that were cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.ops.compose import arrays_in, operands
from tinygen.ops.index import axis_from_0, scatter_add
from tinygen.tape import implements, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Axis, DType, Shape, TensorLike, ValueAndRules

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flip",
    "moveaxis",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "transpose",
    "tril",
    "triu",
]

# -- the same entries, another shape ---------------------------------------------------------------


@implements(np.reshape)
@op
def reshape(x: Array, shape: int | Shape, order: str = "C") -> ValueAndRules:
    """x with its entries in another shape. One entry of `shape` may be -1: it is computed from the others.
    With `order` "F" the entries are read and written by columns."""
    before = x.shape
    if order == "F":
        return x.reshape(shape, order="F"), lambda g: np.reshape(g, before, order="F")
    return x.reshape(shape), lambda g: g.reshape(before)


@implements(np.ravel)
def ravel(x: TensorLike, order: str = "C") -> Tensor:
    """x as one axis."""
    return reshape(x, (x.size,), order)


@implements(np.squeeze)
def squeeze(x: TensorLike, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """x without its axes of size 1, or without the given ones, which must have size 1."""
    drop = range(x.ndim) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    wrong = [i for i in drop if x.shape[i] != 1]
    if axis is not None and wrong:
        raise ValueError(f"squeeze: axis {wrong[0]} of shape {x.shape} is not of size 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if not (n == 1 and i in drop)))


@implements(np.expand_dims)
def expand_dims(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
    """x with new axes of size 1 at these positions of the result."""
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    new = np.lib.array_utils.normalize_axis_tuple(axes, x.ndim + len(axes))
    old = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(old) for i in range(x.ndim + len(axes))))


@implements(np.transpose, np.permute_dims)
@op
def transpose(x: Array, axes: Sequence[int] | None = None) -> ValueAndRules:
    """x with its axes in another order; in reverse order for None."""
    back = None if axes is None else sorted(range(x.ndim), key=[a % x.ndim for a in axes].__getitem__)
    return x.transpose(axes), lambda g: g.transpose(back)


@implements(np.swapaxes)
@op
def swapaxes(x: Array, axis1: int, axis2: int) -> ValueAndRules:
    """x with two axes exchanged."""
    return x.swapaxes(axis1, axis2), lambda g: g.swapaxes(axis1, axis2)


@implements(np.moveaxis)
@op
def moveaxis(x: Array, source: Any, destination: Any) -> ValueAndRules:
    """x with the axes `source` moved to the positions `destination`."""
    return np.moveaxis(x, source, destination), lambda g: np.moveaxis(g, destination, source)


@implements(np.flip)
@op
def flip(x: Array, axis: Axis = None) -> ValueAndRules:
    """x in reverse order along `axis` (all axes for None)."""
    return np.flip(x, axis), lambda g: np.flip(g, axis)


@implements(np.roll)
@op
def roll(x: Array, shift: Any, axis: Axis = None) -> ValueAndRules:
    """x shifted along `axis` by `shift` places; entries that leave at one end come in at the other."""
    back = tuple(-s for s in shift) if isinstance(shift, (tuple, list)) else -shift
    return np.roll(x, shift, axis), lambda g: np.roll(g, back, axis)


# -- more or fewer entries -------------------------------------------------------------------------


@implements(np.broadcast_to)
@op
def broadcast_to(x: Array, shape: int | Shape) -> ValueAndRules:
    """x repeated along its axes of size 1 and along new leading axes; the tape sums the gradient back."""
    return np.broadcast_to(x, shape), lambda g: g


@implements(np.concatenate)
def concatenate(
    tensors: Sequence[Any], axis: int | None = 0, *, dtype: DType = None, casting: str = "same_kind"
) -> Tensor:
    """The arrays one after the other along an axis; for None they are flattened first."""
    if not isinstance(tensors, (list, tuple)):
        tensors = list(tensors)
    tensors = operands(*tensors)
    if axis is None:
        tensors, axis = [np.ravel(x) for x in tensors], 0
    y = join(*tensors, axis=axis)
    return y if dtype is None else y.astype(dtype)


@show_as("concatenate")
@op
def join(*xs: Array, axis: int) -> ValueAndRules:
    """The arrays one after the other along an axis."""
    ends = np.cumsum([x.shape[axis] for x in xs])

    def cut(i: int) -> Any:
        part = slice(int(ends[i]) - sizes[i], int(ends[i]))
        return lambda g: g[(*[slice(None)] * (axis % g.ndim), part)]

    sizes = [x.shape[axis] for x in xs]
    return np.concatenate(xs, axis), *[cut(i) for i in range(len(xs))]


@implements(np.stack)
def stack(
    tensors: Sequence[Any], axis: int = 0, *, dtype: DType = None, casting: str = "same_kind"
) -> Tensor:
    """The arrays, all of one shape, side by side along a new axis."""
    shapes = {np.shape(x) for x in tensors}
    if len(shapes) != 1:
        raise ValueError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    return concatenate([np.expand_dims(x, axis) for x in tensors], axis, dtype=dtype)


@implements(np.split)
@op
def split(x: Array, indices_or_sections: Any, axis: int = 0) -> ValueAndRules:
    """A tuple of pieces: so many equal ones (an int), or cut at these positions (a sequence)."""
    return tuple(np.split(x, indices_or_sections, axis)), lambda gs: np.concatenate(gs, axis)


@implements(np.pad)
@op
def pad(x: Array, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> ValueAndRules:
    """x with a constant around it: `pad_width` is ((before, after), ...) per axis, or one int for all."""
    if mode != "constant":
        raise ValueError(f'pad: mode {mode!r} has no gradient rule, use "constant"')
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    inside = tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))
    return np.pad(x, widths, constant_values=constant_values), lambda g: g[inside]


@implements(np.repeat)
@op
def repeat(x: Array, repeats: Any, axis: int | None = None) -> ValueAndRules:
    """Every entry `repeats` times in a row along an axis (of the flattened x for None); `repeats` is one
    number for all, or one for each."""
    shape = x.shape
    if not isinstance(repeats, (int, np.integer)):
        flat, along = (x.reshape(math.prod(shape)), 0) if axis is None else (x, axis)
        along = axis_from_0(along, flat.ndim)
        rows = np.repeat(np.arange(flat.shape[along]), arrays_in(repeats))
        index = (*[slice(None)] * along, rows)
        return flat[index], lambda g: scatter_add(g, index, flat.shape).reshape(shape)
    i = 0 if axis is None else axis_from_0(axis, x.ndim)
    before = shape if axis is not None else (math.prod(shape),)
    split_axis = (*before[: i + 1], repeats, *before[i + 1 :])
    return np.repeat(x, repeats, axis), lambda g: g.reshape(split_axis).sum(axis=i + 1).reshape(shape)


@implements(np.tile)
@op
def tile(x: Array, reps: Any) -> ValueAndRules:
    """The whole array `reps` times along each axis; new axes come in front."""
    reps = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
    ndim = max(x.ndim, len(reps))
    sizes = (1,) * (ndim - x.ndim) + x.shape
    reps = (1,) * (ndim - len(reps)) + reps
    blocks = [n for pair in zip(reps, sizes, strict=True) for n in pair]  # r0, n0, r1, n1, ...
    shape = x.shape
    return np.tile(x, reps), lambda g: g.reshape(blocks).sum(axis=tuple(range(0, 2 * ndim, 2))).reshape(shape)


@implements(np.tril)
@op
def tril(x: Array, k: int = 0) -> ValueAndRules:
    """Zeros above the k-th diagonal of the last two axes."""
    return np.tril(x, k), lambda g: np.tril(g, k)


@implements(np.triu)
@op
def triu(x: Array, k: int = 0) -> ValueAndRules:
    """Zeros below the k-th diagonal of the last two axes."""
    return np.triu(x, k), lambda g: np.triu(g, k)

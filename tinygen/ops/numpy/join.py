"""Arrays put together and taken apart: stacks, blocks, pieces; entries put in, left out, repeated, padded.

Where NumPy only moves entries, its function is called with the positions 0, 1, 2, ... in place of the
entries: the result is an index, and x[index] has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.ops import shape as moves
from tinygen.ops.compose import arrays_in, as_operand, composition, numbers_like, operands, refuse_out
from tinygen.ops.index import axis_from_0, getitem
from tinygen.tensor import Tensor
from tinygen.types import Array, DType, TensorLike

__all__ = ["pad"]

# -- joining ---------------------------------------------------------------------------------------


def as_dtype(x: TensorLike, dtype: DType) -> TensorLike:
    return x if dtype is None else x.astype(dtype)


@composition("vstack", "row_stack")
def vstack(tup: Sequence[Any], *, dtype: DType = None, casting: str = "same_kind") -> TensorLike:
    return as_dtype(np.concatenate([np.atleast_2d(x) for x in operands(*tup)]), dtype)


@composition("hstack")
def hstack(tup: Sequence[Any], *, dtype: DType = None, casting: str = "same_kind") -> TensorLike:
    xs = [np.atleast_1d(x) for x in operands(*tup)]
    return as_dtype(np.concatenate(xs, axis=0 if xs[0].ndim == 1 else 1), dtype)


@composition("dstack")
def dstack(tup: Sequence[Any]) -> TensorLike:
    return np.concatenate([np.atleast_3d(x) for x in operands(*tup)], axis=2)


@composition("column_stack")
def column_stack(tup: Sequence[Any]) -> TensorLike:
    """1-D arrays as columns."""
    xs = operands(*tup)
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in xs], axis=1)


@composition("block")
def block(arrays: Any) -> TensorLike:
    """Nested lists: the innermost are joined along the last axis, the next along the one before, ..."""

    def depth(x: TensorLike) -> int:
        return 1 + depth(x[0]) if isinstance(x, list) else 0

    def rank(x: TensorLike) -> int:
        return max(map(rank, x), default=0) if isinstance(x, list) else int(np.ndim(x))

    def join(x: TensorLike, level: int) -> TensorLike:
        if level == 0:
            x = as_operand(x, first)
            return np.reshape(x, (1,) * (ndim - x.ndim) + x.shape)
        return np.concatenate([join(item, level - 1) for item in x], axis=-level)

    def leaves(x: TensorLike) -> list[Any]:
        return [leaf for item in x for leaf in leaves(item)] if isinstance(x, list) else [x]

    first = next((x for x in leaves(arrays) if isinstance(x, Tensor)), None)
    levels = depth(arrays)
    ndim = max(rank(arrays), levels)
    return join(arrays, levels) if levels else as_operand(arrays) * 1


@composition("append")
def append(arr: Any, values: Any, axis: int | None = None) -> TensorLike:
    return np.concatenate(operands(arr, values), axis=axis)


@composition("insert")
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> TensorLike:
    """`values` before the entries `obj` along an axis (of the flattened arr for None)."""
    arr, values = operands(arr, values)
    positions = np.arange(arr.size).reshape(arr.shape)
    new = arr.size + np.arange(values.size).reshape(values.shape)
    index = np.insert(positions, arrays_in(obj), new, axis)
    return np.concatenate([np.ravel(arr), np.ravel(values)])[index]


# -- splitting -------------------------------------------------------------------------------------


@composition("array_split")
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Pieces of nearly the same size, or cut at these positions."""
    axis = axis_from_0(axis, ary.ndim)
    n = ary.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        k = int(indices_or_sections)
        if k <= 0:
            raise ValueError(f"the number of sections must be positive, got {k}")
        small, larger = divmod(n, k)
        cuts = np.cumsum([small + 1] * larger + [small] * (k - larger))[:-1].tolist()
    else:
        cuts = list(arrays_in(indices_or_sections))
    before = (slice(None),) * axis
    return [ary[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def define_split(name: str, least: int, axis_of: Callable[[int], int]) -> None:
    def body(ary: Any, indices_or_sections: Any) -> Sequence[TensorLike]:
        if ary.ndim < least:
            raise ValueError(f"at least {least} axes are needed, got shape {ary.shape}")
        return np.split(ary, indices_or_sections, axis_of(ary.ndim))

    composition(name)(body)


define_split("vsplit", 2, lambda ndim: 0)
define_split("hsplit", 1, lambda ndim: 0 if ndim == 1 else 1)
define_split("dsplit", 3, lambda ndim: 2)


@composition("unstack")
def unstack(x: Array, /, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(np.moveaxis(x, axis, 0))


# -- entries moved by an index ---------------------------------------------------------------------


def define_by_index(*names: str) -> None:
    """Define functions that move entries: NumPy's function, called with the positions, gives the index of the
    result."""
    for name in names:

        def body(a: TensorLike, *args: Any, name: str = name, **kwargs: Any) -> TensorLike:
            a = as_operand(a)
            positions = np.arange(a.size).reshape(a.shape)
            return getitem(np.ravel(a), getattr(np, name)(positions, *arrays_in(args), **arrays_in(kwargs)))

        composition(name)(body)


define_by_index("resize", "delete")


@composition("compress")
def compress(condition: TensorLike, a: TensorLike, axis: int | None = None, out: Any = None) -> TensorLike:
    """The slices of a where the condition holds."""
    refuse_out(out)
    a = np.ravel(as_operand(a)) if axis is None else as_operand(a)
    if np.ndim(arrays_in(condition)) != 1:
        raise ValueError(f"the condition must be a vector, got shape {np.shape(arrays_in(condition))}")
    return np.take(a, np.flatnonzero(np.asarray(arrays_in(condition))), axis=axis or 0)


@composition("extract")
def extract(condition: TensorLike, arr: Any) -> TensorLike:
    return np.ravel(as_operand(arr))[np.flatnonzero(np.asarray(arrays_in(condition)))]


# -- padding ---------------------------------------------------------------------------------------

MOVED = ("edge", "reflect", "symmetric", "wrap")
STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "maximum": np.max,
    "minimum": np.min,
    "median": np.median,
}


@composition("pad")
def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> TensorLike:
    """All modes of NumPy, except "empty" (its entries are undefined) and functions (they write in place)."""
    unknown = kwargs.keys() - {"constant_values", "stat_length", "end_values", "reflect_type"}
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown.pop()!r}")
    x = as_operand(array)
    if isinstance(pad_width, dict):
        widths = [(0, 0)] * x.ndim
        for i, width in pad_width.items():
            widths[i] = (width, width) if isinstance(width, int) else tuple(width)
    else:
        widths = pairs(pad_width, x.ndim)
    if mode == "constant":
        values = kwargs.pop("constant_values", 0.0)
        if not kwargs and np.ndim(arrays_in(values)) == 0 and not hasattr(values, "_data"):
            return moves.pad(x, widths, constant_values=values)
        return axis_by_axis(x, widths, pairs(values, x.ndim), constant_edge)
    if mode in MOVED and kwargs.get("reflect_type", "even") == "even":
        positions = np.arange(x.size).reshape(x.shape)
        return getitem(np.ravel(x), np.pad(positions, widths, mode, **kwargs))
    if mode in ("reflect", "symmetric"):
        return axis_by_axis(x, widths, [(mode, mode)] * x.ndim, odd_edge)
    if mode == "linear_ramp":
        return axis_by_axis(x, widths, pairs(kwargs.get("end_values", 0), x.ndim), ramp_edge)
    if mode in STATISTICS:
        lengths = kwargs.get("stat_length")
        lengths = [(None, None)] * x.ndim if lengths is None else pairs(lengths, x.ndim)
        return axis_by_axis(x, widths, [tuple((mode, n) for n in pair) for pair in lengths], statistic_edge)
    raise ValueError(
        f'mode {mode!r} has no gradient rule: use "constant", "edge", "reflect", "symmetric", "wrap", '
        '"linear_ramp", "mean", "median", "maximum" or "minimum"'
    )


def pairs(values: Any, ndim: int) -> list[tuple[Any, Any]]:
    """((before, after), ...) for each axis, from NumPy's shorter notations."""
    if hasattr(values, "_data"):
        return [(values, values)] * ndim
    return [tuple(pair) for pair in np.broadcast_to(np.asarray(values), (ndim, 2)).tolist()]


def axis_by_axis(x: TensorLike, widths: Any, options: Any, edge: Callable[..., Any]) -> TensorLike:
    """Each axis is padded in turn: `edge(x, axis, n, option)` is put before x, and the edge of the reversed x
    after it."""
    for axis, ((before, after), (first, last)) in enumerate(zip(widths, options, strict=True)):
        front = edge(x, axis, before, first)
        back = np.flip(edge(np.flip(x, axis), axis, after, last), axis)
        x = np.concatenate([front, x, back], axis=axis)
    return x


def slab(x: TensorLike, axis: int, start: int | None, stop: int | None) -> TensorLike:
    return x[(*[slice(None)] * axis, slice(start, stop))]


def shape_with_length(x: TensorLike, axis: int, n: int) -> tuple[int, ...]:
    return (*x.shape[:axis], n, *x.shape[axis + 1 :])


def constant_edge(x: TensorLike, axis: int, n: int, value: Any) -> TensorLike:
    return np.full_like(x, value, shape=shape_with_length(x, axis, n))


def ramp_edge(x: TensorLike, axis: int, n: int, end: Any) -> TensorLike:
    t = np.linspace(0, 1, n, endpoint=False).reshape([n if i == axis else 1 for i in range(x.ndim)])
    return end + (slab(x, axis, 0, 1) - end) * numbers_like(x, t)


def statistic_edge(x: TensorLike, axis: int, n: int, option: Any) -> TensorLike:
    name, length = option
    value = STATISTICS[name](slab(x, axis, 0, length), axis=axis, keepdims=True)
    return np.broadcast_to(value, shape_with_length(x, axis, n))


def odd_edge(x: TensorLike, axis: int, n: int, mode: str) -> TensorLike:
    """2 · edge - the reflection, repeated until there are n entries."""
    skip = 1 if mode == "reflect" else 0
    front, whole = slab(x, axis, 0, 0), x
    while n > 0:
        take = min(n, whole.shape[axis] - skip)
        if take == 0:
            more = np.broadcast_to(slab(whole, axis, 0, 1), shape_with_length(x, axis, n))
            return np.concatenate([more, front], axis=axis)
        mirror = np.flip(slab(whole, axis, skip, skip + take), axis)
        more = 2 * slab(whole, axis, 0, 1) - mirror
        front = np.concatenate([more, front], axis=axis)
        whole = np.concatenate([more, whole], axis=axis)
        n -= take
    return front

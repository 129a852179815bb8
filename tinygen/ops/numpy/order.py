"""Order: sort, partition, median and other quantiles, distinct values.

Sorting moves entries, and the gradient moves them back. A quantile is a point between two sorted entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.ops.compose import (
    arrays_in,
    as_operand,
    axes_of,
    composition,
    constant,
    constants,
    numbers_like,
    refuse_out,
    to_cpu,
)
from tinygen.ops.reduce import keepdims_shape
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Axis, Floats, NumpyArray, TensorLike, ValueAndRules


@show_as("sort")
@op
def put_in_order(x: Array, order: Array, axis: int) -> ValueAndRules:
    """x's entries along an axis in this order, a permutation; back: in the inverse one."""
    order = arrays_in(order)
    y = np.take_along_axis(x, order, axis)
    return y, lambda g: put_in_order(g, np.argsort(order, axis=axis), axis)


@composition("sort")
def sort(
    a: TensorLike, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> TensorLike:
    """Equal entries stay in their order, whatever `kind` says."""
    if order is not None:
        raise TypeError("order= is for fields of structured arrays, which Tensors do not have")
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return put_in_order(a, np.argsort(a, axis=axis, kind="stable"), axis)


@composition("sort_complex")
def sort_complex(a: TensorLike) -> TensorLike:
    """Sorted by the real parts, then the imaginary ones; real numbers become complex."""
    return np.sort(a).astype(np.complex64 if a.dtype.itemsize <= 4 else np.complex128)


@composition("partition")
def partition(
    a: TensorLike, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None
) -> TensorLike:
    """The kth entry is where sorting would put it, with the smaller ones before it and the larger ones after
    it."""
    if order is not None:
        raise TypeError("order= is for fields of structured arrays, which Tensors do not have")
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return put_in_order(a, np.argpartition(a, kth, axis=axis), axis)


# -- quantiles -------------------------------------------------------------------------------------


def places(n: int, q: TensorLike, method: Any) -> NumpyArray:
    """Where in n sorted entries the quantiles q lie: 1.25 is a quarter of the way from the second to the
    third. NumPy says it, for each of its methods, as the quantile of 0, 1, ..., n - 1."""
    return np.quantile(np.arange(n, dtype=float), q, method=method) if n else np.full(np.shape(q), np.nan)


def weighted_places(
    a: TensorLike, q: TensorLike, axis: Any, method: Any, weights: Any, skip_nan: bool
) -> NumpyArray:
    """The same of entries that count by their weights: as the quantiles of the ranks."""
    values = to_cpu(a)
    flat, along = (values.reshape(-1), 0) if axis is None else (values, axis)
    ranks = np.argsort(np.argsort(flat, axis=along), axis=along).reshape(values.shape)
    ranks = np.where(np.isnan(values), np.nan, ranks)
    function: Any = np.nanquantile if skip_nan else np.quantile
    return function(ranks, q, axis=axis, method=method, weights=to_cpu(constant(weights, "weights")))


def quantiles(
    a: TensorLike, q: TensorLike, axis: Axis, method: str, keepdims: bool, skip_nan: bool, weights: Any = None
) -> TensorLike:
    a = as_operand(a)
    a = a.astype(np.float64) if a.dtype.kind in "iub" else a
    q = np.asarray(constant(q, "q"), dtype=float)
    axes = axes_of(axis, a.ndim)
    rest = tuple(n for i, n in enumerate(a.shape) if i not in axes)
    last = np.moveaxis(a, axes, range(len(rest), a.ndim))
    x = np.sort(np.reshape(last, (*rest, int(np.prod([a.shape[i] for i in axes])))), axis=-1)
    if x.shape[-1] == 0:
        return np.full_like(
            x, np.nan, shape=(*q.shape, *(keepdims_shape(a.shape, axis) if keepdims else rest))
        )
    missing = np.isnan(x).sum(axis=-1)  # they are sorted last
    if weights is not None:
        place = weighted_places(a, q, axis, method, weights, skip_nan)
    elif skip_nan:
        counts = x.shape[-1] - to_cpu(missing)
        place = np.zeros((*q.shape, *rest))
        for n in np.unique(counts):
            place[..., counts == n] = np.reshape(places(int(n), q, method), (*q.shape, 1))
    else:
        place = np.broadcast_to(
            np.reshape(places(x.shape[-1], q, method), (*q.shape, *[1] * len(rest))), (*q.shape, *rest)
        )
    below = np.floor(np.nan_to_num(place)).astype(int)
    part = place - below  # nan where there is no number
    above = below + (part > 0)
    index = np.ix_(*(np.arange(n) for n in rest))
    low, high = x[(*index, below)], x[(*index, above)]
    t = numbers_like(x, part)
    y = low * (1 - t) + np.where(t > 0, high, 0) * t  # not low + t (high - low): infinities may be among them
    if not skip_nan:
        y = np.where(missing > 0, np.nan, y)
    return np.reshape(y, (*q.shape, *keepdims_shape(a.shape, axis))) if keepdims else y


def check_q(q: TensorLike, top: float) -> Floats:
    values = np.asarray(constant(q, "q"), dtype=float)
    if not ((values >= 0) & (values <= top)).all():
        raise ValueError(f"q must lie in [0, {top:g}], got {q}")
    return values / top


def define_quantiles(prefix: str, skip_nan: bool) -> None:
    """np.quantile, np.percentile and np.median, or those whose names begin with nan."""

    def refuse_overwriting(out: Any, overwrite_input: bool) -> None:
        refuse_out(out)
        if overwrite_input:
            raise TypeError(
                "overwrite_input=True would write into a, and the graph would be lost: leave it out"
            )

    def of_unit(top: float) -> Callable[..., TensorLike]:
        def body(
            a: TensorLike,
            q: TensorLike,
            axis: Axis = None,
            out: Any = None,
            overwrite_input: bool = False,
            method: str = "linear",
            keepdims: bool = False,
            *,
            weights: Any = None,
        ) -> TensorLike:
            refuse_overwriting(out, overwrite_input)
            return quantiles(a, check_q(q, top), axis, method, keepdims, skip_nan, weights)

        return body

    def median(
        a: TensorLike,
        axis: Axis = None,
        out: Any = None,
        overwrite_input: bool = False,
        keepdims: bool = False,
    ) -> TensorLike:
        refuse_overwriting(out, overwrite_input)
        return quantiles(a, 0.5, axis, "linear", keepdims, skip_nan)

    composition(f"{prefix}quantile")(of_unit(1.0))
    composition(f"{prefix}percentile")(of_unit(100.0))
    composition(f"{prefix}median")(median)


define_quantiles("", skip_nan=False)
define_quantiles("nan", skip_nan=True)


# -- distinct values -------------------------------------------------------------------------------


@composition("unique")
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    **kwargs: Any,
) -> TensorLike:
    """The first entry of each value takes the gradient; indices and counts are constants."""
    _, index, inverse, counts = np.unique(
        arrays_in(ar), return_index=True, return_inverse=True, return_counts=True, axis=axis, **kwargs
    )
    y = np.ravel(ar)[index] if axis is None else np.take(ar, index, axis)
    asked = [(return_index, index), (return_inverse, inverse), (return_counts, counts)]
    extra = [Tensor(value) for wanted, value in asked if wanted]
    return (y, *extra) if extra else y


def unique_results(name: str) -> None:
    """The array API's named tuples: the values have a gradient, indices and counts are constants."""

    def body(x: TensorLike, /) -> tuple[TensorLike, ...]:
        result = getattr(np, name)(arrays_in(x))
        index = np.unique(arrays_in(x), return_index=True, equal_nan=False)[1]
        return constants(result, (x,))._replace(values=np.ravel(x)[index])

    if hasattr(np, name):
        composition(name)(body)


for name in ("unique_all", "unique_counts", "unique_inverse"):
    unique_results(name)


@composition("unique_values")
def unique_values(x: TensorLike, /) -> TensorLike:
    return unique(x, equal_nan=False)


@composition("union1d")
def union1d(ar1: Any, ar2: Any) -> TensorLike:
    return unique(np.concatenate([np.ravel(as_operand(ar1)), np.ravel(as_operand(ar2))]))


@composition("intersect1d")
def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False
) -> TensorLike | tuple[TensorLike, ...]:
    a, b = as_operand(ar1), as_operand(ar2)
    _, i, j = np.intersect1d(to_cpu(a), to_cpu(b), assume_unique, return_indices=True)
    y = np.ravel(a)[i]
    return (y, i, j) if return_indices else y


@composition("setdiff1d")
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> TensorLike:
    a = np.ravel(as_operand(ar1)) if assume_unique else np.unique(ar1)
    return a[np.isin(to_cpu(a), to_cpu(ar2), invert=True)]


@composition("setxor1d")
def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> TensorLike:
    a, b = np.ravel(as_operand(ar1)), np.ravel(as_operand(ar2))
    a, b = (a, b) if assume_unique else (np.unique(a), np.unique(b))
    once = [a[np.isin(to_cpu(a), to_cpu(b), invert=True)], b[np.isin(to_cpu(b), to_cpu(a), invert=True)]]
    return np.sort(np.concatenate(once))


@composition("trim_zeros")
def trim_zeros(filt: Any, trim: str = "fb", axis: Axis = None) -> TensorLike:
    """Without the zeros at the front ("f") and the back ("b") of each axis."""
    there = np.argwhere(arrays_in(filt) != 0)
    low, high = (there.min(axis=0), there.max(axis=0) + 1) if len(there) else (np.zeros(filt.ndim, int),) * 2
    cut = [slice(None)] * filt.ndim
    for i in axes_of(axis, filt.ndim):
        start = int(low[i]) if "f" in trim.lower() else None
        cut[i] = slice(start, int(high[i]) if "b" in trim.lower() or not len(there) else None)
    return filt[tuple(cut)]

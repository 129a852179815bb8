"""Reductions with NumPy's keywords `dtype=`, `initial=` and `where=`, which the ops in
`tinygen/ops/reduce.py` do not have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.ops import reduce
from tinygen.ops.compose import (
    as_operand,
    axes_of,
    composition,
    refuse_out,
)
from tinygen.tensor import IMPLEMENTS, Tensor
from tinygen.types import Axis, DType, TensorLike

__all__ = ["max", "mean", "min", "std", "sum", "var"]

# -- NumPy's keywords ------------------------------------------------------------------------------


def with_keywords(axis_only: Callable[..., Any], full: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """A function that calls the op `axis_only` if only `axis` and `keepdims` are given, and else `full`,
    whose arguments are in NumPy's order. NumPy's functions `names`, and the method, call it for Tensors."""
    full = composition(*names)(full)

    @functools.wraps(axis_only)
    def call(a: TensorLike, axis: Axis = None, *more: Any, keepdims: bool = False, **rest: Any) -> TensorLike:
        if not more and not rest:
            if keepdims:
                return axis_only(a, axis, keepdims=keepdims)
            return axis_only(a) if axis is None else axis_only(a, axis)
        if more and type(more[-1]) is bool and not keepdims:  # the short order: sum(x, axis, keepdims)
            return axis_only(a, axis, *more, **rest)
        return full(a, axis, *more, keepdims=keepdims, **rest) if keepdims else full(a, axis, *more, **rest)

    IMPLEMENTS.update({getattr(np, name): call for name in names})
    return call


def is_given(where: Any) -> bool:
    return where is not True and where is not None


def sum_full(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = 0,
    where: Any = True,
) -> TensorLike:
    refuse_out(out)
    a = a if dtype is None else a.astype(dtype)
    y = reduce.sum(np.where(where, a, 0) if is_given(where) else a, axis, keepdims=bool(keepdims))
    return y if initial is None or (not isinstance(initial, Tensor) and initial == 0) else y + initial


def mean_full(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> TensorLike:
    refuse_out(out)
    a = a if dtype is None else a.astype(dtype)
    if not is_given(where):
        return reduce.mean(a, axis, keepdims=bool(keepdims))
    return sum_full(a, axis, None, None, keepdims, 0, where) / count_where(a, axis, keepdims, where)


def count_where(a: TensorLike, axis: Axis, keepdims: bool, where: Any) -> TensorLike:
    """How many entries `where` leaves, as floating-point numbers."""
    here = np.broadcast_to(as_operand(where), a.shape)
    return np.sum(here, axis=axis, keepdims=bool(keepdims)).astype(a.dtype)


def var_full(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: TensorLike | None = None,
    correction: Any = None,
) -> TensorLike:
    """`mean` may be given, with its axes kept; `correction` is the array API's word for ddof."""
    refuse_out(out)
    a = a if dtype is None else a.astype(dtype)
    ddof = ddof if correction is None else correction
    if not is_given(where) and mean is None:
        return reduce.var(a, axis, ddof=ddof, keepdims=bool(keepdims))
    n = count_where(a, axis, keepdims, where)
    centered = np.where(
        where, a - (mean_full(a, axis, keepdims=True, where=where) if mean is None else mean), 0
    )
    squares = np.real(centered * np.conj(centered)) if a.dtype.kind == "c" else centered * centered
    return sum_full(squares, axis, keepdims=keepdims) / np.real(n - ddof)


def std_full(*args: Any, **kwargs: Any) -> TensorLike:
    return np.sqrt(var_full(*args, **kwargs))


def extreme_full(reduced: Callable[..., Any], pair: np.ufunc) -> Callable[..., Any]:
    def full(
        a: TensorLike,
        axis: Axis = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> TensorLike:
        refuse_out(out)
        if is_given(where):
            if initial is None:
                raise ValueError("where= needs initial=, the value where nothing is left")
            a = np.where(where, a, initial)
        y = reduced(a, axis, keepdims=bool(keepdims)) if 0 not in a.shape or initial is None else None
        if y is None:
            shape = tuple(
                n
                for i, n in enumerate(reduce.keepdims_shape(a.shape, axis))
                if keepdims or i not in axes_of(axis, a.ndim)
            )
            return np.full_like(a, initial, shape=shape)
        return y if initial is None else pair(y, initial)

    return full


sum = with_keywords(reduce.sum, sum_full, "sum")
mean = with_keywords(reduce.mean, mean_full, "mean")
var = with_keywords(reduce.var, var_full, "var")
std = with_keywords(reduce.std, std_full, "std")
max = with_keywords(reduce.max, extreme_full(reduce.max, np.maximum), "max", "amax")
min = with_keywords(reduce.min, extreme_full(reduce.min, np.minimum), "min", "amin")


@composition("ptp")
def ptp(a: TensorLike, axis: Axis = None, out: Any = None, keepdims: bool = False) -> TensorLike:
    """The largest minus the smallest: peak to peak."""
    refuse_out(out)
    return reduce.max(a, axis, keepdims=bool(keepdims)) - reduce.min(a, axis, keepdims=bool(keepdims))

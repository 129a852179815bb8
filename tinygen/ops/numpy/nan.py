"""Reductions that leave nan out: each is the reduction without "nan" in its name, of the other entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.ops.compose import composition
from tinygen.ops.numpy.reduce import is_given
from tinygen.types import Axis, DType, TensorLike


def without_nan(fill: float, function: Callable[..., Any], *names: str) -> None:
    """np.nansum and others: `function` with `fill` in the place of nan."""

    def body(a: TensorLike, *args: Any, **kwargs: Any) -> TensorLike:
        return function(np.where(np.isnan(a), fill, a), *args, **kwargs)

    composition(*names)(body)


without_nan(0.0, np.sum, "nansum")
without_nan(1.0, np.prod, "nanprod")
without_nan(0.0, np.cumsum, "nancumsum")
without_nan(1.0, np.cumprod, "nancumprod")


def extreme_without_nan(fill: float, function: Callable[..., Any], name: str) -> None:
    def body(
        a: TensorLike, axis: Axis = None, out: Any = None, keepdims: bool = False, **rest: Any
    ) -> TensorLike:
        y = function(np.where(np.isnan(a), fill, a), axis=axis, out=out, keepdims=keepdims, **rest)
        return np.where(np.all(np.isnan(a), axis=axis, keepdims=keepdims), math.nan, y)

    composition(name)(body)


extreme_without_nan(-math.inf, np.max, "nanmax")
extreme_without_nan(math.inf, np.min, "nanmin")


def number_mask(a: TensorLike, where: Any) -> TensorLike:
    """The entries that are numbers and where `where` holds."""
    return ~np.isnan(a) if not is_given(where) else np.logical_and(~np.isnan(a), where)


@composition("nanmean")
def nanmean(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> TensorLike:
    return np.mean(a, axis=axis, dtype=dtype, out=out, keepdims=keepdims, where=number_mask(a, where))


@composition("nanvar")
def nanvar(
    a: TensorLike,
    axis: Axis = None,
    dtype: DType = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    **rest: Any,
) -> TensorLike:
    return np.var(
        a, axis=axis, dtype=dtype, out=out, ddof=ddof, keepdims=keepdims, where=number_mask(a, where), **rest
    )


@composition("nanstd")
def nanstd(*args: Any, **kwargs: Any) -> TensorLike:
    return np.sqrt(nanvar(*args, **kwargs))

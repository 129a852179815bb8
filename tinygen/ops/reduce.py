"""Reductions: sums, means, extremes, logsumexp, and the running sum.

`axis` is None (all axes), an int or a tuple; `keepdims` keeps the reduced axes with size 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import axes_of
from tinygen.summation import sum_over
from tinygen.tape import detach, implements, op
from tinygen.tensor import Array
from tinygen.types import Axis, DType, TensorLike, ValueAndRules

__all__ = ["argmax", "argmin", "cumsum", "logsumexp"]


def keepdims_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """`shape` with size 1 at the reduced axes."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries each reduced value is made of."""
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


def at_least_float32(x: Array) -> Array:
    """x, in float32 if it is in float16, whose squares overflow from 256 on."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


@implements(np.sum)
@op
def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> ValueAndRules:
    """The sum over `axis`; its gradient is broadcast back."""
    shape = x.shape
    y = sum_over(x, axis, keepdims)
    return y, lambda g: np.broadcast_to(g.reshape(keepdims_shape(shape, axis)), shape)


@implements(np.mean)
@op
def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> ValueAndRules:
    """The mean over `axis`; each of its n entries gets 1/n of the gradient."""
    shape = x.shape
    n = count(shape, axis)
    y = sum_over(at_least_float32(x), axis, keepdims) / n
    return y, lambda g: np.broadcast_to((g / (n or 1)).reshape(keepdims_shape(shape, axis)), shape)


@implements(np.var)
@op
def var(x: Array, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> ValueAndRules:
    """The mean squared distance from the mean (|x - mean|² for complex numbers); `ddof=1` divides by n - 1,
    the unbiased estimate."""
    x = at_least_float32(x)
    centered = x - sum_over(x, axis, True) / (count(x.shape, axis) or 1)
    n = count(x.shape, axis) - ddof
    if n <= 0:
        raise ValueError(f"var over {n + ddof} entries with ddof={ddof} divides by {n}")
    shape = keepdims_shape(x.shape, axis)
    if x.dtype.kind == "c":
        y = np.real(centered * np.conj(centered)).sum(axis=axis, keepdims=keepdims) / n
        return y, lambda g: (g.reshape(shape) * (2 / n)) * np.conj(centered)
    y = sum_over(centered * centered, axis, keepdims) / n
    return y, lambda g: (g.reshape(shape) * (2 / n)) * centered


@implements(np.std)
def std(x: TensorLike, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The square root of `var`; its gradient is infinite where all entries are equal."""
    return np.sqrt(var(x, axis, ddof, keepdims))


@implements(np.max, np.amax)
@op
def max(x: Array, axis: Axis = None, keepdims: bool = False) -> ValueAndRules:
    """The largest entry; entries that share the maximum share its gradient equally."""
    return share_among_extremes(x, x.max(axis=axis, keepdims=keepdims), axis)


@implements(np.min, np.amin)
@op
def min(x: Array, axis: Axis = None, keepdims: bool = False) -> ValueAndRules:
    """The smallest entry; entries that share the minimum share its gradient equally."""
    return share_among_extremes(x, x.min(axis=axis, keepdims=keepdims), axis)


def share_among_extremes(x: Array, y: Array, axis: Axis) -> Any:
    shape = keepdims_shape(x.shape, axis)
    hit = detach(x) == detach(y).reshape(shape)
    return y, lambda g: g.reshape(shape) * hit / hit.sum(axis=axis, keepdims=True).astype(g.dtype)


@op
def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> ValueAndRules:
    """log Σ exp(x), shifted by the maximum so that nothing overflows; its gradient is softmax(x), which is
    computed from the shifted x too, since x - logsumexp(x) loses its digits to a large common offset."""
    shape = keepdims_shape(x.shape, axis)
    top = detach(x).max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0).astype(x.dtype)
    e = np.exp(x - top)
    total = e.sum(axis=axis, keepdims=True)
    y = np.log(total) + top
    reduced = tuple(n for i, n in enumerate(x.shape) if i not in axes_of(axis, x.ndim))
    p = e / np.where(total == 0, 1.0, total)
    return y if keepdims else y.reshape(reduced), lambda g: g.reshape(shape) * p


@implements(np.cumsum)
@op
def cumsum(x: Array, axis: int | None = None, dtype: DType = None) -> ValueAndRules:
    """The running sum along an axis (of the flattened x for None); back: the running sum from the end."""
    shape = x.shape

    def dx(g: Array) -> Array:
        if axis is None:
            return np.flip(np.cumsum(np.flip(g))).reshape(shape)
        return np.flip(np.cumsum(np.flip(g, axis), axis), axis)

    return np.cumsum(x, axis, dtype=dtype), dx


@implements(np.argmax)
@op
def argmax(x: Array, axis: int | None = None, *, keepdims: bool = False) -> ValueAndRules:
    """Where the largest entry is (the first of equals); no gradient."""
    return (np.argmax(x, axis, keepdims=keepdims),)


@implements(np.argmin)
@op
def argmin(x: Array, axis: int | None = None, *, keepdims: bool = False) -> ValueAndRules:
    """Where the smallest entry is (the first of equals); no gradient."""
    return (np.argmin(x, axis, keepdims=keepdims),)

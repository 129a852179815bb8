"""Differences, integrals, interpolation, convolution, grids; and polynomials by their coefficients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import (
    arrays_in,
    as_operand,
    axes_of,
    composition,
    numbers_like,
    operands,
    to_cpu,
)
from tinygen.ops.index import axis_from_0
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Axis, DType, TensorLike, ValueAndRules


def part(x: TensorLike, axis: int, start: int | None, stop: int | None) -> TensorLike:
    """x[..., start:stop, ...] along an axis."""
    return x[(*[slice(None)] * axis_from_0(axis, x.ndim), slice(start, stop))]


# -- differences -----------------------------------------------------------------------------------


@composition("diff")
def diff(a: TensorLike, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> TensorLike:
    """x[i+1] - x[i], n times; `prepend` and `append` are put around a first."""
    a = as_operand(a)
    if n < 0:
        raise ValueError(f"the order n must be at least 0, got {n}")
    if a.ndim == 0:
        raise ValueError("an array of at least one axis is needed, got shape ()")
    axis = axis_from_0(axis, a.ndim)
    one = tuple(1 if i == axis else size for i, size in enumerate(a.shape))
    around = operands(*(x for x in (prepend, a, append) if x is not None))
    if len(around) > 1:
        a = np.concatenate([np.broadcast_to(x, one) if x.ndim == 0 else x for x in around], axis=axis)
    for _ in range(n):
        late, early = part(a, axis, 1, None), part(a, axis, None, -1)
        a = late != early if a.dtype == bool else late - early
    return a


@composition("ediff1d")
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> TensorLike:
    x = np.ravel(as_operand(ary))
    around = operands(*(y for y in (to_begin, x[1:] - x[:-1], to_end) if y is not None))
    return np.concatenate([np.ravel(y) for y in around])


@composition("gradient")
def gradient(f: TensorLike, *varargs: Any, axis: Axis = None, edge_order: int = 1) -> TensorLike:
    """Central differences inside, one-sided ones at the edges, along each axis or the given ones. `varargs`
    are distances, or the coordinates along each axis."""
    f = as_operand(f)
    axes = axes_of(axis, f.ndim)
    spacing = list(varargs) or [1.0]
    spacing = spacing * len(axes) if len(spacing) == 1 else spacing
    if len(spacing) != len(axes):
        raise TypeError(
            f"one distance for all axes or one for each of {len(axes)} is needed, got {len(varargs)}"
        )
    if edge_order not in (1, 2):
        raise ValueError(f"edge_order must be 1 or 2, got {edge_order}")
    results = [slopes(f, h, i, edge_order) for i, h in zip(axes, spacing, strict=True)]
    return results[0] if len(axes) == 1 else tuple(results)


def slopes(f: TensorLike, h: Any, axis: int, edge_order: int) -> TensorLike:
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError(f"axis {axis} of shape {f.shape} is too short: {edge_order + 1} entries are needed")
    if np.ndim(h) == 0:
        widths = [h] * (n - 1)
        a = b = h
    else:
        steps = np.diff(as_operand(h))
        if len(steps) != n - 1:
            raise ValueError(f"{n} coordinates are needed along axis {axis}, got {len(steps) + 1}")
        shape = [n - 2 if i == axis else 1 for i in range(f.ndim)]
        a, b = np.reshape(steps[:-1], shape), np.reshape(steps[1:], shape)
        widths = list(steps)
    low, middle, high = part(f, axis, None, -2), part(f, axis, 1, -1), part(f, axis, 2, None)
    inner = (a * a * high + (b * b - a * a) * middle - b * b * low) / (a * b * (a + b))
    ends = [edge(f, axis, widths, edge_order), -edge(np.flip(f, axis), axis, widths[::-1], edge_order)]
    return np.concatenate([ends[0], inner, ends[1]], axis=axis)


def edge(f: TensorLike, axis: int, widths: list[Any], order: int) -> TensorLike:
    """The slope at the first entry, by 2 or 3 points."""
    x0, x1 = part(f, axis, 0, 1), part(f, axis, 1, 2)
    if order == 1:
        return (x1 - x0) / widths[0]
    a, b = widths[0], widths[1]
    x2 = part(f, axis, 2, 3)
    return -(2 * a + b) / (a * (a + b)) * x0 + (a + b) / (a * b) * x1 - a / (b * (a + b)) * x2


# -- integrals and interpolation -------------------------------------------------------------------


@composition("trapezoid", "trapz")
def trapezoid(y: TensorLike, x: TensorLike | None = None, dx: Any = 1.0, axis: int = -1) -> TensorLike:
    """The integral by trapezoids: of each two neighbors the mean, times their distance."""
    y = as_operand(y)
    if x is not None:
        x = as_operand(x)
        shape = [-1 if i == axis_from_0(axis, y.ndim) else 1 for i in range(y.ndim)]
        dx = np.reshape(np.diff(x), shape) if x.ndim == 1 else np.diff(x, axis=axis)
    return np.sum(dx * (part(y, axis, 1, None) + part(y, axis, None, -1)) / 2.0, axis=axis)


@composition("interp")
def interp(
    x: TensorLike, xp: TensorLike, fp: TensorLike, left: Any = None, right: Any = None, period: Any = None
) -> TensorLike:
    """The line through the points (xp, fp) at x; beyond them `left` and `right`, or the outermost values."""
    x, xp, fp = operands(x, xp, fp)
    if xp.ndim != 1 or xp.shape != fp.shape or not len(xp):
        raise ValueError(
            f"xp and fp must be vectors of one length, at least 1; got {xp.shape} and {fp.shape}"
        )
    if period is not None:
        left = right = None
        x, xp = np.remainder(x, period), np.remainder(xp, period)
        order = np.argsort(to_cpu(xp), kind="stable")
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    where, knots = to_cpu(x), to_cpu(xp)
    if len(xp) == 1:
        y = fp[0] + 0 * x
    else:
        i = np.clip(np.searchsorted(knots, where, side="right") - 1, 0, len(xp) - 2)
        x0, y0 = xp[i], fp[i]
        y = y0 + (fp[i + 1] - y0) * ((x - x0) / (xp[i + 1] - x0))
    y = np.where(x < xp[0], fp[0] if left is None else left, y)
    return np.where(x > xp[-1], fp[-1] if right is None else right, y)


# -- convolution -----------------------------------------------------------------------------------


@show_as("convolve")
@op
def full_convolution(a: Array, v: Array) -> ValueAndRules:
    """Σ_i a[i] v[k - i], where both overlap at all: n + m - 1 entries. Back: correlations."""
    y = np.convolve(a, v)
    return y, lambda g: np.correlate(g, np.conj(v), "valid"), lambda g: np.correlate(g, np.conj(a), "valid")


@composition("convolve")
def convolve(a: TensorLike, v: TensorLike, mode: Any = "full") -> TensorLike:
    a, v = np.atleast_1d(as_operand(a)), np.atleast_1d(as_operand(v))
    if 0 in (a.size, v.size) or a.ndim > 1 or v.ndim > 1:
        raise ValueError(f"two vectors with entries are needed, got shapes {a.shape} and {v.shape}")
    y, long, short = full_convolution(a, v), max(len(a), len(v)), min(len(a), len(v))
    if mode == "same":
        return y[(short - 1) // 2 : (short - 1) // 2 + long]
    if mode == "valid":
        return y[short - 1 : long]
    if mode != "full":
        raise ValueError(f'mode must be "full", "same" or "valid", got {mode!r}')
    return y


@composition("correlate")
def correlate(a: TensorLike, v: TensorLike, mode: Any = "valid") -> TensorLike:
    """Σ_i a[i + k] conj(v[i]): the convolution with v reversed."""
    a, v = np.atleast_1d(as_operand(a)), np.atleast_1d(as_operand(v))
    if len(a) < len(v):
        return np.flip(np.conj(correlate(v, a, mode)))
    long, short = len(a), len(v)
    v = np.flip(np.conj(v))
    y = np.convolve(a, v)
    if mode == "same":
        return y[(short - 1) // 2 : (short - 1) // 2 + long]
    return y[short - 1 : long] if mode == "valid" else np.convolve(a, v, mode)


# -- grids between Tensors -------------------------------------------------------------------------


@composition("linspace")
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DType = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> TensorLike:
    """`num` equal steps from start to stop."""
    start, stop = np.broadcast_arrays(*operands(start, stop))
    parts = num - 1 if endpoint else num
    x = start if isinstance(start, Tensor) else stop
    t = np.linspace(0, 1, num, endpoint=endpoint).reshape((-1,) + (1,) * x.ndim)
    t = numbers_like(x, t)
    y = start * (1 - t) + stop * t
    y = np.moveaxis(y if dtype is None else y.astype(dtype), 0, axis)
    return (y, (stop - start) / parts if parts else start * math.nan) if retstep else y


@composition("logspace")
def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: DType = None,
    axis: int = 0,
) -> TensorLike:
    """base**start to base**stop, in equal steps of the exponent."""
    start, stop, base = np.broadcast_arrays(*operands(start, stop, base))
    exponents = np.linspace(start, stop, num, endpoint, axis=axis)
    y = np.power(np.expand_dims(base, axis), exponents)
    return y if dtype is None else y.astype(dtype)


@composition("geomspace")
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: DType = None, axis: int = 0
) -> TensorLike:
    """`num` steps from start to stop, each by the same factor."""
    start, stop = np.broadcast_arrays(*operands(start, stop))
    if "c" in (start.dtype.kind, stop.dtype.kind):
        factor = np.log(stop / start)
        y = np.expand_dims(start, axis) * np.exp(np.linspace(0 * factor, factor, num, endpoint, axis=axis))
        return y if dtype is None else np.astype(y, dtype)
    if np.any(arrays_in(start) * arrays_in(stop) <= 0):
        raise ValueError("start and stop must have the same sign, and not be 0")
    sign = np.sign(arrays_in(start))
    y = np.exp(np.linspace(np.log(start * sign), np.log(stop * sign), num, endpoint, axis=axis))
    y = y * np.expand_dims(sign, axis)
    return y if dtype is None else y.astype(dtype)

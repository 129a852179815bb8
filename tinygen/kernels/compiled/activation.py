"""GELU, softmax and log-softmax. GELU's backward computes the derivative from x again: this costs less than
storing it in forward and reading it in backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, inner, inner_sum, number_of_parts, parallel, share
from tinygen.kernels.compiled.math import HALF, ONE, TWO, ZERO, exp, largest_entry, log, normal_cdf, sigmoid
from tinygen.tensor import Array

PEAK = np.float32(1 / math.sqrt(2 * math.pi))  # φ(0)


@parallel
def gelu_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = xs[i] * normal_cdf(xs[i], exp(-HALF * xs[i] * xs[i]))


@parallel
def gelu_slope(part, x, g, d):
    """d = g (Φ(x) + x φ(x))."""
    xs, gs, ds = share(x, part), share(g, part), share(d, part)
    for i in range(xs.size):
        density = exp(-HALF * xs[i] * xs[i])
        ds[i] = gs[i] * (normal_cdf(xs[i], density) + xs[i] * (PEAK * density))


C, CA = np.float32(math.sqrt(2 / math.pi)), np.float32(math.sqrt(2 / math.pi) * 0.044715)
CA3 = np.float32(3) * CA


@parallel
def tanh_gelu_value(part, x, y):
    """x (1 + tanh u)/2 = x σ(2u) with u = √(2/π) (x + 0.044715 x³)."""
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        u = xs[i] * (C + CA * xs[i] * xs[i])
        ys[i] = xs[i] * sigmoid(TWO * u)


@parallel
def tanh_gelu_slope(part, x, g, d):
    """d = g (σ + 2x σ (1 - σ) u')."""
    xs, gs, ds = share(x, part), share(g, part), share(d, part)
    for i in range(xs.size):
        square = xs[i] * xs[i]
        s = sigmoid(TWO * xs[i] * (C + CA * square))
        ds[i] = gs[i] * (s + TWO * xs[i] * s * (ONE - s) * (C + CA3 * square))


def gelu(x: Array, approximate: str = "none") -> Any:
    if approximate not in ("none", "tanh"):
        return NotImplemented
    value, slope = (gelu_value, gelu_slope) if approximate == "none" else (tanh_gelu_value, tanh_gelu_slope)
    flat = as_contiguous(x).reshape(-1)
    y = np.empty_like(flat)
    value(number_of_parts(flat), flat, y)

    def dx(g: Array) -> Array:
        d = np.empty(x.shape, np.float32)
        slope(number_of_parts(flat), flat, as_contiguous(g).reshape(-1), d.reshape(-1))
        return d

    return y.reshape(x.shape), dx


# -- over rows -------------------------------------------------------------------------------------


@inner_sum
def exp_of_difference(row, shift, y):
    """y = exp(row - shift); returns the sum of y."""
    total = ZERO
    for i in range(row.size):
        y[i] = exp(row[i] - shift)
        total += y[i]
    return total


@parallel
def softmax_value(r, x, y):
    row, out = x[r], y[r]
    top = largest_entry(row)
    total = exp_of_difference(row, top if top > -np.inf else ZERO, out)
    weight = ONE / total if total != ZERO else ZERO  # all entries are -inf: no entry is visible
    for i in range(out.size):
        out[i] *= weight


@parallel
def softmax_slope(r, y, g, d):
    p, dp, dx = y[r], g[r], d[r]
    along = ZERO
    for i in range(p.size):
        along += p[i] * dp[i]
    for i in range(p.size):
        dx[i] = p[i] * (dp[i] - along)


@inner
def subtract_both(row, top, rest, y):
    """y = (row - top) - rest, in this order: row - (top + rest) loses digits to a large top."""
    for i in range(row.size):
        y[i] = (row[i] - top) - rest


@parallel
def log_softmax_value(r, x, y):
    row, out = x[r], y[r]
    top = largest_entry(row)
    top = top if top > -np.inf else ZERO
    total = exp_of_difference(row, top, out)
    subtract_both(row, top, log(total) if total != ZERO else ZERO, out)


@parallel
def log_softmax_slope(r, y, g, d):
    logp, dlogp, dx = y[r], g[r], d[r]
    total = ZERO
    for i in range(dlogp.size):
        total += dlogp[i]
    for i in range(dlogp.size):
        dx[i] = dlogp[i] - exp(logp[i]) * total


def apply_to_rows(x: Array, axis: int, value: Any, slope: Any) -> Any:
    if axis not in (-1, x.ndim - 1):
        return NotImplemented
    rows = as_contiguous(x).reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    value(len(rows), rows, y)

    def dx(g: Array) -> Array:
        d = np.empty(x.shape, np.float32)
        slope(len(y), y, as_contiguous(g).reshape(y.shape), d.reshape(y.shape))
        return d

    return y.reshape(x.shape), dx


def softmax(x: Array, axis: int = -1) -> Any:
    return apply_to_rows(x, axis, softmax_value, softmax_slope)


def log_softmax(x: Array, axis: int = -1) -> Any:
    if not np.isfinite(x.max()):
        return NotImplemented  # the definition handles infinities
    return apply_to_rows(x, axis, log_softmax_value, log_softmax_slope)

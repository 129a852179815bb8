"""ReLU, sigmoid, tanh, softplus and SiLU: one pass over the array each way, on all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled import math
from tinygen.kernels.compiled.compile import contiguous, kernel
from tinygen.kernels.compiled.math import ONE, ZERO, exp, log1p
from tinygen.tensor import Array

PART = 2**12  # floats that a thread takes at a time


@kernel
def relu_value(x, y):
    for part in prange((x.size + PART - 1) // PART):
        xs, ys = x[part * PART : (part + 1) * PART], y[part * PART : (part + 1) * PART]
        for i in range(xs.size):
            ys[i] = ZERO if xs[i] <= ZERO else xs[i]  # NaN stays NaN


@kernel
def relu_slope(y, g, d):
    for part in prange((y.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        ys, gs, ds = y[here], g[here], d[here]
        for i in range(ys.size):
            ds[i] = gs[i] if ys[i] > ZERO else ZERO


@kernel
def sigmoid_value(x, y):
    for part in prange((x.size + PART - 1) // PART):
        xs, ys = x[part * PART : (part + 1) * PART], y[part * PART : (part + 1) * PART]
        for i in range(xs.size):
            ys[i] = math.sigmoid(xs[i])


@kernel
def sigmoid_slope(y, g, d):
    for part in prange((y.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        ys, gs, ds = y[here], g[here], d[here]
        for i in range(ys.size):
            ds[i] = gs[i] * ys[i] * (ONE - ys[i])


@kernel
def tanh_value(x, y):
    for part in prange((x.size + PART - 1) // PART):
        xs, ys = x[part * PART : (part + 1) * PART], y[part * PART : (part + 1) * PART]
        for i in range(xs.size):
            ys[i] = math.tanh(xs[i])


@kernel
def tanh_slope(y, g, d):
    for part in prange((y.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        ys, gs, ds = y[here], g[here], d[here]
        for i in range(ys.size):
            ds[i] = gs[i] * (ONE - ys[i] * ys[i])


@kernel
def softplus_value(x, y):
    for part in prange((x.size + PART - 1) // PART):
        xs, ys = x[part * PART : (part + 1) * PART], y[part * PART : (part + 1) * PART]
        for i in range(xs.size):
            ys[i] = (ZERO if xs[i] < ZERO else xs[i]) + log1p(exp(-abs(xs[i])))


@kernel
def softplus_slope(x, g, d):
    for part in prange((x.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        xs, gs, ds = x[here], g[here], d[here]
        for i in range(xs.size):
            ds[i] = gs[i] * math.sigmoid(xs[i])


@kernel
def silu_value(x, y):
    for part in prange((x.size + PART - 1) // PART):
        xs, ys = x[part * PART : (part + 1) * PART], y[part * PART : (part + 1) * PART]
        for i in range(xs.size):
            ys[i] = xs[i] * math.sigmoid(xs[i])


@kernel
def silu_slope(x, g, d):
    for part in prange((x.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        xs, gs, ds = x[here], g[here], d[here]
        for i in range(xs.size):
            s = math.sigmoid(xs[i])
            ds[i] = gs[i] * (s * (ONE + xs[i] * (ONE - s)))


def entrywise(x: Array, value: Callable[..., None], slope: Callable[..., None], of_x: bool = False) -> Any:
    """The value, and the rule with the slope, which is a function of x or of the value."""
    flat = contiguous(x).reshape(-1)
    y = np.empty_like(flat)
    value(flat, y)
    kept = flat if of_x else y

    def dx(g: Array) -> Array:
        d = np.empty_like(kept)
        slope(kept, contiguous(g).reshape(-1), d)
        return d.reshape(x.shape)

    return y.reshape(x.shape), dx


def relu(x: Array) -> Any:
    return entrywise(x, relu_value, relu_slope)


def sigmoid(x: Array) -> Any:
    return entrywise(x, sigmoid_value, sigmoid_slope)


def tanh(x: Array) -> Any:
    return entrywise(x, tanh_value, tanh_slope)


def softplus(x: Array) -> Any:
    return entrywise(x, softplus_value, softplus_slope, of_x=True)


def silu(x: Array) -> Any:
    return entrywise(x, silu_value, silu_slope, of_x=True)

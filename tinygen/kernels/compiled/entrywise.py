"""ReLU, leaky ReLU, sigmoid, tanh, softplus and SiLU: one pass over the array each way, on all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.kernels.compiled import math
from tinygen.kernels.compiled.compile import as_contiguous, number_of_parts, parallel, share
from tinygen.kernels.compiled.math import ONE, ZERO, exp, log1p
from tinygen.tensor import Array


@parallel
def relu_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = ZERO if xs[i] <= ZERO else xs[i]  # NaN stays NaN


@parallel
def relu_slope(part, y, g, d):
    ys, gs, ds = share(y, part), share(g, part), share(d, part)
    for i in range(ys.size):
        ds[i] = gs[i] if ys[i] > ZERO else ZERO


@parallel
def leaky_relu_value(part, x, steepness, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = xs[i] if xs[i] > ZERO else steepness * xs[i]


@parallel
def leaky_relu_slope(part, x, g, steepness, d):
    xs, gs, ds = share(x, part), share(g, part), share(d, part)
    for i in range(xs.size):
        ds[i] = gs[i] if xs[i] > ZERO else steepness * gs[i]


@parallel
def sigmoid_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = math.sigmoid(xs[i])


@parallel
def sigmoid_slope(part, y, g, d):
    ys, gs, ds = share(y, part), share(g, part), share(d, part)
    for i in range(ys.size):
        ds[i] = gs[i] * ys[i] * (ONE - ys[i])


@parallel
def tanh_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = math.tanh(xs[i])


@parallel
def tanh_slope(part, y, g, d):
    ys, gs, ds = share(y, part), share(g, part), share(d, part)
    for i in range(ys.size):
        ds[i] = gs[i] * (ONE - ys[i] * ys[i])


@parallel
def softplus_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = (ZERO if xs[i] < ZERO else xs[i]) + log1p(exp(-abs(xs[i])))


@parallel
def softplus_slope(part, x, g, d):
    xs, gs, ds = share(x, part), share(g, part), share(d, part)
    for i in range(xs.size):
        ds[i] = gs[i] * math.sigmoid(xs[i])


@parallel
def silu_value(part, x, y):
    xs, ys = share(x, part), share(y, part)
    for i in range(xs.size):
        ys[i] = xs[i] * math.sigmoid(xs[i])


@parallel
def silu_slope(part, x, g, d):
    xs, gs, ds = share(x, part), share(g, part), share(d, part)
    for i in range(xs.size):
        s = math.sigmoid(xs[i])
        ds[i] = gs[i] * (s * (ONE + xs[i] * (ONE - s)))


def apply_entrywise(
    x: Array, value: Callable[..., None], slope: Callable[..., None], of_x: bool = False
) -> Any:
    """The value, and the rule with the slope, which is a function of x or of the value."""
    flat = as_contiguous(x).reshape(-1)
    y = np.empty_like(flat)
    value(number_of_parts(flat), flat, y)
    kept = flat if of_x else y

    def dx(g: Array) -> Array:
        d = np.empty(x.shape, np.float32)  # and no view, which would be copied into the .grad of a leaf
        slope(number_of_parts(flat), kept, as_contiguous(g).reshape(-1), d.reshape(-1))
        return d

    return y.reshape(x.shape), dx


def relu(x: Array) -> Any:
    return apply_entrywise(x, relu_value, relu_slope)


def leaky_relu(x: Array, slope: float = 0.01) -> Any:
    flat, steepness = as_contiguous(x).reshape(-1), np.float32(slope)
    y = np.empty_like(flat)
    leaky_relu_value(number_of_parts(flat), flat, steepness, y)

    def dx(g: Array) -> Array:
        d = np.empty(x.shape, np.float32)
        leaky_relu_slope(number_of_parts(flat), flat, as_contiguous(g).reshape(-1), steepness, d.reshape(-1))
        return d

    return y.reshape(x.shape), dx


def sigmoid(x: Array) -> Any:
    return apply_entrywise(x, sigmoid_value, sigmoid_slope)


def tanh(x: Array) -> Any:
    return apply_entrywise(x, tanh_value, tanh_slope)


def softplus(x: Array) -> Any:
    return apply_entrywise(x, softplus_value, softplus_slope, of_x=True)


def silu(x: Array) -> Any:
    return apply_entrywise(x, silu_value, silu_slope, of_x=True)

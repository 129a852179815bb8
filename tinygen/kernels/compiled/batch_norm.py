"""Batch norm: one thread computes a channel of all images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.compiled.math import ONE, ZERO
from tinygen.kernels.registry import are_float32
from tinygen.rows import ROWS
from tinygen.tensor import Array


@parallel
def value(c, x, weight, bias, eps, mean, inv, y):
    """y = (x - mean) inv · weight + bias for x (N, C, positions). An image is summed in float32, all images
    in float64."""
    images, _, size = x.shape
    total, square = np.float64(0), np.float64(0)
    for n in range(images):
        row, one = x[n, c], ZERO
        for i in range(size):
            one += row[i]
        total += one
    m = np.float32(total / (images * size))
    for n in range(images):
        row, one = x[n, c], ZERO
        for i in range(size):
            one += (row[i] - m) * (row[i] - m)
        square += one
    s = ONE / np.sqrt(np.float32(square / (images * size)) + eps)
    mean[c], inv[c] = m, s
    scale, shift = s * weight[c], bias[c]
    for n in range(images):
        row, line = x[n, c], y[n, c]
        for i in range(size):
            line[i] = (row[i] - m) * scale + shift


@parallel
def slopes(c, x, weight, mean, inv, g, dx, dweight, dbias):
    """dx, dweight and dbias."""
    images, _, size = x.shape
    m, s = mean[c], inv[c]
    plain, product = np.float64(0), np.float64(0)  # the sums of g and of g · (x - mean)
    for n in range(images):
        row, gs, one, two = x[n, c], g[n, c], ZERO, ZERO
        for i in range(size):
            one += gs[i]
            two += gs[i] * (row[i] - m)
        plain, product = plain + one, product + two
    dbias[c], dweight[c] = np.float32(plain), np.float32(product) * s
    scale, over = s * weight[c], ONE / np.float32(images * size)
    level, along = dbias[c] * over, dweight[c] * over * s
    for n in range(images):
        row, gs, line = x[n, c], g[n, c], dx[n, c]
        for i in range(size):
            line[i] = scale * (gs[i] - level - (row[i] - m) * along)


def batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Any:
    if ROWS.get() is not None:
        return NotImplemented  # the statistics are of the rows of all processes
    if not are_float32(weight, bias) or not x.size or x.ndim == 2:
        return NotImplemented  # without positions, a channel's entries are far apart: NumPy adds whole rows
    shape, channels = x.shape, x.shape[1]
    rows = as_contiguous(x).reshape(len(x), channels, math.prod(shape[2:]))
    weight, bias = (as_contiguous(p) for p in (weight, bias))
    y, (mean, inv) = np.empty(shape, np.float32), np.empty((2, channels), np.float32)
    value(channels, rows, weight, bias, np.float32(eps), mean, inv, y.reshape(rows.shape))

    def backward(g: Array) -> tuple[Array, ...]:
        g = as_contiguous(g).reshape(rows.shape)
        dx, (dweight, dbias) = np.empty(shape, np.float32), np.empty((2, channels), np.float32)
        slopes(channels, rows, weight, mean, inv, g, dx.reshape(rows.shape), dweight, dbias)
        return dx, dweight, dbias

    return y, backward

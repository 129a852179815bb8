"""Group norm: each group of channels of an image is one row, and one thread computes a whole row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.compiled.math import ONE, ZERO
from tinygen.kernels.registry import are_float32
from tinygen.summation import sum_over
from tinygen.tensor import Array


@parallel
def value(r, x, weight, bias, eps, mean, inv, y):
    """y = (x - mean) inv · weight + bias for x (N · groups, channels, positions), weight and bias (C)."""
    _, channels, size = x.shape
    over, groups = ONE / np.float32(channels * size), len(weight) // channels
    row, out, first = x[r].reshape(-1), y[r], r % groups * channels
    total, square = ZERO, ZERO
    for i in range(row.size):
        total += row[i]
    m = total * over
    for i in range(row.size):
        square += (row[i] - m) * (row[i] - m)
    s = ONE / np.sqrt(square * over + eps)
    mean[r], inv[r] = m, s
    for c in range(channels):
        values, line, scale, shift = x[r, c], out[c], s * weight[first + c], bias[first + c]
        for i in range(line.size):
            line[i] = (values[i] - m) * scale + shift


@parallel
def slopes(r, x, weight, mean, inv, g, dx, dweight, dbias):
    """dx, and for each image the gradients dweight and dbias (N · groups, channels)."""
    _, channels, size = x.shape
    over, groups = ONE / np.float32(channels * size), len(weight) // channels
    m, s, first = mean[r], inv[r], r % groups * channels
    total, along = ZERO, ZERO  # the sums of weight · g and of weight · g · x̂
    for c in range(channels):
        values, gs, plain, product = x[r, c], g[r, c], ZERO, ZERO
        for i in range(gs.size):
            plain += gs[i]
            product += gs[i] * (values[i] - m)
        dbias[r, c], dweight[r, c] = plain, product * s
        total += weight[first + c] * plain
        along += weight[first + c] * product * s
    total, along = total * over * s, along * over * s * s
    for c in range(channels):
        values, gs, line, scale = x[r, c], g[r, c], dx[r, c], s * weight[first + c]
        for i in range(line.size):
            line[i] = gs[i] * scale - total - (values[i] - m) * along


def group_norm(x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5) -> Any:
    n, channels = x.shape[:2]
    if not are_float32(weight, bias) or channels % groups:
        return NotImplemented
    shape, per = x.shape, channels // groups
    rows = as_contiguous(x).reshape(n * groups, per, math.prod(shape[2:]))
    weight, bias = (as_contiguous(p) for p in (weight, bias))
    y, (mean, inv) = np.empty(shape, np.float32), np.empty((2, n * groups), np.float32)
    value(len(rows), rows, weight, bias, np.float32(eps), mean, inv, y.reshape(rows.shape))

    def backward(g: Array) -> tuple[Array | None, ...]:
        g = as_contiguous(g).reshape(rows.shape)
        dx, (dweight, dbias) = np.empty(shape, np.float32), np.empty((2, n * groups, per), np.float32)
        slopes(len(rows), rows, weight, mean, inv, g, dx.reshape(rows.shape), dweight, dbias)
        dweight, dbias = (sum_over(d.reshape(n, channels), 0) for d in (dweight, dbias))
        return dx, None, dweight, dbias

    return y, backward

"""Layer norm and RMS norm. Forward stores two numbers per row; backward reads x again."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import PARTS, as_contiguous, parallel
from tinygen.kernels.compiled.math import ONE, SOME, ZERO, flush
from tinygen.kernels.registry import are_float32
from tinygen.tensor import Array

F = np.float32


@parallel
def value(r, x, weight, bias, eps, centered, mean, inv, y):
    """y = (x - mean) inv · weight + bias; an RMS norm is not centered, and its mean stays 0."""
    row, out = x[r], y[r]
    over = ONE / F(row.size)
    total = ZERO
    if centered:
        for i in range(row.size):
            total += row[i]
    m = total * over
    square = ZERO
    for i in range(row.size):
        square += (row[i] - m) * (row[i] - m)
    s = ONE / np.sqrt(square * over + eps)
    mean[r], inv[r] = m, s
    for i in range(row.size):
        out[i] = (row[i] - m) * s * weight[i] + bias[i]


@parallel
def slopes(part, x, weight, centered, mean, inv, g, dx, blocks, sums):
    """The gradient of x; and for each part, the sums of its rows for the gradients of weight and bias: sums
    (parts, 2, C)."""
    over = ONE / F(x.shape[1])
    dw, db = blocks[part, 0], blocks[part, 1]
    size = (x.shape[0] + len(sums) - 1) // len(sums)
    for r in range(part * size, min((part + 1) * size, x.shape[0])):
        row, gs, d = x[r], g[r], dx[r]
        m, s = mean[r], inv[r]
        total, along = ZERO, ZERO
        for i in range(row.size):
            xhat, gw = (row[i] - m) * s, gs[i] * weight[i]
            total += gw
            along += gw * xhat
            dw[i] += gs[i] * xhat
            db[i] += gs[i]
        total = total * over if centered else ZERO
        along *= over
        for i in range(row.size):
            d[i] = s * (gs[i] * weight[i] - total - (row[i] - m) * s * along)
        if r % SOME == 0:
            flush(dw, sums[part, 0])
            flush(db, sums[part, 1])
    flush(dw, sums[part, 0])
    flush(db, sums[part, 1])


def normalize(x: Array, weight: Array, bias: Array | None, eps: float, centered: bool) -> Any:
    channels = x.shape[-1]
    if not are_float32(weight, bias) or not x.size:
        return NotImplemented
    rows, weight = as_contiguous(x).reshape(-1, channels), as_contiguous(weight)
    shift = np.zeros(channels, np.float32) if bias is None else as_contiguous(bias)
    y, mean, inv = np.empty_like(rows), *np.empty((2, len(rows)), np.float32)
    value(len(rows), rows, weight, shift, np.float32(eps), centered, mean, inv, y)

    def backward(g: Array) -> tuple[Array, ...]:
        g = as_contiguous(g).reshape(rows.shape)
        dx, sums = np.empty(x.shape, np.float32), np.zeros((PARTS, 2, channels))
        into = dx.reshape(rows.shape)
        slopes(PARTS, rows, weight, centered, mean, inv, g, into, np.zeros(sums.shape, F), sums)
        return dx, *sums.sum(axis=0).astype(F)

    return y.reshape(x.shape), backward


def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    return normalize(x, weight, bias, eps, True)


def rms_norm(x: Array, weight: Array, eps: float = 1e-6) -> Any:
    return normalize(x, weight, None, eps, False)

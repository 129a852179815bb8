"""Layer norm and RMS norm. Kept are x, which is there anyway, and two numbers a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled.compile import PARTS, contiguous, kernel
from tinygen.kernels.compiled.math import ONE, ZERO
from tinygen.kernels.registry import float32
from tinygen.tensor import Array

F = np.float32


@kernel
def value(x, weight, bias, eps, centered, mean, inv, y):
    """y = (x - mean) inv · weight + bias; an RMS norm is not centered, and its mean stays 0."""
    over = ONE / np.float32(x.shape[1])
    for r in prange(x.shape[0]):
        row, out = x[r], y[r]
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


@kernel
def slopes(x, weight, centered, mean, inv, g, dx, dweight, dbias, parts):
    """All gradients. Those of weight and bias are summed up from the parts that the rows are cut into."""
    over = ONE / np.float32(x.shape[1])
    dweights, dbiases = np.zeros((parts, x.shape[1]), F), np.zeros((parts, x.shape[1]), F)
    size = (x.shape[0] + parts - 1) // parts
    for part in prange(parts):
        dw, db = dweights[part], dbiases[part]
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
    for part in range(parts):
        dw, db = dweights[part], dbiases[part]
        for i in range(dw.size):
            dweight[i] += dw[i]
            dbias[i] += db[i]


def normalized(x: Array, weight: Array, bias: Array | None, eps: float, centered: bool) -> Any:
    channels = x.shape[-1]
    if not float32(weight, bias) or not x.size:
        return NotImplemented
    rows, weight = contiguous(x).reshape(-1, channels), contiguous(weight)
    shift = np.zeros(channels, np.float32) if bias is None else contiguous(bias)
    y, mean, inv = np.empty_like(rows), *np.empty((2, len(rows)), np.float32)
    value(rows, weight, shift, np.float32(eps), centered, mean, inv, y)

    def backward(g: Array) -> tuple[Array, ...]:
        g = contiguous(g).reshape(rows.shape)
        dx, dweight, dbias = np.empty_like(rows), np.zeros_like(weight), np.zeros_like(weight)
        slopes(rows, weight, centered, mean, inv, g, dx, dweight, dbias, PARTS)
        return dx.reshape(x.shape), dweight, dbias

    return y.reshape(x.shape), backward


def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    return normalized(x, weight, bias, eps, True)


def rms_norm(x: Array, weight: Array, eps: float = 1e-6) -> Any:
    return normalized(x, weight, None, eps, False)

"""Layer norm in blocks of rows that fit into the cache; steps are in place, sums are matrix products
(BLAS)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import are_float32, kernels
from tinygen.tensor import Array

BLOCK = 2**17  # floats: 512 kB, of a second-level cache


@kernels.register(ops.layer_norm)
def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    if not are_float32(weight, bias):
        return NotImplemented
    channels = x.shape[-1]
    rows = x.reshape(-1, channels)  # (N, C)
    over = np.float32(1 / channels)
    average = np.empty(channels, np.float32)
    average.fill(over)
    y, xhat, inv = np.empty_like(rows), np.empty_like(rows), np.empty((len(rows), 1), np.float32)
    size = max(BLOCK // channels, 1)
    blocks = [slice(start, start + size) for start in range(0, len(rows), size)]
    for block in blocks:
        part, out, scale = rows[block], y[block], inv[block]
        hat = np.subtract(part, (part @ average)[:, None], out=xhat[block])
        np.vecdot(hat, hat, out=scale[:, 0])
        scale *= over
        scale += np.float32(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        hat *= scale
        np.multiply(hat, weight, out=out)
        if bias is not None:
            out += bias

    def backward(g: Array) -> tuple[Array, ...]:
        g, ones = g.reshape(-1, channels), np.ones(size, np.float32)
        dx, dweight, dbias = np.empty_like(rows), np.zeros_like(weight), np.zeros_like(weight)
        for block in blocks:
            part, hat, scale = g[block], xhat[block], inv[block]
            dbias += ones[: len(part)] @ part
            dweight += np.einsum("nc,nc->c", part, hat)
            d = np.multiply(part, weight, out=dx[block])
            along = np.vecdot(d, hat)
            along *= over
            d -= (d @ average)[:, None]
            d -= hat * along[:, None]
            d *= scale
        return dx.reshape(x.shape), dweight, dbias

    return y.reshape(x.shape), backward

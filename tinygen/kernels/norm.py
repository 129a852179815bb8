"""Layer norm with its temporaries reused in place, and the sums over rows as products with ones (BLAS)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import float32, kernels
from tinygen.tensor import Array


@kernels.register(ops.layer_norm)
def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    if not float32(weight, bias):
        return NotImplemented
    channels = x.shape[-1]
    rows = x.reshape(-1, channels)  # (N, C)
    average = np.full(channels, 1 / channels, np.float32)
    xhat = rows - (rows @ average)[:, None]
    inv = np.einsum("nc,nc->n", xhat, xhat)
    inv *= np.float32(1 / channels)
    inv += np.float32(eps)
    np.sqrt(inv, out=inv)
    np.reciprocal(inv, out=inv)
    xhat *= inv[:, None]
    y = xhat * weight
    if bias is not None:
        y += bias

    def dx(g: Array) -> Array:
        d = g.reshape(-1, channels) * weight
        along = np.einsum("nc,nc->n", d, xhat)
        along *= np.float32(1 / channels)
        d -= (d @ average)[:, None]
        d -= xhat * along[:, None]
        d *= inv[:, None]
        return d.reshape(x.shape)

    def dweight(g: Array) -> Array:
        return np.einsum("nc,nc->c", g.reshape(-1, channels), xhat)

    def dbias(g: Array) -> Array:
        return np.ones(len(rows), np.float32) @ g.reshape(-1, channels)

    return y.reshape(x.shape), dx, dweight, dbias

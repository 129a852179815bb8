"""Attention, its softmax in place on the scores: one (T, S) array per head is kept, none is copied."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import float32, kernels
from tinygen.ops.activation import kept_mask
from tinygen.tensor import Array


@kernels.register(ops.attention)
def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    if not float32(k, v) or mask is not None or not k.size or (causal and q.shape[-2] > k.shape[-2]):
        return NotImplemented  # with a mask, a row may have nothing to look at: the definition sees to it
    scale = np.float32(1 / math.sqrt(q.shape[-1]))
    p = (q * scale) @ k.swapaxes(-1, -2)  # (..., T, S)
    t, s = p.shape[-2:]
    if causal and t > 1:
        p += np.triu(np.full((t, s), -np.inf, np.float32), s - t + 1)
    p -= p.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    keep = kept_mask(p.shape, dropout, seed, p.dtype) if dropout else None
    dropped = p if keep is None else p * keep

    def backward(g: Array) -> tuple[Array | None, ...]:
        dv = dropped.swapaxes(-1, -2) @ g
        d = g @ v.swapaxes(-1, -2)
        if keep is not None:
            d *= keep
        d *= p
        d -= p * d.sum(axis=-1, keepdims=True)
        d *= scale
        return d @ k, d.swapaxes(-1, -2) @ q, dv, None

    return dropped @ v, backward

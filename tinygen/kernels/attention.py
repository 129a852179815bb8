"""Attention in blocks of queries: a causal one looks at no key beyond its last query, and the softmax is in
place on the scores.

The blocks are so small that OpenBLAS does each product on one thread. With more, these many little products
wait longer for one another than they work: at 128 positions and two threads, three times as long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import float32, kernels
from tinygen.ops.activation import kept_mask
from tinygen.tensor import Array

ONE_THREAD = 2**18  # multiplications in a product, up to which OpenBLAS does not share it out


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
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return NotImplemented
    scale = np.float32(1 / math.sqrt(q.shape[-1]))
    (t, d), s = q.shape[-2:], k.shape[-2]
    y = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]), order="C")
    keep = kept_mask((*q.shape[:-1], s), dropout, seed, np.float32) if dropout else None
    rows = min(max(ONE_THREAD // (s * max(d, v.shape[-1])), 8), 64)
    above = np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
    kt, vt = (np.ascontiguousarray(x.swapaxes(-1, -2)) for x in (k, v))  # OpenBLAS is slower the other way
    blocks = []
    for start in range(0, t, rows):
        stop = min(start + rows, t)
        seen = s - t + stop if causal else s
        p = (q[..., start:stop, :] * scale) @ kt[..., :seen]  # (..., block, seen)
        if causal:
            p[..., seen - (stop - start) :] += above[: stop - start, : stop - start]
        p -= p.max(axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=-1, keepdims=True)
        dropped = p if keep is None else p * keep[..., start:stop, :seen]
        y[..., start:stop, :] = dropped @ v[..., :seen, :]
        blocks.append((start, stop, seen, p, dropped))

    def backward(g: Array) -> tuple[Array | None, ...]:
        dq, dk, dv = np.empty_like(q, order="C"), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for start, stop, seen, p, dropped in blocks:
            g_block = g[..., start:stop, :]
            dv[..., :seen, :] += dropped.swapaxes(-1, -2) @ g_block
            dp = g_block @ vt[..., :seen]
            if keep is not None:
                dp *= keep[..., start:stop, :seen]
            dp *= p
            dp -= p * dp.sum(axis=-1, keepdims=True)
            dp *= scale
            dq[..., start:stop, :] = dp @ k[..., :seen, :]
            dk[..., :seen, :] += dp.swapaxes(-1, -2) @ q[..., start:stop, :]
        return dq, dk, dv, None

    return y, backward

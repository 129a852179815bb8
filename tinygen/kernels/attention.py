"""Attention in blocks that stay in the cache: some of the batch, some queries, and of a causal one no key
beyond the last of these queries.

What is as large as the scores (T × S) is gone through as seldom as can be. E = exp(scores) is kept as it is:
y = (E v) / Σ E divides T × d numbers, and backward needs of the softmax only <g, y>, a number a row:
dscores = E (g / Σ E · vᵀ - <g / Σ E, y>).

The products are so small that OpenBLAS does each on one thread. With more, these many little products
wait longer for one another than they work: at 128 positions and two threads, three times as long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import float32, kernels
from tinygen.ops.random import dropout_mask
from tinygen.tensor import Array

ONE_THREAD = 2**18  # multiplications in a product, up to which OpenBLAS does not share it out
CACHED = 2**16  # scores in a block
FEW = 8  # queries, up to which k and v stay as they lie in memory
SAFE = 32.0  # scores up to which exp can be taken without subtracting the largest first


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
    shapes = q.shape, k.shape, v.shape
    keep = in_heads(dropout_mask(q, (*q.shape[:-1], k.shape[-2]), dropout, seed)) if dropout else None
    q, k, v = in_heads(q), in_heads(k), in_heads(v)
    (b, h, t, d), s, e = q.shape, k.shape[2], v.shape[3]
    scale = np.float32(1 / math.sqrt(d))
    rows = min(max(ONE_THREAD // (s * max(d, e)), 8), 32)
    some = max(CACHED // (h * rows * s), 1)
    parts = [slice(first, first + some) for first in range(0, b, some)]
    blocks = [slice(start, min(start + rows, t)) for start in range(0, t, rows)]
    above = np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
    ones = np.ones((s, 1), np.float32)

    def seen(block: slice) -> int:
        return int(s - t + block.stop if causal else s)

    y, total, exps = beside(q, e), np.empty((b, h, t, 1), np.float32), []
    for part in parts:
        kt = scaled_and_turned(k[part], scale, t)
        for block in blocks:
            n, mine = seen(block), (part, slice(None), block)
            p = q[mine] @ kt[..., :n]  # (some, h, rows, n)
            safe = max(p.max(), -p.min()) < SAFE
            if causal:
                m = block.stop - block.start
                p[..., n - m :] += above[:m, :m]
            if not safe:
                p -= p.max(axis=-1, keepdims=True)
            np.exp(p, out=p)
            np.matmul(p, ones[:n], out=total[mine])
            np.reciprocal(total[mine], out=total[mine])
            dropped = p if keep is None else p * keep[mine][..., :n]
            np.matmul(dropped, v[part, :, :n], out=y[mine])
            y[mine] *= total[mine]
            exps.append(p)

    def backward(g: Array) -> tuple[Array | None, ...]:
        g, saved = in_heads(g), iter(exps[::-1])
        dq, dk, dv = all_beside(q, k, v)
        for part in parts[::-1]:
            vt = scaled_and_turned(v[part], scale, t)
            gs = g[part] * total[part]
            along = np.einsum("bhte,bhte->bht", gs, y[part])[..., None]
            along *= scale
            for block in blocks[::-1]:
                n, mine, g_block = seen(block), (part, slice(None), block), gs[:, :, block]
                p = dropped = next(saved)
                dp = g_block @ vt[..., :n]
                if keep is not None:
                    dropped = p * keep[mine][..., :n]
                    dp *= keep[mine][..., :n]
                dp -= along[:, :, block]
                dp *= p
                np.matmul(dp, k[part, :, :n], out=dq[mine])
                dk_block, dv_block = dp.swapaxes(2, 3) @ q[mine], dropped.swapaxes(2, 3) @ g_block
                if block is blocks[-1]:  # it sees all keys
                    dk_part, dv_part = dk_block, dv_block
                else:
                    dk_part[:, :, :n] += dk_block
                    dv_part[:, :, :n] += dv_block
            dk[part], dv[part] = dk_part, dv_part
        return *(x.reshape(shape) for x, shape in zip((dq, dk, dv), shapes, strict=True)), None

    return y.reshape(*shapes[0][:-1], e), backward


def in_heads(x: Array) -> Array:
    """x (..., T, d) as (B, H, T, d)."""
    return x.reshape(math.prod(x.shape[:-3]), *(1, *x.shape)[-3:])


def scaled_and_turned(x: Array, scale: np.float32, queries: int) -> Array:
    """scale · xᵀ, in memory too unless the queries are few: OpenBLAS is slower across the rows of x, but
    turning them takes longer still."""
    xt = x.swapaxes(2, 3)
    return np.multiply(xt, scale, order="C") if queries >= FEW else xt * scale


def beside(x: Array, width: int) -> Array:
    """An empty (B, H, T, width) where the heads of a position are side by side."""
    b, h, t, _ = x.shape
    return np.empty((b, t, h, width), np.float32).transpose(0, 2, 1, 3)


def all_beside(q: Array, k: Array, v: Array) -> Any:
    """Empty arrays like these; if they are of one shape, side by side in one, as they came out of one
    projection, so that the gradient of that is there with theirs (`kernels/shape.py`)."""
    if not q.shape == k.shape == v.shape:
        return [beside(x, x.shape[-1]) for x in (q, k, v)]
    b, h, t, d = q.shape
    return np.empty((b, t, 3, h, d), np.float32).transpose(2, 0, 3, 1, 4)

"""Attention in blocks that fit into the cache: a part of the batch and a few queries at a time; with a causal
mask, a block reads no key beyond its last query.

Arrays of the size of the scores (T × S) are read and written as rarely as possible. The block stores
E = exp(scores) without dividing it: y = (E v) / Σ E divides only T × d numbers. Backward needs only one
number per row, <g, y>: dscores = E (g / Σ E · vᵀ - <g / Σ E, y>).

The products are small enough for OpenBLAS to run each on one thread. With several threads, the threads would
wait for each other longer than they compute: at 128 positions and two threads, three times as long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import are_float32, kernels
from tinygen.ops.random import dropout_mask
from tinygen.tensor import Array

ONE_THREAD = 2**18  # OpenBLAS runs a product of at most this many multiplications on one thread
CACHED = 2**16  # scores in a block
FEW = 8  # with at most this many queries, transposing k and v in memory does not pay
SAFE = 32.0  # if all |scores| are smaller, exp needs no subtraction of the maximum


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
    if not are_float32(k, v) or mask is not None or not k.size or (causal and q.shape[-2] > k.shape[-2]):
        return NotImplemented  # a mask may hide all keys from a query; the definition handles that
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return NotImplemented
    shapes = q.shape, k.shape, v.shape
    keep = as_heads(dropout_mask(q, (*q.shape[:-1], k.shape[-2]), dropout, seed)) if dropout else None
    q, k, v = as_heads(q), as_heads(k), as_heads(v)
    (b, h, t, d), s, e = q.shape, k.shape[2], v.shape[3]
    scale = np.float32(1 / math.sqrt(d))
    rows = min(max(ONE_THREAD // (s * max(d, e)), 8), 32)
    some = max(CACHED // (h * rows * s), 1)
    parts = [slice(first, first + some) for first in range(0, b, some)]
    blocks = [slice(start, min(start + rows, t)) for start in range(0, t, rows)]
    above = np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
    ones = np.ones((s, 1), np.float32)

    def visible_keys(block: slice) -> int:
        return int(s - t + block.stop if causal else s)

    y, total, exps = empty_heads(q, e), np.empty((b, h, t, 1), np.float32), []
    for part in parts:
        kt = scale_and_transpose(k[part], scale, t)
        for block in blocks:
            n, mine = visible_keys(block), (part, slice(None), block)
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
        g, saved = as_heads(g), iter(exps[::-1])
        dq, dk, dv = empty_heads_like(q, k, v)
        for part in parts[::-1]:
            vt = scale_and_transpose(v[part], scale, t)
            gs = g[part] * total[part]
            along = np.einsum("bhte,bhte->bht", gs, y[part])[..., None]
            along *= scale
            for block in blocks[::-1]:
                n, mine, g_block = visible_keys(block), (part, slice(None), block), gs[:, :, block]
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


def as_heads(x: Array) -> Array:
    """x (..., T, d) as (B, H, T, d)."""
    return x.reshape(math.prod(x.shape[:-3]), *(1, *x.shape)[-3:])


def scale_and_transpose(x: Array, scale: np.float32, queries: int) -> Array:
    """scale · xᵀ, contiguous in memory if there are at least FEW queries. OpenBLAS reads a transposed view
    more slowly, but with few queries the copy would take even longer."""
    xt = x.swapaxes(2, 3)
    return np.multiply(xt, scale, order="C") if queries >= FEW else xt * scale


def empty_heads(x: Array, width: int) -> Array:
    """An uninitialized array (B, H, T, width) in which the heads of a position are adjacent in memory."""
    b, h, t, _ = x.shape
    return np.empty((b, t, h, width), np.float32).transpose(0, 2, 1, 3)


def empty_heads_like(q: Array, k: Array, v: Array) -> Any:
    """Uninitialized arrays of the shapes of q, k and v. If the shapes are equal, the three are views of one
    array, in the layout of the projection's output, so that this array is the gradient of the projection's
    output (`kernels/shape.py`)."""
    if not q.shape == k.shape == v.shape:
        return [empty_heads(x, x.shape[-1]) for x in (q, k, v)]
    b, h, t, d = q.shape
    return np.empty((b, t, 3, h, d), np.float32).transpose(2, 0, 3, 1, 4)

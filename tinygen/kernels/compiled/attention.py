"""Attention by blocks of queries; each thread computes one head at a time (after Dao et al. 2022,
arXiv:2205.14135: no array of size T × S is stored).

Forward stores, for each query, only its largest score and the denominator of its softmax; backward computes
the weights again from them. With a causal mask, a block reads no key beyond its last query. Queries, keys and
values are read without a copy, usually as views of one projection's output. In the result the heads of a
position are adjacent in memory, so that `merge_heads` needs no copy.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tinygen.kernels.attention import empty_heads, empty_heads_like
from tinygen.kernels.compiled.blas import ONE, SGEMM, ZERO, OneThread, gemm, gemm_nt, gemm_tn
from tinygen.kernels.compiled.compile import PARTS, inner, inner_sum, parallel
from tinygen.kernels.compiled.math import clear, exp, largest_entry
from tinygen.kernels.compiled.tile import transpose
from tinygen.kernels.registry import are_float32
from tinygen.tensor import Array

BLOCK = 32  # queries in a block
KEYS = 256  # keys in one product with a block of queries
WORTH = 16  # from this number of queries on, transposing the keys is worth its time


# Arrays are (B, H, T, d); only the last axis must be contiguous. Matrices in scratch memory have rows of S
# floats. Products with keys and values are divided into pieces so small that BLAS does not copy them into
# panels first. BLAS is slow if the second factor is transposed, so keys and values are transposed beforehand.


@inner
def address_of(x, b, h, i):
    """The address of x[b, h, i, 0], and the distance to the next position, in floats."""
    return x.ctypes.data + b * x.strides[0] + h * x.strides[1] + i * x.strides[2], x.strides[2] // 4


@inner
def multiply_keys(sgemm, n, seen, d, scale, a, lda, keys, p, s):
    """p (n, seen) = scale · a (n, d) keys (d, seen)."""
    for j in range(0, seen, KEYS):
        count, at, to = min(KEYS, seen - j), keys + 4 * j, p + 4 * j
        gemm(sgemm, n, count, d, scale, a, lda, at, s, ZERO, to, s)


@inner
def multiply_values(sgemm, n, e, seen, scale, p, s, values, rows, y, ldy):
    """y (n, e) = scale · p (n, seen) values (seen, e)."""
    for j in range(0, seen, KEYS):
        count, at, by = min(KEYS, seen - j), p + 4 * j, values + 4 * j * rows
        gemm(sgemm, n, e, count, scale, at, s, by, rows, ZERO if j == 0 else ONE, y, ldy)


@inner
def add_to_keys(sgemm, seen, d, n, scale, p, s, a, lda, sums, rows):
    """sums (seen, d) += scale · pᵀ a for p (n, seen), a (n, d)."""
    for j in range(0, seen, KEYS):
        count, at, to = min(KEYS, seen - j), p + 4 * j, sums + 4 * j * rows
        gemm_tn(sgemm, count, d, n, scale, at, s, a, lda, ONE, to, rows)


@inner_sum
def softmax(row):
    """Softmax of a row in place; returns its maximum and 1 / Σ exp(row - maximum)."""
    top = largest_entry(row)
    total = ZERO
    for j in range(row.size):
        row[j] = exp(row[j] - top)
        total += row[j]
    weight = ONE / total
    for j in range(row.size):
        row[j] *= weight
    return top, weight


BHTD = "float32[:,:,:,:]"  # one type for all layouts, so that one kernel is compiled and not many
BHT = "float32[:,:,::1]"
START, END = "int64,UniTuple(int64,3)", f"float32,boolean,{BHT}"


@partial(parallel, signature=f"void({START},{','.join([BHTD] * 4 + [BHT] * 2)},{END})")
def forward(part, sgemm, q, k, v, y, tops, weights, scale, causal, scratch):
    parts, (batch, heads, t, d) = len(scratch), q.shape
    s, e = k.shape[2], v.shape[3]
    p, kt = scratch[part, :BLOCK], scratch[part, BLOCK:]
    at_p, at_kt = p.ctypes.data, kt.ctypes.data
    for bh in range(part, batch * heads, parts):
        b, h = bh // heads, bh % heads
        at_k, k_rows = address_of(k, b, h, 0)
        at_v, v_rows = address_of(v, b, h, 0)
        if t >= WORTH:
            transpose(k[b, h], kt)
        for start in range(0, t, BLOCK):
            n = min(BLOCK, t - start)
            seen = s - t + start + n if causal else s
            at_q, q_rows = address_of(q, b, h, start)
            at_y, y_rows = address_of(y, b, h, start)
            if t >= WORTH:
                multiply_keys(sgemm, n, seen, d, scale, at_q, q_rows, at_kt, at_p, s)
            else:
                gemm_nt(sgemm, n, seen, d, scale, at_q, q_rows, at_k, k_rows, ZERO, at_p, s)
            for i in range(n):
                mine = s - t + start + i + 1 if causal else s
                tops[b, h, start + i], weights[b, h, start + i] = softmax(p[i, :mine])
                clear(p[i, mine:seen])
            multiply_values(sgemm, n, e, seen, ONE, at_p, s, at_v, v_rows, at_y, y_rows)


@partial(parallel, signature=f"void({START},{','.join([BHTD] * 5 + [BHT] * 2 + [BHTD] * 3)},{END})")
def backward(part, sgemm, q, k, v, y, g, tops, weights, dq, dk, dv, scale, causal, scratch):
    parts, (batch, heads, t, d) = len(scratch), q.shape
    s, e = k.shape[2], v.shape[3]
    p, dp = scratch[part, :BLOCK], scratch[part, BLOCK : 2 * BLOCK]
    kt, vt = scratch[part, 2 * BLOCK : 2 * BLOCK + d], scratch[part, 2 * BLOCK + d :]
    at_p, at_dp, at_kt, at_vt = p.ctypes.data, dp.ctypes.data, kt.ctypes.data, vt.ctypes.data
    for bh in range(part, batch * heads, parts):
        b, h = bh // heads, bh % heads
        at_k, k_rows = address_of(k, b, h, 0)
        at_dk, dk_rows = address_of(dk, b, h, 0)
        at_dv, dv_rows = address_of(dv, b, h, 0)
        for i in range(s):
            clear(dk[b, h, i])
            clear(dv[b, h, i])
        transpose(k[b, h], kt)
        transpose(v[b, h], vt)
        for start in range(0, t, BLOCK):
            n = min(BLOCK, t - start)
            seen = s - t + start + n if causal else s
            at_q, q_rows = address_of(q, b, h, start)
            at_g, g_rows = address_of(g, b, h, start)
            at_dq, dq_rows = address_of(dq, b, h, start)
            multiply_keys(sgemm, n, seen, d, scale, at_q, q_rows, at_kt, at_p, s)
            multiply_keys(sgemm, n, seen, e, ONE, at_g, g_rows, at_vt, at_dp, s)
            for i in range(n):
                mine = s - t + start + i + 1 if causal else s
                row, drow = p[i, :mine], dp[i, :mine]
                yi, gi = y[b, h, start + i], g[b, h, start + i]
                along = ZERO  # <g, y> = Σ p dp
                for j in range(e):
                    along += yi[j] * gi[j]
                top, weight = tops[b, h, start + i], weights[b, h, start + i]
                for j in range(row.size):
                    row[j] = weight * exp(row[j] - top)
                    drow[j] = row[j] * (drow[j] - along)
                clear(p[i, mine:seen])
                clear(dp[i, mine:seen])
            add_to_keys(sgemm, seen, e, n, ONE, at_p, s, at_g, g_rows, at_dv, dv_rows)
            add_to_keys(sgemm, seen, d, n, scale, at_dp, s, at_q, q_rows, at_dk, dk_rows)
            multiply_values(sgemm, n, d, seen, scale, at_dp, s, at_k, k_rows, at_dq, dq_rows)


def as_rows(x: Array) -> Array:
    """x (..., T, d) as (B, H, T, d), in which each position is a contiguous row of floats."""
    x = x.reshape(math.prod(x.shape[:-3]), *(1, *x.shape)[-3:])
    return x if x.strides[-1] == 4 and x.strides[-2] % 4 == 0 and x.flags.writeable else x.copy()


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    if not are_float32(k, v) or mask is not None or dropout or not k.size or not v.size:
        return NotImplemented
    if causal and q.shape[-2] > k.shape[-2]:
        return NotImplemented  # the first queries see no key: the definition handles this
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return NotImplemented
    scale = np.float32(1 / math.sqrt(q.shape[-1]))
    shapes = q.shape, k.shape, v.shape
    q, k, v = as_rows(q), as_rows(k), as_rows(v)
    y, (tops, weights) = empty_heads(q, v.shape[-1]), np.empty((2, *q.shape[:-1]), np.float32)
    (s, d), e = k.shape[2:], v.shape[3]
    scratch = np.empty((PARTS, BLOCK + d, s), np.float32)
    with OneThread():
        forward(PARTS, SGEMM, q, k, v, y, tops, weights, scale, causal, scratch)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        dq, dk, dv = empty_heads_like(q, k, v)
        scratch = np.empty((PARTS, 2 * BLOCK + d + e, s), np.float32)
        g = as_rows(g)
        with OneThread():
            backward(PARTS, SGEMM, q, k, v, y, g, tops, weights, dq, dk, dv, scale, causal, scratch)
        return *(d.reshape(shape) for d, shape in zip((dq, dk, dv), shapes, strict=True)), None

    return y.reshape(*shapes[0][:-1], v.shape[-1]), gradients

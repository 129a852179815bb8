"""Flash attention: attention tile by tile, so that the T × S scores are never stored in global memory.

Dao et al. 2022 (arXiv:2205.14135), after Milakov & Gimelshein 2018 (arXiv:1805.02867), who compute a softmax
in one pass: whenever a larger score appears, the sum so far is rescaled (online softmax).

Forward: one block per tile of queries. It goes along the keys; thread (i, j) computes the score of query i
and key j, and holds entries j, j + TILE, ... of row i of the output in registers.

                    keys, TILE at a time ->
                  +------+------+------+--
    TILE queries  | i, j |      |      |       shared memory: Q, K, V tiles (TILE, d), P (TILE, TILE)
                  +------+------+------+--     registers: row i's largest score `top` and sum `total`
                     |  each: P = exp(S - top), total = total·shrink + ΣP, O = O·shrink + P V
                     v
                  y = O / total;   top and total are saved for backward (8 bytes per query)

Backward computes P = exp(S - top) / total again. top and total are stored separately: if scores are large,
the sum top + log(total) would lose digits. With D = <g, y> of each query, dS = P·(g Vᵀ - D). One kernel goes
along the keys for dQ = dS K, another along the queries for dK = dSᵀ Q and dV = Pᵀ g. Each sum belongs to one
block: without atomics, the same input gives the same bits.

    bytes moved   forward 4·d·(2·T + 2·S·T/TILE); the definition moves 4·T·S about eight times
    operations    4·T·S·d forward, 14·T·S·d backward (scores twice), half as many with a causal mask

Each product reads two floats from shared memory and uses no tensor cores: the kernel is written to be read,
and to save memory if T × S scores do not fit. If they fit, `attention.py` is faster.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.reduce import LOWEST
from tinygen_cuda.simt import TILE, cuda, float32, launch

WIDEST = 128  # largest head dimension d: four tiles of this width fill the shared memory


@functools.cache
def kernels_for(width: int) -> tuple[Any, Any, Any]:
    """The kernels for head dimension `width`: the sizes of shared memory and registers must be known at
    compile time. Each row of a tile is padded by one float, so that threads that read a column of the tile
    access different memory banks."""
    padded = width + 1
    mine = -(-width // TILE)  # entries of a row that a thread keeps

    @cuda.jit
    def forward(q, k, v, ahead, scale, y, tops, totals):
        """q (B, T, d), k and v (B, S, d). Query t sees the first t + ahead keys, and S at most."""
        queries = cuda.shared.array((TILE, padded), float32)
        keys = cuda.shared.array((TILE, padded), float32)
        values = cuda.shared.array((TILE, padded), float32)
        scores = cuda.shared.array((TILE, TILE), float32)
        weights = cuda.shared.array((TILE, TILE), float32)
        o = cuda.local.array(mine, float32)
        j, i, b = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y
        t = cuda.blockIdx.x * TILE + i
        last = (cuda.blockIdx.x + 1) * TILE - 1 + ahead  # the number of keys that the tile's last query sees
        if last > k.shape[1]:
            last = k.shape[1]
        for c in range(j, width, TILE):
            queries[i, c] = q[b, t, c] * scale if t < q.shape[1] else float32(0)
        for m in range(mine):
            o[m] = float32(0)
        top, total = LOWEST, float32(0)
        for start in range(0, last, TILE):
            for c in range(j, width, TILE):
                inside = start + i < k.shape[1]
                keys[i, c] = k[b, start + i, c] if inside else float32(0)
                values[i, c] = v[b, start + i, c] if inside else float32(0)
            cuda.syncthreads()
            score = float32(0)
            for c in range(width):
                score += queries[i, c] * keys[j, c]
            scores[i, j] = score if start + j < k.shape[1] and start + j < t + ahead else LOWEST
            cuda.syncthreads()
            before = top
            for other in range(TILE):
                if scores[i, other] > top:
                    top = scores[i, other]
            weights[i, j] = math.exp(scores[i, j] - top) if top > LOWEST else float32(0)
            cuda.syncthreads()
            shrink = math.exp(before - top) if before > LOWEST else float32(0)
            total *= shrink
            for other in range(TILE):
                total += weights[i, other]
            for m in range(mine):
                c = m * TILE + j
                if c < width:
                    o[m] *= shrink
                    for other in range(TILE):
                        o[m] += weights[i, other] * values[other, c]
            cuda.syncthreads()  # all are done with the tiles of keys and values
        if t < q.shape[1]:
            for m in range(mine):
                c = m * TILE + j
                if c < width:
                    y[b, t, c] = o[m] / total
            if j == 0:
                tops[b, t], totals[b, t] = top, total

    @cuda.jit
    def of_queries(q, k, v, g, tops, totals, along, ahead, scale, dq):
        queries = cuda.shared.array((TILE, padded), float32)
        gradients = cuda.shared.array((TILE, padded), float32)
        keys = cuda.shared.array((TILE, padded), float32)
        values = cuda.shared.array((TILE, padded), float32)
        dscores = cuda.shared.array((TILE, TILE), float32)
        d = cuda.local.array(mine, float32)
        j, i, b = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y
        t = cuda.blockIdx.x * TILE + i
        last = (cuda.blockIdx.x + 1) * TILE - 1 + ahead
        if last > k.shape[1]:
            last = k.shape[1]
        for c in range(j, width, TILE):
            queries[i, c] = q[b, t, c] * scale if t < q.shape[1] else float32(0)
            gradients[i, c] = g[b, t, c] if t < q.shape[1] else float32(0)
        for m in range(mine):
            d[m] = float32(0)
        for start in range(0, last, TILE):
            for c in range(j, width, TILE):
                inside = start + i < k.shape[1]
                keys[i, c] = k[b, start + i, c] if inside else float32(0)
                values[i, c] = v[b, start + i, c] if inside else float32(0)
            cuda.syncthreads()
            score, dp = float32(0), float32(0)
            for c in range(width):
                score += queries[i, c] * keys[j, c]
                dp += gradients[i, c] * values[j, c]
            dscores[i, j] = float32(0)
            if t < q.shape[1] and start + j < k.shape[1] and start + j < t + ahead:
                weight = math.exp(score - tops[b, t]) / totals[b, t]
                dscores[i, j] = weight * (dp - along[b, t])
            cuda.syncthreads()
            for m in range(mine):
                c = m * TILE + j
                if c < width:
                    for other in range(TILE):
                        d[m] += dscores[i, other] * keys[other, c]
            cuda.syncthreads()
        for m in range(mine):
            c = m * TILE + j
            if c < width and t < q.shape[1]:
                dq[b, t, c] = d[m] * scale

    @cuda.jit
    def of_keys(q, k, v, g, tops, totals, along, ahead, scale, dk, dv):
        """Here row i is a key, and column j a query."""
        keys = cuda.shared.array((TILE, padded), float32)
        values = cuda.shared.array((TILE, padded), float32)
        queries = cuda.shared.array((TILE, padded), float32)
        gradients = cuda.shared.array((TILE, padded), float32)
        weights = cuda.shared.array((TILE, TILE), float32)
        dscores = cuda.shared.array((TILE, TILE), float32)
        of_key = cuda.local.array(mine, float32)
        of_value = cuda.local.array(mine, float32)
        j, i, b = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.y
        s = cuda.blockIdx.x * TILE + i
        first = cuda.blockIdx.x * TILE - ahead + 1  # the first query that sees the tile's first key
        if first < 0:
            first = 0
        for c in range(j, width, TILE):
            keys[i, c] = k[b, s, c] * scale if s < k.shape[1] else float32(0)
            values[i, c] = v[b, s, c] if s < k.shape[1] else float32(0)
        for m in range(mine):
            of_key[m] = float32(0)
            of_value[m] = float32(0)
        for start in range(first, q.shape[1], TILE):
            for c in range(j, width, TILE):
                inside = start + i < q.shape[1]
                queries[i, c] = q[b, start + i, c] if inside else float32(0)
                gradients[i, c] = g[b, start + i, c] if inside else float32(0)
            cuda.syncthreads()
            score, dp = float32(0), float32(0)
            for c in range(width):
                score += keys[i, c] * queries[j, c]
                dp += values[i, c] * gradients[j, c]
            t = start + j
            weights[i, j] = float32(0)
            dscores[i, j] = float32(0)
            if t < q.shape[1] and s < k.shape[1] and s < t + ahead:
                weights[i, j] = math.exp(score - tops[b, t]) / totals[b, t]
                dscores[i, j] = weights[i, j] * (dp - along[b, t])
            cuda.syncthreads()
            for m in range(mine):
                c = m * TILE + j
                if c < width:
                    for other in range(TILE):
                        of_key[m] += dscores[i, other] * queries[other, c]
                        of_value[m] += weights[i, other] * gradients[other, c]
            cuda.syncthreads()
        for m in range(mine):
            c = m * TILE + j
            if c < width and s < k.shape[1]:
                dk[b, s, c] = of_key[m] * scale
                dv[b, s, c] = of_value[m]

    return forward, of_queries, of_keys


def flash(q: Array, k: Array, v: Array, causal: bool) -> Any:
    """softmax(q kᵀ / sqrt(d)) v of q (B, T, d), k and v (B, S, d), contiguous, d up to WIDEST; under
    `causal`, T <= S and query t sees keys up to S - T + t. Returns the value and the function that computes
    the gradients of q, k and v."""
    (b, t, width), s = q.shape, k.shape[1]
    forward, of_queries, of_keys = kernels_for(width)
    ahead, scale = s - t + 1 if causal else s, np.float32(1 / math.sqrt(width))
    tiles, threads = ((-(-t // TILE), b), (-(-s // TILE), b)), (TILE, TILE)
    y, tops, totals = np.empty_like(q), np.empty_like(q, shape=(b, t)), np.empty_like(q, shape=(b, t))
    launch(forward, tiles[0], threads, q, k, v, ahead, scale, y, tops, totals)

    def backward(g: Array) -> tuple[Array, Array, Array]:
        dq, dk, dv = (np.empty_like(x) for x in (q, k, v))
        given = q, k, v, g, tops, totals, (g * y).sum(axis=-1), ahead, scale
        launch(of_queries, tiles[0], threads, *given, dq)
        launch(of_keys, tiles[1], threads, *given, dk, dv)
        return dq, dk, dv

    return y, backward

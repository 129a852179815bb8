"""Softmax along the rows of a matrix, over all entries or, with a causal mask, over the visible ones.

One block per row walks along it three times. If the row fits in the cache (less than 256 kB), only the first
walk reads global memory.

    row    x x x x x x x x x x x x - -      seen: 12 of 14
    walk 1   the maximum                    thread t: entries t, t + THREADS, ...; then over the block
    walk 2   sum of exp(x - maximum)
    walk 3   y = exp(x - maximum) / sum     0 at masked entries

The gradient is y·(g - <g, y>): one sum per row, then a walk that writes.

    bytes moved   forward 4·N·C read, 4·N·C written; backward 8·N·C read, 4·N·C written
    operations    per entry: forward two exp, a maximum and an addition; backward two products, two additions

It moves 2 or 3 floats for about five operations: memory bandwidth limits it. The definition, run unchanged on
the GPU with CuPy, reads or writes the matrix about ten times.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.reduce import LOWEST, block_max, block_sum
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch


@cuda.jit
def softmax_rows(x, y, queries, ahead):
    """Row r belongs to query r % queries, which sees the first `r % queries + ahead` entries."""
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    seen = row % queries + ahead
    if seen > n:
        seen = n
    top = LOWEST
    for j in range(t, seen, THREADS):
        if x[row, j] > top:
            top = x[row, j]
    top = block_max(buffer, top)
    if top == LOWEST:  # every entry is -inf: the row becomes 0, and inf - inf (NaN) is avoided
        top = float32(0)
    mine = float32(0)
    for j in range(t, seen, THREADS):
        mine += math.exp(x[row, j] - top)
    total = block_sum(buffer, mine)
    scale = float32(0) if total == float32(0) else float32(1) / total
    for j in range(t, n, THREADS):
        y[row, j] = math.exp(x[row, j] - top) * scale if j < seen else float32(0)


@cuda.jit
def softmax_rows_backward(y, g, dx):
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, y.shape[1]
    mine = float32(0)
    for j in range(t, n, THREADS):
        mine += g[row, j] * y[row, j]
    along = block_sum(buffer, mine)
    for j in range(t, n, THREADS):
        dx[row, j] = y[row, j] * (g[row, j] - along)


def softmax(x: Array, axis: int = -1) -> Any:
    """As `tinygen.ops.softmax`, along the last axis only."""
    if x.ndim == 0 or axis not in (-1, x.ndim - 1):
        return NotImplemented
    y = causal_softmax(x, 1, x.shape[-1])
    return y, lambda g: softmax_backward(y, g)


def causal_softmax(x: Array, queries: int, ahead: int) -> Array:
    """Causal softmax of x (..., S): row r sees its first r % queries + ahead entries, at least one."""
    rows = contiguous(x).reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    launch(softmax_rows, len(rows), THREADS, rows, y, queries, ahead)
    return y.reshape(x.shape)


def softmax_backward(y: Array, g: Array) -> Array:
    rows = y.reshape(-1, y.shape[-1])
    dx = np.empty_like(rows)
    launch(softmax_rows_backward, len(rows), THREADS, rows, contiguous(g).reshape(rows.shape), dx)
    return dx.reshape(y.shape)

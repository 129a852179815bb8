"""Layer norm (Ba et al. 2016, arXiv:1607.06450), forward and backward.

Forward and dx: one block a row, as in `reduce.py`.

    walk 1   mean                        x (N, C)   [ block 0 ->                ]
    walk 2   variance around that mean              [ block 1 ->                ]
    walk 3   y = x̂·weight + bias                    [ block 2 ->                ]

The kernel computes the mean first, then the variance around it: E[x²] - E[x]² in one walk would lose all
digits of a row whose mean is far from 0. Forward saves the mean and 1/σ of each row (8 bytes); backward
computes x̂ again from x.

The gradients of weight and bias are sums down the columns. A block takes STRIP columns (threads side by side,
so that their reads are coalesced) and CHUNK rows. Each column has ROWS threads, whose sums are added in
shared memory. An ordinary `sum` then adds the small matrix of the chunks' sums: without atomics, the same
input gives the same bits.

               STRIP columns
             +------+------+        one block: STRIP x ROWS threads
      CHUNK  | block| block|
             +------+------+  ->  partial sums (chunks, C)  ->  (C)
      rows   | block| block|
             +------+------+

    bytes moved   forward: 4·N·C read (three times, from the cache while a row fits), 4·N·C written
                  backward: 16·N·C read, 4·N·C written
    operations    about 8 per entry forward, 16 backward: memory bandwidth limits both
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.reduce import block_sum
from tinygen_cuda.simt import SIMULATED, THREADS, contiguous, cuda, float32, launch, supports

STRIP, ROWS, CHUNK = (2, 2, 3) if SIMULATED else (32, 8, 256)


@cuda.jit
def layer_norm_rows(x, weight, bias, eps, y, means, inverses):
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    mine = float32(0)
    for j in range(t, n, THREADS):
        mine += x[row, j]
    mean = block_sum(buffer, mine) / float32(n)
    mine = float32(0)
    for j in range(t, n, THREADS):
        d = x[row, j] - mean
        mine += d * d
    inverse = float32(1) / math.sqrt(block_sum(buffer, mine) / float32(n) + eps)
    for j in range(t, n, THREADS):
        y[row, j] = (x[row, j] - mean) * inverse * weight[j] + bias[j]
    if t == 0:
        means[row] = mean
        inverses[row] = inverse


@cuda.jit
def layer_norm_rows_backward(x, weight, g, means, inverses, dx):
    """dx = (d - mean(d) - x̂ mean(d x̂)) / σ with d = g·weight."""
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    mean, inverse = means[row], inverses[row]
    mine, mine_along = float32(0), float32(0)
    for j in range(t, n, THREADS):
        d = g[row, j] * weight[j]
        mine += d
        mine_along += d * (x[row, j] - mean) * inverse
    average = block_sum(buffer, mine) / float32(n)
    along = block_sum(buffer, mine_along) / float32(n)
    for j in range(t, n, THREADS):
        xhat = (x[row, j] - mean) * inverse
        dx[row, j] = inverse * (g[row, j] * weight[j] - average - xhat * along)


@cuda.jit
def layer_norm_columns_backward(x, g, means, inverses, dweight, dbias):
    """The sums of g·x̂ and of g down one strip of one chunk of rows."""
    weights = cuda.shared.array((ROWS, STRIP), float32)
    biases = cuda.shared.array((ROWS, STRIP), float32)
    s, r = cuda.threadIdx.x, cuda.threadIdx.y
    column, chunk = cuda.blockIdx.x * STRIP + s, cuda.blockIdx.y
    last = (chunk + 1) * CHUNK
    if last > x.shape[0]:
        last = x.shape[0]
    of_weight, of_bias = float32(0), float32(0)
    if column < x.shape[1]:
        for row in range(chunk * CHUNK + r, last, ROWS):
            of_weight += g[row, column] * (x[row, column] - means[row]) * inverses[row]
            of_bias += g[row, column]
    weights[r, s] = of_weight
    biases[r, s] = of_bias
    cuda.syncthreads()
    if r == 0 and column < x.shape[1]:
        for other in range(1, ROWS):
            of_weight += weights[other, s]
            of_bias += biases[other, s]
        dweight[chunk, column] = of_weight
        dbias[chunk, column] = of_bias


def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    """As `tinygen.ops.layer_norm`."""
    if not supports(x, weight, bias):
        return NotImplemented
    shape, channels = x.shape, x.shape[-1]
    x, weight = contiguous(x).reshape(-1, channels), contiguous(weight)
    shift = np.zeros_like(weight) if bias is None else contiguous(bias)
    y, means, inverses = np.empty_like(x), np.empty_like(x, shape=len(x)), np.empty_like(x, shape=len(x))
    launch(layer_norm_rows, len(x), THREADS, x, weight, shift, np.float32(eps), y, means, inverses)

    def backward(g: Array) -> tuple[Array, ...]:
        g, dx = contiguous(g).reshape(x.shape), np.empty_like(x)
        launch(layer_norm_rows_backward, len(x), THREADS, x, weight, g, means, inverses, dx)
        chunks = -(-len(x) // CHUNK)
        dweight, dbias = (np.empty_like(x, shape=(chunks, channels)) for _ in range(2))
        blocks = (-(-channels // STRIP), chunks)
        launch(layer_norm_columns_backward, blocks, (STRIP, ROWS), x, g, means, inverses, dweight, dbias)
        return dx.reshape(shape), dweight.sum(axis=0), dbias.sum(axis=0)

    return y.reshape(shape), backward

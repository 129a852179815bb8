"""Cross-entropy of logits, forward and backward, without the probabilities or the one-hot targets in memory.

Forward: one block per row of the logits (N, V). loss = log(sum) - (row[target] - maximum), and 0 if the
target is `ignored`.

    walk 1   the maximum                                    kept: 4 bytes a row
    walk 2   sum of exp(x - maximum), and its logarithm     kept: 4 bytes a row

Backward: dlogits = g·(exp((x - maximum) - log(sum)) - [j is the target]), one walk. The maximum and the
logarithm are stored separately: if the maximum is large, their sum would lose the logarithm's digits.

    bytes moved   forward 4·N·V read (twice, the second time from the cache while a row fits), 12·N written;
                  backward 4·N·V read, 4·N·V written
    operations    per entry, an exp and an addition forward, an exp and a product backward: memory bandwidth
                  limits both

With GPT-2's V = 50,257 and N = 8,192 the logits take 1.6 GB; the definition allocates several more arrays of
this size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.reduce import LOWEST, block_max, block_sum
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch


@cuda.jit
def cross_entropy_rows(x, targets, ignored, losses, tops, logs):
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    top = LOWEST
    for j in range(t, n, THREADS):
        if x[row, j] > top:
            top = x[row, j]
    top = block_max(buffer, top)
    if top == LOWEST:
        top = float32(0)
    mine = float32(0)
    for j in range(t, n, THREADS):
        mine += math.exp(x[row, j] - top)
    total = block_sum(buffer, mine)
    if t == 0:
        tops[row], logs[row] = top, math.log(total)
        losses[row] = float32(0)
        if targets[row] != ignored:
            losses[row] = logs[row] - (x[row, targets[row]] - top)


@cuda.jit
def cross_entropy_rows_backward(x, targets, ignored, tops, logs, g, dx):
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    scale = g[row] if targets[row] != ignored else float32(0)
    for j in range(t, x.shape[1], THREADS):
        p = math.exp((x[row, j] - tops[row]) - logs[row])
        dx[row, j] = scale * (p - float32(1) if j == targets[row] else p)


def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> Any:
    """As `tinygen.ops.loss.token_losses`, whose caller has checked the targets; without label smoothing."""
    if smoothing or type(targets) is not type(logits):
        return NotImplemented
    shape = logits.shape
    x, ids = contiguous(logits).reshape(-1, shape[-1]), contiguous(targets).reshape(-1)
    losses, tops, logs = (np.empty_like(x, shape=len(x)) for _ in range(3))
    launch(cross_entropy_rows, len(x), THREADS, x, ids, ignore_index, losses, tops, logs)

    def dlogits(g: Array) -> Array:
        dx, scale = np.empty_like(x), contiguous(g).reshape(-1)
        launch(cross_entropy_rows_backward, len(x), THREADS, x, ids, ignore_index, tops, logs, scale, dx)
        return dx.reshape(shape)

    return losses.reshape(shape[:-1]), dlogits

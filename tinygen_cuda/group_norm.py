"""Group norm (Wu & He 2018, arXiv:1803.08494), forward and backward.

The channels of a group, with all their positions, are contiguous in memory. So x (N, C, ...) is a matrix
with one row for each sample and group, and group norm is layer norm of these rows. One block per row:

    sample 0   [ group 0: channel 0 | channel 1 ][ group 1: channel 2 | channel 3 ]
                 block 0                           block 1
    sample 1   [ block 2                        ][ block 3                        ]

Entry j of a row belongs to channel j // positions of the group, which has its own weight and bias. Their
gradients are sums over a channel's positions: one block for each sample and channel, then a sum over samples.

    bytes moved   forward: 4·n read (three times, from the cache while a row fits), 4·n written, n = x.size
                  backward: 16·n read, 4·n written
    operations    about 10 per entry forward, 20 backward: memory bandwidth limits both
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.reduce import block_sum
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch, supports


@cuda.jit
def group_norm_rows(x, weight, bias, positions, eps, y, means, inverses):
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    first = row * (n // positions) % weight.shape[0]  # the channel that the row begins with
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
        channel = first + j // positions
        y[row, j] = (x[row, j] - mean) * inverse * weight[channel] + bias[channel]
    if t == 0:
        means[row] = mean
        inverses[row] = inverse


@cuda.jit
def group_norm_rows_backward(x, weight, g, positions, means, inverses, dx):
    buffer = cuda.shared.array(THREADS, float32)
    row, t, n = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    first = row * (n // positions) % weight.shape[0]
    mean, inverse = means[row], inverses[row]
    mine, mine_along = float32(0), float32(0)
    for j in range(t, n, THREADS):
        d = g[row, j] * weight[first + j // positions]
        mine += d
        mine_along += d * (x[row, j] - mean) * inverse
    average = block_sum(buffer, mine) / float32(n)
    along = block_sum(buffer, mine_along) / float32(n)
    for j in range(t, n, THREADS):
        xhat = (x[row, j] - mean) * inverse
        dx[row, j] = inverse * (g[row, j] * weight[first + j // positions] - average - xhat * along)


@cuda.jit
def group_norm_channels_backward(x, g, per_group, means, inverses, dweight, dbias):
    """x, g (N·C, positions): one block per row; `means` and `inverses` belong to the row's group."""
    buffer = cuda.shared.array(THREADS, float32)
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    mean, inverse = means[row // per_group], inverses[row // per_group]
    of_weight, of_bias = float32(0), float32(0)
    for j in range(t, x.shape[1], THREADS):
        of_weight += g[row, j] * (x[row, j] - mean) * inverse
        of_bias += g[row, j]
    of_weight = block_sum(buffer, of_weight)
    of_bias = block_sum(buffer, of_bias)
    if t == 0:
        dweight[row] = of_weight
        dbias[row] = of_bias


def group_norm(x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5) -> Any:
    """As `tinygen.ops.group_norm`."""
    n, channels = x.shape[:2]
    if not supports(x, weight, bias) or channels % groups:
        return NotImplemented
    shape, per_group, positions = x.shape, channels // groups, math.prod(x.shape[2:])
    x, weight = contiguous(x).reshape(n * groups, per_group * positions), contiguous(weight)
    y, means, inverses = np.empty_like(x), np.empty_like(x, shape=len(x)), np.empty_like(x, shape=len(x))
    given = x, weight, contiguous(bias), positions, np.float32(eps)
    launch(group_norm_rows, len(x), THREADS, *given, y, means, inverses)

    def backward(g: Array) -> tuple[Array | None, ...]:
        g, dx = contiguous(g).reshape(x.shape), np.empty_like(x)
        launch(group_norm_rows_backward, len(x), THREADS, x, weight, g, positions, means, inverses, dx)
        maps = (n * channels, positions)
        dweight, dbias = (np.empty_like(x, shape=n * channels) for _ in range(2))
        given = x.reshape(maps), g.reshape(maps), per_group, means, inverses
        launch(group_norm_channels_backward, n * channels, THREADS, *given, dweight, dbias)
        over_samples = (d.reshape(n, channels).sum(axis=0) for d in (dweight, dbias))
        return dx.reshape(shape), None, *over_samples

    return y.reshape(shape), backward

"""Parallel reduction: the sum and the maximum over the threads of a block, and over each row of a matrix.

In each step half of the active threads add the values of the other half: log2(THREADS) steps.

    buffer   3  1  4  1  5  9  2  6        in shared memory, one entry a thread
             |__|__|__|__|  |  |  |        thread t < 4 adds entry t + 4
             8 10  6  7
             |__|  |  |                    thread t < 2 adds entry t + 2
            14 17
            31                             thread 0 adds entry 1; then all threads read entry 0

All threads wait between two steps (a barrier): a thread reads a value that another thread wrote in the step
before.

`row_sums`, `row_maxima`: one block per row. Its threads read THREADS neighboring entries at a time (coalesced
reads); each thread adds up its own entries, and the block adds the threads' sums.

    bytes moved   4·N·C read, 4·N written: memory bandwidth limits it
    operations    N·C additions or comparisons
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch

LOWEST = np.float32(-math.inf)


@cuda.jit(device=True)
def block_sum(buffer, value):
    """The sum of all threads' values; every thread gets it. `buffer`: THREADS entries of shared memory."""
    t = cuda.threadIdx.x
    buffer[t] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            buffer[t] += buffer[t + half]
        cuda.syncthreads()
        half //= 2
    total = buffer[0]
    cuda.syncthreads()  # all threads must have read `total` before the next sum writes
    return total


@cuda.jit(device=True)
def block_max(buffer, value):
    """The largest of all threads' values; every thread gets it."""
    t = cuda.threadIdx.x
    buffer[t] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half and buffer[t + half] > buffer[t]:
            buffer[t] = buffer[t + half]
        cuda.syncthreads()
        half //= 2
    top = buffer[0]
    cuda.syncthreads()
    return top


@cuda.jit
def row_sums(x, y):
    buffer = cuda.shared.array(THREADS, float32)
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    mine = float32(0)
    for j in range(t, x.shape[1], THREADS):
        mine += x[row, j]
    total = block_sum(buffer, mine)
    if t == 0:
        y[row] = total


@cuda.jit
def row_maxima(x, y):
    buffer = cuda.shared.array(THREADS, float32)
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    mine = LOWEST
    for j in range(t, x.shape[1], THREADS):
        if x[row, j] > mine:
            mine = x[row, j]
    top = block_max(buffer, mine)
    if t == 0:
        y[row] = top


def sum_rows(x: Array) -> Array:
    """x (N, C) -> (N)."""
    return reduce_rows(row_sums, x)


def max_rows(x: Array) -> Array:
    """x (N, C) -> (N)."""
    return reduce_rows(row_maxima, x)


def reduce_rows(kernel: Any, x: Array) -> Array:
    y = np.empty_like(x, shape=len(x))
    launch(kernel, len(x), THREADS, contiguous(x), y)
    return y

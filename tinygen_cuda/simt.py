"""Numba's CUDA, imported here and nowhere else, and how many threads the kernels are written for.

A kernel is a Python function that Numba compiles for the GPU. Thousands of threads run it at once. They come
in **blocks**: the threads of a block share some 48 kB of fast memory and can wait for one another
(`cuda.syncthreads()`); the blocks of a **grid** run in any order and know nothing of each other.

    grid    block 0        block 1        block 2            cuda.blockIdx.x
            +-----------+  +-----------+  +-----------+
            | 0 1 2 ... |  | 0 1 2 ... |  | 0 1 2 ... |      cuda.threadIdx.x
            |  shared   |  |  shared   |  |  shared   |
            +-----------+  +-----------+  +-----------+
                 |              |              |
            =====global memory: the arrays, terabytes a second=====

Without a GPU the kernels run in Numba's simulator, thread by thread in Python, when NUMBA_ENABLE_CUDASIM=1
is in the environment before Numba is imported: then blocks are small, and arrays are NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

if not hasattr(np, "row_stack"):  # NumPy 2.5 dropped it; numba-cuda 0.30 looks it up when it compiles
    vars(np)["row_stack"] = np.vstack

from numba import config, cuda, float32

from tinygen.tensor import Array

__all__ = ["SIMULATED", "THREADS", "TILE", "contiguous", "cuda", "float32", "launch", "taken"]

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small arrays make small grids: that is no fault of the kernel's

SIMULATED = bool(config.ENABLE_CUDASIM)
THREADS = 4 if SIMULATED else 256
"""Threads in a block of one axis: a power of two."""
TILE = 3 if SIMULATED else 16
"""Threads along each axis of a block of two."""


def launch(kernel: Any, blocks: Any, threads: Any, *args: Any) -> None:
    """Run `kernel` with this grid. It returns before the GPU is done; what reads the results waits."""
    kernel[blocks, threads](*args)


def contiguous(x: Array) -> Array:
    """x, or a copy whose last axis is dense in memory: for any other layout Numba would compile anew."""
    return x if x.flags.c_contiguous else x.copy(order="C")


def taken(x: Array, *others: Any) -> bool:
    """Whether kernels take all of these: float32 arrays of x's library (None left out). Arrays of another one
    are left to the definition, which says that devices do not mix; Numba would copy them over without a
    word."""
    return all(y is None or (type(y) is type(x) and y.dtype == np.float32) for y in (x, *others))

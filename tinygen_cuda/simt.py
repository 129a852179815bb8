"""The only import of Numba's CUDA, and the block sizes that the kernels use.

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

Without a GPU the kernels can run in Numba's simulator, thread by thread in Python: set NUMBA_ENABLE_CUDASIM=1
in the environment before Numba is imported. Blocks are then small, and arrays are NumPy arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

if not hasattr(np, "row_stack"):  # NumPy 2.5 dropped it; numba-cuda 0.30 looks it up when it compiles
    vars(np)["row_stack"] = np.vstack

from numba import config, cuda, float32

from tinygen.tensor import Array

__all__ = ["SIMULATED", "THREADS", "TILE", "contiguous", "cuda", "float32", "launch", "supports"]

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small arrays make small grids: no reason for a warning

SIMULATED = bool(config.ENABLE_CUDASIM)
THREADS = 4 if SIMULATED else 256
"""Threads in a one-dimensional block: a power of two."""
TILE = 3 if SIMULATED else 16
"""Threads along each axis of a two-dimensional block."""


def launch(kernel: Any, blocks: Any, threads: Any, *args: Any) -> None:
    """Run `kernel` with this grid. It returns before the GPU is done; reading a result waits for it."""
    kernel[blocks, threads](*args)


def contiguous(x: Array) -> Array:
    """x, or a C-contiguous copy: Numba would compile the kernel again for any other memory layout."""
    return x if x.flags.c_contiguous else x.copy(order="C")


def supports(x: Array, *others: Any) -> bool:
    """Whether kernels accept all of these arrays: float32 arrays of x's library (None is skipped). If two
    libraries are mixed, the definition must run: it raises the error that devices do not mix, whereas Numba
    would copy the arrays silently."""
    return all(y is None or (type(y) is type(x) and y.dtype == np.float32) for y in (x, *others))

"""GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), forward and backward: one thread per entry.

    entries   0 1 2 ... | THREADS ...  |  ...        entry = block · THREADS + thread
              block 0     block 1         block 2    the last block's threads beyond the end do nothing

Neighboring threads read neighboring entries (coalesced access): the GPU fetches 32 floats at a time, and all
are used.

    bytes moved   forward 4·n read, 4·n written; backward 8·n read, 4·n written
    operations    per entry, one erf or tanh and a few products: memory bandwidth limits it

The definition writes each intermediate result to memory: about ten times as many bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, contiguous, cuda, launch

# In float32: a float64 constant would make the whole expression float64, 64 times as slow on most GPUs.
HALF, ONE, THREE = np.float32(0.5), np.float32(1), np.float32(3)
ROOT_HALF, DENSITY = np.float32(math.sqrt(0.5)), np.float32(1 / math.sqrt(2 * math.pi))
C, A = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)


@cuda.jit
def gelu_exact(x, y):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < x.shape[0]:
        y[i] = HALF * x[i] * (ONE + math.erf(x[i] * ROOT_HALF))


@cuda.jit
def gelu_exact_backward(x, g, dx):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < x.shape[0]:
        cdf = HALF * (ONE + math.erf(x[i] * ROOT_HALF))
        dx[i] = g[i] * (cdf + x[i] * math.exp(-HALF * x[i] * x[i]) * DENSITY)


@cuda.jit
def gelu_tanh(x, y):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < x.shape[0]:
        y[i] = HALF * x[i] * (ONE + math.tanh(C * (x[i] + A * x[i] * x[i] * x[i])))


@cuda.jit
def gelu_tanh_backward(x, g, dx):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < x.shape[0]:
        t = math.tanh(C * (x[i] + A * x[i] * x[i] * x[i]))
        slope = C * (ONE + THREE * A * x[i] * x[i])
        dx[i] = g[i] * HALF * (ONE + t + x[i] * (ONE - t * t) * slope)


def gelu(x: Array, approximate: str = "none") -> Any:
    """As `tinygen.ops.gelu`."""
    if approximate not in ("none", "tanh"):
        return NotImplemented
    forward, back = (
        (gelu_exact, gelu_exact_backward) if approximate == "none" else (gelu_tanh, gelu_tanh_backward)
    )
    shape, flat = x.shape, contiguous(x).reshape(-1)
    y, blocks = np.empty_like(flat), -(-flat.size // THREADS)
    launch(forward, blocks, THREADS, flat, y)

    def backward(g: Array) -> Array:
        dx = np.empty_like(flat)
        launch(back, blocks, THREADS, flat, contiguous(g).reshape(-1), dx)
        return dx.reshape(shape)

    return y.reshape(shape), backward

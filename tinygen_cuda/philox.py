"""Random numbers by Philox (Salmon et al. 2011): uniform, normal, and dropout; four numbers per thread.

A sequential generator (each state computed from the one before) cannot run in parallel. Philox is
counter-based: thread i computes the four words of counter i from the counter and the key alone.
With N numbers and Q = N/4 threads, rounded up,

    thread      0  1  2 ... Q-1
    word 0      0  1  2 ... Q-1         thread i writes the entries i, i + Q, i + 2·Q, i + 3·Q:
    word 1      Q ...                   neighboring threads write neighboring entries
    word 2      2·Q ...
    word 3      3·Q ... N-1

The function itself is `tinygen.ops.random.philox`, which NumPy runs too: Numba compiles the same source.

    bytes moved   4·N written; dropout 4·N read and 4·N written, forward and backward: no mask is stored
    operations    per thread, twenty products of 32 by 32 bits; per two normal numbers, a logarithm, a square
                  root, a sine and a cosine
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.random import Seed, philox
from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch

SHORT = np.uint64(8)  # of a word's 32 bits, the lowest 8, which do not fit into float32's 24 digits
STEP, FINE, HALF_FINE = np.float32(2**-24), np.float32(2**-32), np.float32(2**-33)
TURN, ONE, TWO, ZERO = np.float32(2 * math.pi), np.float32(1), np.float32(2), np.uint64(0)
QUADRANT, WITHIN, HALF_TURN, ODD = np.uint64(30), np.uint64(2**30 - 1), np.uint64(2), np.uint64(1)

four_words = cuda.jit(device=True)(philox)


@cuda.jit(device=True)
def fraction(word):
    """A word as a number in [0, 1)."""
    return float32(word >> SHORT) * STEP


@cuda.jit(device=True)
def radius(word):
    """The radius of the Box-Muller transform: sqrt(-2 log u) with u in (0, 1] from the word."""
    return math.sqrt(-TWO * math.log(float32(word) * FINE + HALF_FINE))


@cuda.jit(device=True)
def direction(word):
    """Cosine and sine of the angle 2π·fraction(word), the direction of the Box-Muller transform. Two bits of
    the word choose the quadrant; the others are the angle within it, for which a few terms of the Taylor
    series suffice. `math.cos` must handle angles of any size, and uses float64 for that."""
    quadrant, x = word >> QUADRANT, TURN * fraction(word & WITHIN)
    c = s = ONE
    for k in range(12, 0, -2):
        c = ONE - x * x / float32(k * (k - 1)) * c
        s = ONE - x * x / float32(k * (k + 1)) * s
    s *= x
    if quadrant & HALF_TURN:
        c, s = -c, -s
    if quadrant & ODD:
        c, s = -s, c
    return c, s


@cuda.jit
def uniform_words(y, quarter, key0, key1):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < quarter:
        words = four_words(np.uint64(i), ZERO, ZERO, ZERO, key0, key1)
        for j in range(4):
            if j * quarter + i < y.shape[0]:
                y[j * quarter + i] = fraction(words[j])


@cuda.jit
def normal_words(y, quarter, key0, key1):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < quarter:
        words = four_words(np.uint64(i), ZERO, ZERO, ZERO, key0, key1)
        for j in range(0, 4, 2):
            far, (c, s) = radius(words[j]), direction(words[j + 1])
            if j * quarter + i < y.shape[0]:
                y[j * quarter + i] = far * c
            if (j + 1) * quarter + i < y.shape[0]:
                y[(j + 1) * quarter + i] = far * s


@cuda.jit
def dropped_words(x, y, quarter, p, scale, key0, key1):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < quarter:
        words = four_words(np.uint64(i), ZERO, ZERO, ZERO, key0, key1)
        for j in range(4):
            k = j * quarter + i
            if k < y.shape[0]:
                y[k] = x[k] * scale if fraction(words[j]) >= p else x[k] * float32(0)


def run(kernel: Any, y: Array, seed: Seed, *numbers: Any, before: tuple[Array, ...] = ()) -> None:
    quarter = -(-y.size // 4)
    launch(kernel, -(-quarter // THREADS), THREADS, *before, y, quarter, *numbers, *seed.words())


def draw(kernel: Any, like: Array, shape: tuple[int, ...], seed: Seed) -> tuple[Array]:
    y = np.empty_like(like, shape=math.prod(shape), dtype=np.float32)
    if y.size:
        run(kernel, y, seed)
    return (y.reshape(shape),)


def uniform(like: Array, shape: tuple[int, ...], seed: Seed) -> tuple[Array]:
    """As `tinygen.ops.random.uniform`."""
    return draw(uniform_words, like, shape, seed)


def normal(like: Array, shape: tuple[int, ...], seed: Seed) -> tuple[Array]:
    """As `tinygen.ops.random.normal`."""
    return draw(normal_words, like, shape, seed)


def apply_dropout(x: Array, p: float, seed: int) -> Any:
    """As `tinygen.ops.activation.apply_dropout`, which handles masks from a NumPy generator.
    Backward runs the same kernel: it draws the mask again from the same seed."""
    if not isinstance(seed, Seed):
        return NotImplemented

    def apply_mask(x: Array) -> Array:
        flat = contiguous(x).reshape(-1)
        y = np.empty_like(flat)
        run(dropped_words, y, seed, np.float32(p), np.float32(1 / (1 - p)), before=(flat,))
        return y.reshape(x.shape)

    return apply_mask(x), apply_mask

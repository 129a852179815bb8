"""Convolution with a kernel of 3 by 3, stride 1 and padding 1, with a quarter of the multiplications.

Winograd 1980, *Arithmetic Complexity of Computations*; Lavin & Gray 2016, *Fast algorithms for convolutional
neural networks* (arXiv:1509.09308), their F(4×4, 3×3): four outputs of a kernel with three taps are
computed from products of polynomials at six points, with six multiplications instead of twelve; in two
dimensions 36 instead of 144. With matrices,

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A

for a patch x of 6 by 6 and the tile y of 4 by 4 that it gives. Summed over the input channels, ⊙ is a
product of matrices (out, in) (in, tiles) for each of the 36 positions. The weight's gradient is the
transpose of this whole map, Gᵀ [(A g Aᵀ) ⊙ (Bᵀ x B)] G, with products (out, tiles) (tiles, in).

The points are 0, ±5/8, ±3/2 and ∞: with Lavin and Gray's 0, ±1, ±2, ∞ the error is five times as large. The
error is about 2e-6 of the largest value; a plain sum of products has 5e-7.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinygen.kernels.compiled.blas import (
    ONE,
    SGEMM,
    ZERO,
    call_sgemm,
    gemm_nt,
    gemm_tn,
    restore_threads,
    use_one_thread,
)
from tinygen.kernels.compiled.blas import N as PLAIN
from tinygen.kernels.compiled.blas import T as TRANSPOSED
from tinygen.kernels.compiled.compile import PARTS, kernel
from tinygen.kernels.compiled.winograd_tiles import (
    TILES,
    WIDE,
    WORK,
    P,
    Q,
    borders,
    gradient_patches,
    patches,
    tiles,
)
from tinygen.tensor import Array

PITCH = 37 * TILES  # between the 36 rows of two channels; 36 · TILES would use only a few cache lines
LONG = 37 * WIDE  # the same for four blocks side by side
SMALL = 10**6  # up to this number of multiplications, OpenBLAS reads matrices directly, without packing them
ENOUGH = 1024  # positions in all images, from which on the weight's transform is worth its time
CHUNK = 2**19  # floats of transformed maps at a time, for the weight's gradient: they fit into the cache


def evaluation() -> Array:
    """G ⊗ G (36, 9): a kernel's values at the points, over the denominators of Lagrange's formula."""
    points = (0, P, -P, Q, -Q)
    rows = [[p**k / np.prod([p - q for q in points if q != p]) for k in range(3)] for p in points]
    g = np.array([*rows, [0, 0, 1]])
    return np.kron(g, g).astype(np.float32)


EVALUATION = evaluation()
TURNED = np.ascontiguousarray(EVALUATION[:, ::-1])  # of the kernel by 180 degrees


@kernel
def convolve_maps(sgemm, x, weight, matrix, turned, bias, u, y, part, scratch):
    """y (N, out, H, W) for x (N, in, H, W) and weight (out, in, 3, 3), or, if `turned`, (in, out, 3, 3).
    u (36, pairs of channels) is G w Gᵀ by the matrix G ⊗ G; `part` of the channels out are done at a time."""
    (images, channels, height, width), out, parts = x.shape, y.shape[1], len(scratch)
    across, lines = (width + 3) // 4, images * ((height + 3) // 4)
    full = TILES // across  # rows of tiles in a block
    blocks = (lines + full - 1) // full
    pairs, from_u = out * channels, u.ctypes.data
    flag, lda, step = (TRANSPOSED, out, 1) if turned else (PLAIN, channels, channels)
    before = use_one_thread(sgemm)
    for i in prange(parts):
        start, stop = pairs * i // parts, pairs * (i + 1) // parts
        a, b, c = matrix.ctypes.data, weight.ctypes.data + 36 * start, from_u + 4 * start
        if stop > start:
            gemm_nt(sgemm, 36, stop - start, 9, ONE, a, 9, b, 9, ZERO, c, pairs)
    for i in prange(parts):
        left, right, mine = scratch[i, :TILES], scratch[i, TILES : 2 * TILES], scratch[i, 2 * TILES :]
        work, v, m = mine[:WORK], mine[WORK : WORK + channels * PITCH], mine[WORK + channels * PITCH :]
        borders(across, left, right)
        for block in range(blocks * i // parts, blocks * (i + 1) // parts):
            first = block * full
            number = min(full, lines - first)
            for channel in range(channels):
                into = v[channel * PITCH : (channel + 1) * PITCH]
                patches(x, channel, first, number, across, left, right, work, into, TILES)
            for o in range(0, out, part):
                count = min(part, out - o)
                for p in range(36):
                    a, at = from_u + 4 * (p * pairs + o * step), p * TILES
                    b, c, k = v[at:].ctypes.data, m[at:].ctypes.data, channels
                    call_sgemm(sgemm, PLAIN, flag, TILES, count, k, ONE, b, PITCH, a, lda, ZERO, c, PITCH)
                for k in range(count):
                    of = m[k * PITCH : (k + 1) * PITCH]
                    tiles(of, y, o + k, bias[o + k], first, number, across, work)
    restore_threads(sgemm, before)


@kernel
def correlate_maps(sgemm, x, g, some, v, s, u, matrix, weight, scratch):
    """weight (out, in, 3, 3) = Gᵀ u G for u (36, out, in), the products over all tiles of x (N, in, H, W) and
    g (N, out, H, W). v and s (some / 4, channels, LONG) hold `some` blocks of the two, transformed."""
    (images, channels, height, width), out, parts = x.shape, g.shape[1], len(scratch)
    across, lines = (width + 3) // 4, images * ((height + 3) // 4)
    full, both, pairs = TILES // across, channels + out, channels * out
    blocks = (lines + full - 1) // full
    before = use_one_thread(sgemm)
    for start in range(0, blocks, some):
        here = min(some, blocks - start)
        for i in prange(parts):
            left, right, work = scratch[i, :TILES], scratch[i, TILES : 2 * TILES], scratch[i, 2 * TILES :]
            borders(across, left, right)
            for job in range(here * both * i // parts, here * both * (i + 1) // parts):
                block, channel = job // both, job % both
                first = (start + block) * full
                number = min(full, lines - first)
                if channel < channels:
                    into = v[block // 4, channel, block % 4 * TILES :]
                    patches(x, channel, first, number, across, left, right, work, into, WIDE)
                else:
                    into = s[block // 4, channel - channels, block % 4 * TILES :]
                    gradient_patches(g, channel - channels, first, number, across, work, into, WIDE)
        for i in prange(parts):
            for p in range(36 * i // parts, 36 * (i + 1) // parts):
                c = u.ctypes.data + 4 * p * pairs
                for four in range((here + 3) // 4):
                    a, b = s[four, 0, p * WIDE :].ctypes.data, v[four, 0, p * WIDE :].ctypes.data
                    depth, beta = min(WIDE, TILES * (here - 4 * four)), ONE if start + four > 0 else ZERO
                    gemm_nt(sgemm, out, channels, depth, ONE, a, LONG, b, LONG, beta, c, channels)
    for i in prange(parts):
        start, stop = pairs * i // parts, pairs * (i + 1) // parts
        a, b, c = u.ctypes.data + 4 * start, matrix.ctypes.data, weight.ctypes.data + 36 * start
        if stop > start:
            gemm_tn(sgemm, stop - start, 9, 36, ONE, a, pairs, b, 9, ZERO, c, 9)
    restore_threads(sgemm, before)


# -- calls from Python -----------------------------------------------------------------------------


def is_faster(shape: tuple[int, ...], out: int) -> bool:
    """Whether Winograd's algorithm is faster for maps (N, C, H, W). With few channels the transforms of the
    maps cost more than they save; with few positions, the transform of the weight does."""
    images, channels, height, width = shape
    enough = images * height * width >= ENOUGH
    return enough and channels * out >= 48 and min(channels, out) >= 3 and width <= WIDE


def convolve(x: Array, weight: Array, bias: Array, turned: bool = False) -> Array:
    """x (N, in, H, W), weight (out, in, 3, 3), bias (out) -> (N, out, H, W); if `turned`, by the transpose
    of the convolution with weight (in, out, 3, 3)."""
    channels, out = x.shape[1], len(bias)
    part = -(-out // -(-out * channels * TILES // SMALL))
    u, y = np.empty((36, out * channels), np.float32), np.empty((len(x), out, *x.shape[2:]), np.float32)
    scratch = np.empty((PARTS, 2 * TILES + WORK + (channels + part) * PITCH), np.float32)
    convolve_maps(SGEMM, x, weight, TURNED if turned else EVALUATION, turned, bias, u, y, part, scratch)
    return y


def correlate(x: Array, g: Array) -> Array:
    """x (N, in, H, W), g (N, out, H, W) -> the weight's gradient (out, in, 3, 3)."""
    channels, out = x.shape[1], g.shape[1]
    fours = max(1, CHUNK // ((channels + out) * LONG))
    v, s = (np.empty((fours, c, LONG), np.float32) for c in (channels, out))
    u, weight = np.empty((36, out, channels), np.float32), np.empty((out, channels, 3, 3), np.float32)
    scratch = np.empty((PARTS, 2 * TILES + WORK), np.float32)
    correlate_maps(SGEMM, x, g, 4 * fours, v, s, u, EVALUATION, weight, scratch)
    return weight

"""Convolution with a kernel of 3 by 3, stride 1 and padding 1, with a quarter of the multiplications.

The algorithm and its matrices are in `kernels/winograd.py`. Here the transforms of the maps are sums in
registers (`winograd_tiles.py`), and so are those of the weights (`winograd_weights.py`).
"""

from __future__ import annotations

import numpy as np

from tinygen.kernels.compiled.blas import ONE, SGEMM, ZERO, OneThread, call_sgemm, gemm_nt
from tinygen.kernels.compiled.blas import N as PLAIN
from tinygen.kernels.compiled.blas import T as TRANSPOSED
from tinygen.kernels.compiled.compile import PARTS, parallel
from tinygen.kernels.compiled.winograd_tiles import (
    TILES,
    WIDE,
    WORK,
    borders,
    gradient_patches,
    patches,
    tiles,
)
from tinygen.kernels.compiled.winograd_weights import ROOM, transform_weight, weight_gradient
from tinygen.tensor import Array

PITCH = 37 * TILES  # between the 36 rows of two channels; 36 · TILES would use only a few cache lines
LONG = 37 * WIDE  # the same for four blocks side by side
SMALL = 10**6  # up to this number of multiplications, OpenBLAS reads matrices directly, without packing them
ENOUGH = 1024  # positions in all images, from which on the weight's transform is worth its time
CHANNELS = 8  # from which on the transforms of the maps are worth their time
PAIRS = 2**20  # channels in · out: the transformed weight has 151 MB
CHUNK = 2**19  # floats of transformed maps at a time, for the weight's gradient: they fit into the cache


@parallel
def convolve_maps(i, sgemm, x, u, turned, bias, y, part, scratch):
    """y (N, out, H, W) for x (N, in, H, W) and the transformed weight u (36, out · in), or, if `turned`,
    (36, in · out); `part` of the channels out are done at a time."""
    (images, channels, height, width), out, parts = x.shape, y.shape[1], len(scratch)
    across, lines = (width + 3) // 4, images * ((height + 3) // 4)
    full = TILES // across  # rows of tiles in a block
    blocks = (lines + full - 1) // full
    pairs, from_u = out * channels, u.ctypes.data
    flag, lda, step = (TRANSPOSED, out, 1) if turned else (PLAIN, channels, channels)
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


@parallel
def transform_maps(i, x, g, start, here, v, s, scratch):
    """v and s (some / 4, channels, LONG): `here` blocks, from `start` on, of the tiles of x (N, in, H, W) and
    of g (N, out, H, W), transformed."""
    (images, channels, height, width), out, parts = x.shape, g.shape[1], len(scratch)
    across, lines = (width + 3) // 4, images * ((height + 3) // 4)
    full, both = TILES // across, channels + out
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


@parallel
def multiply_maps(i, sgemm, start, here, v, s, u, shares):
    """u (36, out, in) = the products of `here` blocks of s and v; after the first blocks (`start` = 0) they
    are added."""
    channels, out = v.shape[1], s.shape[1]
    for p in range(36 * i // shares, 36 * (i + 1) // shares):
        c = u.ctypes.data + 4 * p * channels * out
        for four in range((here + 3) // 4):
            a, b = s[four, 0, p * WIDE :].ctypes.data, v[four, 0, p * WIDE :].ctypes.data
            depth, beta = min(WIDE, TILES * (here - 4 * four)), ONE if start + four > 0 else ZERO
            gemm_nt(sgemm, out, channels, depth, ONE, a, LONG, b, LONG, beta, c, channels)


# -- calls from Python -----------------------------------------------------------------------------


def is_faster(shape: tuple[int, ...], out: int) -> bool:
    """Whether Winograd's algorithm is faster for maps (N, C, H, W). With few channels the transforms of the
    maps cost more than they save; with few positions, the transform of the weight does, and so it does if the
    transformed weight is larger than the cache."""
    images, channels, height, width = shape
    enough = images * height * width >= ENOUGH
    return enough and min(channels, out) >= CHANNELS and channels * out <= PAIRS and width <= WIDE


def convolve(x: Array, weight: Array, bias: Array, turned: bool = False) -> Array:
    """x (N, in, H, W), weight (out, in, 3, 3), bias (out) -> (N, out, H, W); if `turned`, by the transpose
    of the convolution with weight (in, out, 3, 3)."""
    channels, out = x.shape[1], len(bias)
    part = -(-out // -(-out * channels * TILES // SMALL))
    u, y = np.empty((36, out * channels), np.float32), np.empty((len(x), out, *x.shape[2:]), np.float32)
    scratch = np.empty((PARTS, 2 * TILES + WORK + (channels + part) * PITCH), np.float32)
    with OneThread():
        transform_weight(PARTS, weight.reshape(-1), turned, u, np.empty((PARTS, ROOM), np.float32))
        convolve_maps(PARTS, SGEMM, x, u, turned, bias, y, part, scratch)
    return y


def correlate(x: Array, g: Array) -> Array:
    """x (N, in, H, W), g (N, out, H, W) -> the weight's gradient (out, in, 3, 3)."""
    channels, out = x.shape[1], g.shape[1]
    fours = max(1, CHUNK // ((channels + out) * LONG))
    v, s = (np.empty((fours, c, LONG), np.float32) for c in (channels, out))
    u, weight = np.empty((36, out, channels), np.float32), np.empty((out, channels, 3, 3), np.float32)
    scratch = np.empty((PARTS, 2 * TILES + WORK), np.float32)
    across, lines = -(-x.shape[3] // 4), len(x) * -(-x.shape[2] // 4)
    blocks = -(-lines // (TILES // across))
    with OneThread():
        for start in range(0, blocks, 4 * fours):
            here = min(4 * fours, blocks - start)
            transform_maps(PARTS, x, g, start, here, v, s, scratch)
            multiply_maps(PARTS, SGEMM, start, here, v, s, u, PARTS)
        weight_gradient(PARTS, u.reshape(36, -1), weight.reshape(-1), np.empty((PARTS, ROOM), np.float32))
    return weight

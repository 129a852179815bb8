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

Here both transforms are products, too, with the matrices Bᵀ ⊗ Bᵀ and Aᵀ ⊗ Aᵀ, for a few images at a time.
The compiled kernels (`compiled/winograd.py`) have the same matrices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.registry import are_float32, kernels
from tinygen.ops import conv
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

P, Q = 5 / 8, 3 / 2
POINTS = (0, P, -P, Q, -Q)  # and ∞
SAME = Geometry((1, 1), (1, 1), (1, 1), 1)
ENOUGH = 1024  # positions in all images, from which on the weight's transform is worth its time
CHANNELS = 16  # with fewer, the transforms of the maps cost more than they save
CACHED = 2**21


def transforms() -> tuple[Array, Array, Array]:
    """G ⊗ G (36, 9): a kernel's values at the points, over the denominators of Lagrange's formula.
    Bᵀ ⊗ Bᵀ (36, 36): for each point, the coefficients of the polynomial that is 0 at the other points.
    Aᵀ ⊗ Aᵀ (16, 36): the powers of the points."""
    others = [(p, [q for q in POINTS if q != p]) for p in POINTS]
    values = [[p**k / np.prod([p - q for q in rest]) for k in range(3)] for p, rest in others]
    zeros = [[*np.poly(rest)[::-1], 0] for _, rest in others]
    powers = [[*(p**k for p in POINTS), int(k == 3)] for k in range(4)]
    g, b, a = (np.array(rows) for rows in ([*values, [0, 0, 1]], [*zeros, np.poly(POINTS)[::-1]], powers))
    g, b, a = (np.kron(matrix, matrix).astype(np.float32) for matrix in (g, b, a))
    return g, b, a


WEIGHT, MAPS, TILES = transforms()
TURNED = np.ascontiguousarray(WEIGHT[:, ::-1])  # of the kernel by 180 degrees


def is_faster(shape: Sizes, out: int) -> bool:
    """Whether this algorithm is the faster way for maps (N, C, H, W)."""
    return shape[0] * shape[2] * shape[3] >= ENOUGH and min(shape[1], out) >= CHANNELS


def suits(kernel: Sizes, geometry: Geometry, shape: Sizes, out: int) -> bool:
    return kernel == (3, 3) and geometry == SAME and is_faster(shape, out)


class Maps:
    """The tiles of maps (N, C, H, W), for some images at a time, T tiles. Their channels are innermost, so
    that a patch is copied by whole pixels."""

    def __init__(self, shape: Sizes, most: int) -> None:
        self.size, self.tiles = shape[2:], (-(-shape[2] // 4), -(-shape[3] // 4))
        count = min(max(CACHED // (36 * most * math.prod(self.tiles)), 1), shape[0])
        self.blocks = [slice(n, min(n + count, shape[0])) for n in range(0, shape[0], count)]

    def patches(self, x: Array) -> Array:
        """Bᵀ x B (36, T, C)."""
        (n, channels, height, width), (down, across) = x.shape, self.tiles
        padded = np.zeros((4 * down + 2, 4 * across + 2, n, channels), np.float32)
        padded[1 : 1 + height, 1 : 1 + width] = x.transpose(2, 3, 0, 1)
        found = np.empty((6, 6, down, across, n, channels), np.float32)
        for i, j in np.ndindex(6, 6):
            found[i, j] = padded[i : i + 4 * down : 4, j : j + 4 * across : 4]
        return (MAPS @ found.reshape(36, -1)).reshape(36, -1, channels)

    def gradient_patches(self, g: Array) -> Array:
        """A g Aᵀ (36, T, out)."""
        (n, out), (down, across) = g.shape[:2], self.tiles
        found = np.zeros((4, 4, down, across, n, out), np.float32)
        for i, j in np.ndindex(4, 4):
            part = g[:, :, i::4, j::4].transpose(2, 3, 0, 1)
            found[i, j, : len(part), : part.shape[1]] = part
        return (TILES.T @ found.reshape(16, -1)).reshape(36, -1, out)

    def write(self, products: Array, bias: Array | None, y: Array) -> None:
        """y (N, out, H, W) = Aᵀ m A + bias for the products m (36, T, out)."""
        n, out = y.shape[:2]
        found = (TILES @ products.reshape(36, -1)).reshape(16, -1, out)
        if bias is not None:
            found += bias
        found = found.reshape(4, 4, *self.tiles, n, out)
        for i, j in np.ndindex(4, 4):
            part = y[:, :, i::4, j::4].transpose(2, 3, 0, 1)
            part[...] = found[i, j, : len(part), : part.shape[1]]


def convolve(x: Array, transformed: Array, bias: Array | None) -> Array:
    """x (N, in, H, W), the transformed weight (36, in, out), bias (out) -> (N, out, H, W)."""
    channels, out = transformed.shape[1:]
    y, maps = np.empty((len(x), out, *x.shape[2:]), np.float32), Maps(x.shape, max(out, channels))
    for block in maps.blocks:
        maps.write(maps.patches(x[block]) @ transformed, bias, y[block])
    return y


@kernels.register(conv.convolution)
def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> Any:
    size, kernel, (out, enter) = x.shape[2:], weight.shape[2:], weight.shape[:2]
    if not (are_float32(weight, bias) and suits(kernel, geometry, x.shape, out)):
        return NotImplemented
    return (
        convolve(x, (WEIGHT @ weight.reshape(-1, 9).T).reshape(36, out, enter).swapaxes(1, 2), bias),
        lambda g: conv.transposed_convolution(g, weight, None, size, geometry),
        lambda g: conv.correlation(x, g, kernel, geometry),
        conv.sum_over_positions,
    )


@kernels.register(conv.transposed_convolution)
def transposed_convolution(
    y: Array, weight: Array, bias: Array | None, size: Sizes, geometry: Geometry
) -> Any:
    kernel, (out, enter) = weight.shape[2:], weight.shape[:2]
    fits = size == y.shape[2:] and suits(kernel, geometry, y.shape, enter)
    if not (are_float32(weight, bias) and fits):
        return NotImplemented
    transformed = (TURNED @ weight.reshape(-1, 9).T).reshape(36, out, enter)
    return (
        convolve(y, transformed, bias),
        lambda g: conv.convolution(g, weight, None, geometry),
        lambda g: conv.correlation(g, y, kernel, geometry),
        conv.sum_over_positions,
    )


@kernels.register(conv.correlation)
def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> Any:
    size, out, channels = x.shape[2:], y.shape[1], x.shape[1]
    if not (are_float32(y) and size == y.shape[2:] and suits(kernel, geometry, x.shape, out)):
        return NotImplemented
    maps, total = Maps(x.shape, max(out, channels)), np.zeros((36, out, channels), np.float32)
    for block in maps.blocks:
        total += maps.gradient_patches(y[block]).swapaxes(1, 2) @ maps.patches(x[block])
    return (
        (total.reshape(36, -1).T @ WEIGHT).reshape(out, channels, 3, 3),
        lambda g: conv.transposed_convolution(y, g, None, size, geometry),
        lambda g: conv.convolution(x, g, None, geometry),
    )

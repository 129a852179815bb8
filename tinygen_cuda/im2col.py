"""Convolution as one matrix product with the columns of `unfold` (im2col); and `fold` (col2im), its
transpose.

`unfold`: one thread per entry of the columns. Neighboring threads have neighboring positions of one channel
and tap: their writes are coalesced, and with a stride of 1 their reads too.

                              positions, of all samples
    x (N, C, H, W)           +-------------------------+
    +--------+               | channel 0, tap 0,0      |
    |  3x3   |     ->        | channel 0, tap 0,1      |      (C · taps, N · positions)
    |   tap  |               | ...                     |
    +--------+               +-------------------------+

`fold` adds every entry of the columns to the entry of the map from which `unfold` read it. It is written as a
gather: one thread per entry of the map sums at most kh·kw entries of the columns, in order. Without atomics,
the result is deterministic.

    bytes moved   unfold 4·n/taps to 4·n read, 4·n written, n = C·taps·N·positions; fold the reverse
    operations    index arithmetic only: about twenty integer operations per entry

The matrix product does 2·n·out operations: with out = 128 output channels, 64 for each byte of the columns.
So the product takes most of the time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.conv import channel_rows, kernel_rows, sum_over_positions
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, contiguous, cuda, float32, launch, supports


@cuda.jit
def unfold_entries(x, columns, kernel, positions, stride, padding, dilation):
    """x (N, C, H, W) -> columns (C · taps, N · positions)."""
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    n, _, height, width = x.shape
    across = n * positions[0] * positions[1]
    if i < columns.shape[0] * across:
        row, column = i // across, i % across
        channel, tap = row // (kernel[0] * kernel[1]), row % (kernel[0] * kernel[1])
        sample, place = column // (positions[0] * positions[1]), column % (positions[0] * positions[1])
        y = place // positions[1] * stride[0] + tap // kernel[1] * dilation[0] - padding[0]
        z = place % positions[1] * stride[1] + tap % kernel[1] * dilation[1] - padding[1]
        inside = y >= 0 and y < height and z >= 0 and z < width
        columns[row, column] = x[sample, channel, y, z] if inside else float32(0)


@cuda.jit
def fold_entries(columns, x, kernel, positions, stride, padding, dilation):
    """columns (C · taps, N · positions) -> x (N, C, H, W)."""
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    n, channels, height, width = x.shape
    if i < n * channels * height * width:
        z, y = i % width, i // width % height
        channel, sample = i // (width * height) % channels, i // (width * height * channels)
        total = float32(0)
        for a in range(kernel[0]):
            for b in range(kernel[1]):
                up, left = y + padding[0] - a * dilation[0], z + padding[1] - b * dilation[1]
                if up >= 0 and left >= 0 and up % stride[0] == 0 and left % stride[1] == 0:
                    p, q = up // stride[0], left // stride[1]
                    if p < positions[0] and q < positions[1]:
                        row = (channel * kernel[0] + a) * kernel[1] + b
                        total += columns[row, (sample * positions[0] + p) * positions[1] + q]
        x[sample, channel, y, z] = total


def unfold(x: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """As `tinygen.ops.window.unfold`: x (N, C, H, W) -> (groups, C/groups · taps, N · positions)."""
    n, channels, *size = x.shape
    positions, taps = geometry.positions(tuple(size), kernel), math.prod(kernel)
    columns = np.empty_like(x, shape=(channels * taps, n * math.prod(positions)))
    numbers = kernel, positions, geometry.stride, geometry.padding, geometry.dilation
    launch(unfold_entries, -(-columns.size // THREADS), THREADS, contiguous(x), columns, *numbers)
    return columns.reshape(geometry.groups, -1, columns.shape[1])


def fold(columns: Array, batch: int, size: Sizes, kernel: Sizes, geometry: Geometry) -> Array:
    """As `tinygen.ops.window.fold`: -> (N, C, H, W)."""
    columns = contiguous(columns).reshape(-1, columns.shape[-1])
    x = np.empty_like(columns, shape=(batch, len(columns) // math.prod(kernel), *size))
    positions = geometry.positions(size, kernel)
    numbers = kernel, positions, geometry.stride, geometry.padding, geometry.dilation
    launch(fold_entries, -(-x.size // THREADS), THREADS, columns, x, *numbers)
    return x


# -- the three ops, as in tinygen/ops/conv.py ------------------------------------------------------


def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> Any:
    if not supports(x, weight, bias) or x.ndim != 4:
        return NotImplemented
    size, kernel = x.shape[2:], weight.shape[2:]
    y = product(kernel_rows(weight, geometry.groups), unfold(x, kernel, geometry))
    if bias is not None:
        y += bias.reshape(geometry.groups, -1, 1)
    y = y.reshape(len(weight), len(x), *geometry.positions(size, kernel))
    return (
        y.swapaxes(0, 1).copy(),
        lambda g: transposed_convolution(g, weight, None, size, geometry)[0],
        lambda g: correlation(x, g, kernel, geometry)[0],
        sum_over_positions,
    )


def transposed_convolution(
    y: Array, weight: Array, bias: Array | None, size: Sizes, geometry: Geometry
) -> Any:
    if not supports(y, weight, bias) or y.ndim != 4:
        return NotImplemented
    kernel, groups = weight.shape[2:], geometry.groups
    columns = product(kernel_rows(weight, groups).swapaxes(-1, -2), channel_rows(y, groups))
    x = fold(columns, len(y), size, kernel, geometry)
    if bias is not None:
        x += bias.reshape(-1, 1, 1)
    return (
        x,
        lambda g: convolution(g, weight, None, geometry)[0],
        lambda g: correlation(g, y, kernel, geometry)[0],
        sum_over_positions,
    )


def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> Any:
    if not supports(x, y) or x.ndim != 4:
        return NotImplemented
    size, groups = x.shape[2:], geometry.groups
    weight = product(channel_rows(y, groups), unfold(x, kernel, geometry).swapaxes(-1, -2))
    return (
        weight.reshape(y.shape[1], x.shape[1] // groups, *kernel),
        lambda g: transposed_convolution(y, g, None, size, geometry)[0],
        lambda g: convolution(x, g, None, geometry)[0],
    )


def product(a: Array, b: Array) -> Array:
    """a @ b, both (groups, ...). With one group they are multiplied as plain matrices: CuPy passes a
    transposed matrix to cuBLAS without a copy, but copies a transposed stack of matrices."""
    return (a[0] @ b[0])[None] if len(a) == 1 else a @ b

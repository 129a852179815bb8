"""The three ops of convolution: matrix products with columns (`columns.py`), for a block of positions at a
time (`cuts.py`). Some geometries have a faster way. A kernel of 3 by 3 on large maps: Winograd's algorithm.
A kernel of one tap: the columns are the map itself. A kernel as large as the map: a map is one column, and
one product computes all. Channels that are convolved by themselves, as in average pooling, have no product:
the definition computes them.

A map with one axis is treated as a map with two axes and a height of 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled import winograd
from tinygen.kernels.compiled.blas import ZERO
from tinygen.kernels.compiled.columns import add_columns, join_images, split_images, write_columns
from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.compiled.cuts import blocks
from tinygen.kernels.compiled.linear import product
from tinygen.kernels.registry import are_float32
from tinygen.ops import conv
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

SAME = Geometry((1, 1), (1, 1), (1, 1), 1)  # with a kernel of 3 by 3, Winograd's algorithm


@parallel
def channel_sums(c, g, total):
    """total (C) of g (N, C, positions), in float64: there may be many images."""
    for n in range(len(g)):
        line, one = g[n, c], ZERO
        for k in range(line.size):
            one += line[k]
        total[c] += one


# -- calls from Python -----------------------------------------------------------------------------


def planes(x: Array) -> Array:
    """x as (N, C, H, W)."""
    return as_contiguous(x if x.ndim == 4 else x[:, :, None])


def layout_of(geometry: Geometry) -> Array:
    """Stride, padding and dilation along two axes, (3, 2)."""
    stride, padding, dilation = geometry[:3]
    return np.array([(1, *stride)[-2:], (0, *padding)[-2:], (1, *dilation)[-2:]])


def channels_of(groups: int, enter: int, leave: int) -> list[tuple[range, range]]:
    """The channels of each group, of x and of y."""
    m, n = enter // groups, leave // groups
    return [(range(m * g, m * g + m), range(n * g, n * g + n)) for g in range(groups)]


def is_direct(kernel: Sizes, geometry: Geometry) -> bool:
    """Whether the columns of x are x itself."""
    return max(kernel) == 1 and max(geometry.stride) == 1 and max(geometry.padding) == 0


def join_channels(y: Array, channels: range, first: int, lines: int) -> Array:
    """Some channels and lines of y (n, C, h, w) as a matrix (channels, positions · n)."""
    some, line = slice(channels.start, channels.stop), slice(first, first + lines)
    if len(y) == 1:
        return as_contiguous(y[0, some, line]).reshape(len(channels), -1)
    matrix = np.empty((len(channels), lines * y.shape[3] * len(y)), np.float32)
    join_images(len(channels), y, channels.start, first, matrix)
    return matrix


def columns_of(
    x: Array, channels: range, kernel: Sizes, geometry: Geometry, first: int, lines: int, count: int
) -> Array:
    """The columns (channels · taps, positions · n) of some channels of x (n, C, H, W)."""
    if is_direct(kernel, geometry):
        return join_channels(x, channels, first, lines)
    maps, size = join_channels(x, channels, 0, x.shape[2]), (*x.shape[2:], len(x))
    columns = np.empty((len(channels) * math.prod(kernel), lines * count * len(x)), np.float32)
    options = (1, *kernel)[-2:], layout_of(geometry), first, lines, count
    write_columns(len(columns), maps, size, *options, columns)
    return columns


def add_columns_to(
    x: Array, channels: range, columns: Array, bias: Array, window: Sizes, options: tuple[Any, ...]
) -> None:
    """Add the columns to some channels of x (n, C, H, W), which begins with the bias (C)."""
    size, some = (*x.shape[2:], len(x)), slice(channels.start, channels.stop)
    if len(x) == 1:
        maps = x[0, some].reshape(len(channels), -1)
        add_columns(len(maps), columns, bias[some], maps, size, window, *options)
        return
    maps = np.empty((len(channels), math.prod(size)), np.float32)
    add_columns(len(maps), columns, np.zeros(len(maps), np.float32), maps, size, window, *options)
    split_images(len(maps), maps, bias, x, channels.start, 0)


def suits_winograd(kernel: Sizes, geometry: Geometry, shape: Sizes, out: int) -> bool:
    """Whether Winograd's algorithm takes maps (N, C, H, W), or (N, C, W), and is the faster way."""
    return kernel == (3, 3) and geometry == SAME and winograd.is_faster(shape, out)


def covers(kernel: Sizes, size: Sizes, geometry: Geometry) -> bool:
    """Whether the kernel has one position on maps of this size, and a tap for each entry: then the weight is
    a matrix."""
    plain = geometry.groups == 1 and max(geometry.dilation) == 1 and max(geometry.padding) == 0
    return plain and kernel == size


def sum_over_positions(g: Array) -> Array:
    """The gradient of a bias: (N, C, *size) -> (C)."""
    g, total = planes(g), np.zeros(g.shape[1])
    channel_sums(len(total), g.reshape(*g.shape[:2], -1), total)
    return total.astype(np.float32)


def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> Any:
    size, kernel = x.shape[2:], weight.shape[2:]
    positions = geometry.positions(size, kernel)
    out, groups = len(weight), geometry.groups
    if not (are_float32(weight, bias) and weight.size and min(positions) > 0) or groups == out == x.shape[1]:
        return NotImplemented
    xs, weights = planes(x), planes(weight)
    shift = np.zeros(out, np.float32) if bias is None else as_contiguous(bias)
    if covers(kernel, size, geometry):
        y = product(xs.reshape(len(x), -1), weights.reshape(out, -1), tb=True, bias=shift)
        y = y.reshape(len(x), out, *positions)
    elif suits_winograd(kernel, geometry, x.shape, out):
        y = winograd.convolve(xs, weights, shift)
    else:
        y = np.empty((len(x), out, *positions), np.float32)
        ys, matrices = planes(y), weights.reshape(groups, out // groups, -1)
        for some, first, lines in blocks(ys.shape, matrices.shape[2]):
            for group, (enter, leave) in enumerate(channels_of(groups, xs.shape[1], out)):
                columns = columns_of(xs[some], enter, kernel, geometry, first, lines, ys.shape[3])
                found = product(matrices[group], columns)
                split_images(len(found), found, shift, ys[some], leave.start, first)
    return (
        y,
        lambda g: conv.transposed_convolution(g, weight, None, size, geometry),
        lambda g: conv.correlation(x, g, kernel, geometry),
        sum_over_positions,
    )


def transposed_convolution(
    y: Array, weight: Array, bias: Array | None, size: Sizes, geometry: Geometry
) -> Any:
    kernel, (out, enter), groups = weight.shape[2:], weight.shape[:2], geometry.groups
    if not (are_float32(weight, bias) and weight.size and min(size) > 0) or groups == out == enter * groups:
        return NotImplemented
    ys, weights = planes(y), planes(weight)
    shift = np.zeros(enter * groups, np.float32) if bias is None else as_contiguous(bias)
    if covers(kernel, size, geometry):
        shift = np.repeat(shift, math.prod(size))
        x = product(ys.reshape(len(y), out), weights.reshape(out, -1), bias=shift)
        x = x.reshape(len(y), enter, *size)
    elif size == y.shape[2:] and suits_winograd(kernel, geometry, (len(y), enter, *size), out):
        x = winograd.convolve(ys, weights, shift, turned=True)
    else:
        x = np.empty((len(y), enter * groups, *size), np.float32)
        xs, matrices = planes(x), weights.reshape(groups, out // groups, -1)
        for some, first, lines in blocks(ys.shape, matrices.shape[2]):
            for group, (into, leave) in enumerate(channels_of(groups, enter * groups, out)):
                columns = product(matrices[group], join_channels(ys[some], leave, first, lines), ta=True)
                options = layout_of(geometry), first, lines, ys.shape[3]
                add_columns_to(xs[some], into, columns, shift, weights.shape[2:], options)
    return (
        x,
        lambda g: conv.convolution(g, weight, None, geometry),
        lambda g: conv.correlation(g, y, kernel, geometry),
        sum_over_positions,
    )


def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> Any:
    size, out, channels, groups = x.shape[2:], y.shape[1], x.shape[1], geometry.groups
    if not (are_float32(y) and y.size and min(kernel) > 0) or groups == out == channels:
        return NotImplemented
    xs, ys = planes(x), planes(y)
    if covers(kernel, size, geometry):
        weight = product(ys.reshape(len(y), out), xs.reshape(len(x), -1), ta=True)
        weight = weight.reshape(out, channels, *kernel)
    elif size == y.shape[2:] and suits_winograd(kernel, geometry, x.shape, out):
        weight = winograd.correlate(xs, ys)
    else:
        matrices = np.zeros((groups, out // groups, channels // groups * math.prod(kernel)), np.float32)
        for some, first, lines in blocks(ys.shape, matrices.shape[2]):
            for group, (enter, leave) in enumerate(channels_of(groups, channels, out)):
                columns = columns_of(xs[some], enter, kernel, geometry, first, lines, ys.shape[3])
                matrices[group] += product(join_channels(ys[some], leave, first, lines), columns, tb=True)
        weight = matrices.reshape(out, channels // groups, *kernel)
    return (
        weight,
        lambda g: conv.transposed_convolution(y, g, None, size, geometry),
        lambda g: conv.convolution(x, g, None, geometry),
    )

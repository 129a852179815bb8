"""The three ops of convolution. They use Winograd's algorithm if it is faster, else matrix products with
the columns of `ops/window.py`. A thread writes only as many columns at a time as fit into its cache. With a
convolution kernel of one tap, the columns are the map itself.

A map with one axis is treated as a map with two axes and a height of 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled import winograd
from tinygen.kernels.compiled.blas import (
    ONE,
    SGEMM,
    ZERO,
    gemm,
    gemm_nt,
    gemm_tn,
    restore_threads,
    use_one_thread,
)
from tinygen.kernels.compiled.compile import PARTS, contiguous, inner, kernel, parallel
from tinygen.kernels.registry import float32
from tinygen.ops import conv
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

COLUMNS = 2**18  # floats of columns that a thread writes at a time
CHANNELS = 16  # the least number of channels that `scatter` adds into at a time
SAME = Geometry((1, 1), (1, 1), (1, 1), 1)  # Winograd's algorithm needs this, and a kernel of 3 by 3


@inner
def range_inside(start, step, count, width):
    """The range of j in [0, count) for which start + step · j is in [0, width), as (first, last + 1)."""
    first = min(count, max(0, (step - 1 - start) // step))
    return first, max(first, min(count, (width - 1 - start) // step + 1))


@inner
def corner(tap, wide, first, layout):
    """The position on the map (row, column) that a tap reads for the first column of output row `first`. The
    convolution kernel has rows of `wide` taps."""
    stride, padding, dilation = layout[0], layout[1], layout[2]
    return stride[0] * first + tap // wide * dilation[0] - padding[0], tap % wide * dilation[1] - padding[1]


@inner
def read_tap(plane, at, steps, lines, count, seen):
    """seen (lines · count) gets the entries of a plane that one tap reads, starting at position `at`; 0
    outside."""
    down, right = at
    first, last = range_inside(right, steps[1], count, plane.shape[1])
    for i in range(lines):
        row, r = seen[i * count : (i + 1) * count], down + steps[0] * i
        if not 0 <= r < plane.shape[0]:
            for j in range(row.size):
                row[j] = ZERO
            continue
        before, after = row[:first], row[last:]
        for j in range(before.size):
            before[j] = ZERO
        for j in range(after.size):
            after[j] = ZERO
        middle, line = row[first:last], plane[r, right + steps[1] * first :]
        if steps[1] == 1:
            for j in range(middle.size):
                middle[j] = line[j]
        else:
            for j in range(middle.size):
                middle[j] = line[steps[1] * j]


@inner
def add_tap(plane, at, steps, lines, count, seen):
    """The transpose of `read_tap`: each entry of `seen` is added where `read_tap` reads it."""
    down, right = at
    first, last = range_inside(right, steps[1], count, plane.shape[1])
    for i in range(lines):
        r = down + steps[0] * i
        if 0 <= r < plane.shape[0]:
            middle, line = seen[i * count + first : i * count + last], plane[r, right + steps[1] * first :]
            if steps[1] == 1:
                for j in range(middle.size):
                    line[j] += middle[j]
            else:
                for j in range(middle.size):
                    line[steps[1] * j] += middle[j]


@kernel
def gather(sgemm, x, weight, bias, y, layout, groups, direct, lines, scratch):
    """y (N, out, h, w) = the convolution of x (N, in, H, W), `lines` rows of y at a time. If `direct`, the
    columns are x itself."""
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    wide, taps = weight.shape[3], weight.shape[2] * weight.shape[3]
    enter, leave, parts = channels // groups, out // groups, len(scratch)
    depth, blocks = enter * taps, (height + lines - 1) // lines
    jobs = images * groups * blocks
    before = use_one_thread(sgemm)
    for i in prange(parts):
        for job in range(jobs * i // parts, jobs * (i + 1) // parts):
            n, group, first = job // blocks // groups, job // blocks % groups, job % blocks * lines
            count = min(lines, height - first)
            size = count * width
            b, ldb = x[n, group * enter, first if direct else 0 :].ctypes.data, height * width
            if not direct:
                b, ldb = scratch[i].ctypes.data, size
                for row in range(depth):
                    plane, at = x[n, group * enter + row // taps], corner(row % taps, wide, first, layout)
                    read_tap(plane, at, layout[0], count, width, scratch[i, row * size : (row + 1) * size])
            for o in range(group * leave, (group + 1) * leave):
                for r in range(first, first + count):
                    line, shift = y[n, o, r], bias[o]
                    for k in range(line.size):
                        line[k] = shift
            a, c = weight[group * leave].ctypes.data, y[n, group * leave, first:].ctypes.data
            gemm(sgemm, leave, size, depth, ONE, a, depth, b, ldb, ONE, c, height * width)
    restore_threads(sgemm, before)


@kernel
def scatter(sgemm, y, weight, bias, x, layout, groups, direct, lines, some, scratch):
    """x (N, in, H, W) = the transposed convolution of y (N, out, h, w), `some` channels and `lines` rows of
    y at a time."""
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    wide, taps = weight.shape[3], weight.shape[2] * weight.shape[3]
    enter, leave, parts = channels // groups, out // groups, len(scratch)
    depth, blocks = enter * taps, (enter + some - 1) // some
    jobs = images * groups * blocks
    before = use_one_thread(sgemm)
    for i in prange(parts):
        for job in range(jobs * i // parts, jobs * (i + 1) // parts):
            n, group, start = job // blocks // groups, job // blocks % groups, job % blocks * some
            rows, c = min(some, enter - start) * taps, group * enter + start
            for channel in range(c, c + rows // taps):
                plane, shift = x[n, channel].reshape(-1), bias[channel]
                for k in range(plane.size):
                    plane[k] = shift
            for first in range(0, height, lines):
                count = min(lines, height - first)
                size = count * width
                a, lda = weight[group * leave, start].ctypes.data, depth
                b, ldb = y[n, group * leave, first].ctypes.data, height * width
                if direct:
                    into = x[n, c, first].ctypes.data
                    gemm_tn(sgemm, rows, size, leave, ONE, a, lda, b, ldb, ONE, into, ldb)
                    continue
                gemm_tn(sgemm, rows, size, leave, ONE, a, lda, b, ldb, ZERO, scratch[i].ctypes.data, size)
                for row in range(rows):
                    plane, at = x[n, c + row // taps], corner(row % taps, wide, first, layout)
                    add_tap(plane, at, layout[0], count, width, scratch[i, row * size : (row + 1) * size])
    restore_threads(sgemm, before)


@kernel
def correlate(sgemm, x, y, weight, layout, groups, direct, lines, scratch):
    """weight (out, in/groups, *kernel) = the weight's gradient for x (N, in, H, W) and y (N, out, h, w).
    Each thread has some of the taps of all channels."""
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    wide, taps = weight.shape[3], weight.shape[2] * weight.shape[3]
    enter, leave, parts = channels // groups, out // groups, len(scratch)
    depth = enter * taps
    before = use_one_thread(sgemm)
    for i in prange(parts):
        for group in range(groups):
            start = min(max(channels * taps * i // parts - group * depth, 0), depth)
            stop = min(max(channels * taps * (i + 1) // parts - group * depth, 0), depth)
            into, beta = weight[group * leave].ctypes.data + 4 * start, ZERO
            for n in range(images if stop > start else 0):
                for first in range(0, height, lines):
                    count = min(lines, height - first)
                    size, c = count * width, group * enter + start // taps
                    a, lda = y[n, group * leave, first].ctypes.data, height * width
                    b, ldb = x[n, c, first if direct else 0 :].ctypes.data, lda
                    if not direct:
                        b, ldb = scratch[i].ctypes.data, size
                        for row in range(start, stop):
                            at = corner(row % taps, wide, first, layout)
                            plane = x[n, group * enter + row // taps]
                            seen = scratch[i, (row - start) * size : (row - start + 1) * size]
                            read_tap(plane, at, layout[0], count, width, seen)
                    gemm_nt(sgemm, leave, stop - start, size, ONE, a, lda, b, ldb, beta, into, depth)
                    beta = ONE
    restore_threads(sgemm, before)


@parallel
def channel_sums(c, g, total):
    """total (C) = the sums of g (N, C, positions), in float64, as there may be many images."""
    for n in range(len(g)):
        line, one = g[n, c], ZERO
        for k in range(line.size):
            one += line[k]
        total[c] += one


# -- calls from Python -----------------------------------------------------------------------------


def planes(x: Array) -> Array:
    """x as (N, C, H, W)."""
    return contiguous(x if x.ndim == 4 else x[:, :, None])


def layout_of(geometry: Geometry) -> Array:
    """Stride, padding and dilation along two axes, (3, 2)."""
    stride, padding, dilation = geometry[:3]
    return np.array([(1, *stride)[-2:], (0, *padding)[-2:], (1, *dilation)[-2:]])


def is_direct(kernel: Sizes, geometry: Geometry) -> bool:
    """Whether the columns of x are x itself."""
    return max(kernel) == 1 and max(geometry.stride) == 1 and max(geometry.padding) == 0


def suits_winograd(kernel: Sizes, geometry: Geometry, channels: int, out: int, width: int) -> bool:
    return kernel == (3, 3) and geometry == SAME and winograd.is_faster(channels, out, width)


def rows_at_once(rows: int, depth: int, width: int) -> int:
    """The number of the map's `rows` that are computed at a time."""
    return min(rows, max(1, COLUMNS // (depth * width)))


def sum_over_positions(g: Array) -> Array:
    """The gradient of a bias: (N, C, *size) -> (C)."""
    g, total = planes(g), np.zeros(g.shape[1])
    channel_sums(len(total), g.reshape(*g.shape[:2], -1), total)
    return total.astype(np.float32)


def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> Any:
    size, kernel = x.shape[2:], weight.shape[2:]
    positions = geometry.positions(size, kernel)
    if not (float32(weight, bias) and weight.size and min(positions) > 0):
        return NotImplemented
    out, enter = weight.shape[:2]
    xs, weights = planes(x), planes(weight)
    shift = np.zeros(out, np.float32) if bias is None else contiguous(bias)
    if suits_winograd(kernel, geometry, enter, out, size[-1]):
        y = winograd.convolve(xs, weights, shift)
    else:
        direct, (height, width) = is_direct(kernel, geometry), (1, *positions)[-2:]
        y = np.empty((len(x), out, *positions), np.float32)
        depth = enter * math.prod(kernel)
        lines = rows_at_once(-(-height // -(-PARTS // len(x))), depth, width)
        scratch = np.empty((PARTS, 0 if direct else depth * lines * width), np.float32)
        groups = geometry.groups
        gather(SGEMM, xs, weights, shift, planes(y), layout_of(geometry), groups, direct, lines, scratch)
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
    if not (float32(weight, bias) and weight.size and min(size) > 0):
        return NotImplemented
    ys, weights = planes(y), planes(weight)
    shift = np.zeros(enter * groups, np.float32) if bias is None else contiguous(bias)
    if size == y.shape[2:] and suits_winograd(kernel, geometry, enter, out, size[-1]):
        x = winograd.convolve(ys, weights, shift, turned=True)
    else:
        direct, (height, width) = is_direct(kernel, geometry), ys.shape[2:]
        x = np.empty((len(y), enter * groups, *size), np.float32)
        taps = math.prod(kernel)
        lines = rows_at_once(height, min(enter, CHANNELS) * taps, width)
        some = rows_at_once(-(-enter // -(-PARTS // (len(y) * groups))), taps * lines, width)
        scratch = np.empty((PARTS, 0 if direct else some * taps * lines * width), np.float32)
        scatter(
            SGEMM, ys, weights, shift, planes(x), layout_of(geometry), groups, direct, lines, some, scratch
        )
    return (
        x,
        lambda g: conv.convolution(g, weight, None, geometry),
        lambda g: conv.correlation(g, y, kernel, geometry),
        sum_over_positions,
    )


def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> Any:
    if not (float32(y) and y.size and min(kernel) > 0):
        return NotImplemented
    size, out, channels, groups = x.shape[2:], y.shape[1], x.shape[1], geometry.groups
    xs, ys = planes(x), planes(y)
    if size == y.shape[2:] and suits_winograd(kernel, geometry, channels, out, size[-1]):
        weight = winograd.correlate(xs, ys)
    else:
        direct, (height, width) = is_direct(kernel, geometry), ys.shape[2:]
        weight = np.empty((out, channels // groups, *kernel), np.float32)
        depth = weight[0].size
        most = min(depth, -(-groups * depth // PARTS))  # of them, for one thread
        lines = rows_at_once(height, most, width)
        scratch = np.empty((PARTS, 0 if direct else most * lines * width), np.float32)
        correlate(SGEMM, xs, ys, planes(weight), layout_of(geometry), groups, direct, lines, scratch)
    return (
        weight,
        lambda g: conv.transposed_convolution(y, g, None, size, geometry),
        lambda g: conv.convolution(x, g, None, geometry),
    )

"""The three ops of convolution. They use Winograd's algorithm if it is faster, else matrix products with
columns (`columns.py`); `cuts.py` divides this work into jobs. With a convolution kernel of one tap, the
columns are the map itself.

A map with one axis is treated as a map with two axes and a height of 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled import winograd
from tinygen.kernels.compiled.blas import (
    ONE,
    SGEMM,
    ZERO,
    OneThread,
    gemm,
    gemm_nt,
    gemm_tn,
)
from tinygen.kernels.compiled.columns import add_columns, join_images, read_columns, split_images
from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.compiled.cuts import (
    cut_convolution,
    cut_correlation,
    cut_transpose,
    is_direct,
    rows_of_a_thread,
    scratch,
)
from tinygen.kernels.registry import are_float32
from tinygen.ops import conv
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

SAME = Geometry((1, 1), (1, 1), (1, 1), 1)  # with a kernel of 3 by 3, Winograd's algorithm


@parallel
def gather(part, sgemm, x, weight, bias, y, layout, groups, cut, columns, products):
    """y (N, out, h, w) = the convolution of x (N, in, H, W): jobs of some images, a group, some lines
    of y, and a share of its channels. If `direct`, the columns are x itself."""
    some, lines, cuts, direct = cut
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    window = weight.shape[2:]
    enter, leave, blocks = channels // groups, out // groups, (height + lines - 1) // lines
    depth, jobs = enter * window[0] * window[1], (images + some - 1) // some * groups * blocks * cuts
    for job in range(jobs * part // len(columns), jobs * (part + 1) // len(columns)):
        of, block, group = job % cuts, job // cuts % blocks, job // (cuts * blocks) % groups
        n, first = job // (cuts * blocks * groups) * some, block * lines
        number, count = min(some, images - n), min(lines, height - first)
        size = number * count * width
        o, stop = group * leave + leave * of // cuts, group * leave + leave * (of + 1) // cuts
        b, ldb = x[n, group * enter, first if direct else 0 :].ctypes.data, height * width
        if not direct:
            b, ldb = columns[part].ctypes.data, size
            here, at = x[n : n + number], group * enter
            read_columns(here, at, 0, depth, window, layout, first, count, width, columns[part])
        a, m = weight[o:].ctypes.data, stop - o
        if number > 1:
            c = products[part]
            gemm(sgemm, m, size, depth, ONE, a, depth, b, ldb, ZERO, c.ctypes.data, size)
            split_images(c, y[n : n + number], o, m, bias)
            continue
        for channel in range(o, stop):
            for r in range(first, first + count):
                line, shift = y[n, channel, r], bias[channel]
                for k in range(line.size):
                    line[k] = shift
        gemm(sgemm, m, size, depth, ONE, a, depth, b, ldb, ONE, y[n, o, first:].ctypes.data, height * width)


@parallel
def scatter(part, sgemm, y, weight, bias, x, layout, groups, cut, columns, products):
    """x (N, in, H, W) = the transpose for y (N, out, h, w): jobs of some images and `chunk` channels of
    x, by some lines of y."""
    some, lines, chunk, direct = cut
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    window = weight.shape[2:]
    taps, enter, leave = window[0] * window[1], channels // groups, out // groups
    depth, chunks = enter * taps, (enter + chunk - 1) // chunk
    jobs = (images + some - 1) // some * groups * chunks
    for job in range(jobs * part // len(columns), jobs * (part + 1) // len(columns)):
        n, group, start = job // chunks // groups * some, job // chunks % groups, job % chunks * chunk
        number = min(some, images - n)
        rows, c = min(chunk, enter - start) * taps, group * enter + start
        for m in range(n, n + number):
            for channel in range(c, c + rows // taps):
                plane, shift = x[m, channel].reshape(-1), bias[channel]
                for k in range(plane.size):
                    plane[k] = shift
        for first in range(0, height, lines):
            count = min(lines, height - first)
            size = number * count * width
            a, lda = weight[group * leave, start].ctypes.data, depth
            b, ldb = y[n, group * leave, first].ctypes.data, height * width
            if number > 1:
                b, ldb = products[part].ctypes.data, size
                join_images(y[n : n + number], group * leave, leave, products[part])
            if direct:
                gemm_tn(sgemm, rows, size, leave, ONE, a, lda, b, ldb, ONE, x[n, c, first].ctypes.data, ldb)
                continue
            gemm_tn(sgemm, rows, size, leave, ONE, a, lda, b, ldb, ZERO, columns[part].ctypes.data, size)
            add_columns(x[n : n + number], c, rows, window, layout, first, count, width, columns[part])


@parallel
def correlate(part, sgemm, x, y, weight, layout, groups, cut, columns, products):
    """weight (out, in/groups, *kernel), of x (N, in, H, W) and y (N, out, h, w), summed over some images and
    lines of y at a time. Each part has some of the taps of all channels."""
    some, lines, _, direct = cut
    (images, channels, _, _), (_, out, height, width) = x.shape, y.shape
    window, parts = weight.shape[2:], len(columns)
    taps, enter, leave = window[0] * window[1], channels // groups, out // groups
    depth = enter * taps
    for group in range(groups):
        start = min(max(channels * taps * part // parts - group * depth, 0), depth)
        stop = min(max(channels * taps * (part + 1) // parts - group * depth, 0), depth)
        into, beta = weight[group * leave].ctypes.data + 4 * start, ZERO
        for n in range(0, images if stop > start else 0, some):
            number = min(some, images - n)
            for first in range(0, height, lines):
                count = min(lines, height - first)
                size = number * count * width
                a, lda = y[n, group * leave, first].ctypes.data, height * width
                if number > 1:
                    a, lda = products[part].ctypes.data, size
                    join_images(y[n : n + number], group * leave, leave, products[part])
                b, ldb = (
                    x[n, group * enter + start // taps, first if direct else 0 :].ctypes.data,
                    height * width,
                )
                if not direct:
                    b, ldb = columns[part].ctypes.data, size
                    here, at = x[n : n + number], group * enter
                    read_columns(here, at, start, stop, window, layout, first, count, width, columns[part])
                gemm_nt(sgemm, leave, stop - start, size, ONE, a, lda, b, ldb, beta, into, depth)
                beta = ONE


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


def suits_winograd(kernel: Sizes, geometry: Geometry, shape: Sizes, out: int) -> bool:
    """Whether Winograd's algorithm takes maps (N, C, H, W), or (N, C, W), and is the faster way."""
    return kernel == (3, 3) and geometry == SAME and winograd.is_faster(shape, out)


def sum_over_positions(g: Array) -> Array:
    """The gradient of a bias: (N, C, *size) -> (C)."""
    g, total = planes(g), np.zeros(g.shape[1])
    channel_sums(len(total), g.reshape(*g.shape[:2], -1), total)
    return total.astype(np.float32)


def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> Any:
    size, kernel = x.shape[2:], weight.shape[2:]
    positions = geometry.positions(size, kernel)
    if not (are_float32(weight, bias) and weight.size and min(positions) > 0):
        return NotImplemented
    out, enter = weight.shape[:2]
    xs, weights = planes(x), planes(weight)
    shift = np.zeros(out, np.float32) if bias is None else as_contiguous(bias)
    if suits_winograd(kernel, geometry, x.shape, out):
        y = winograd.convolve(xs, weights, shift)
    else:
        y = np.empty((len(x), out, *positions), np.float32)
        ys, rows, groups = planes(y), enter * math.prod(kernel), geometry.groups
        cut = cut_convolution(ys, rows, groups, is_direct(kernel, geometry))
        rooms = scratch(cut, rows, out // groups, ys.shape[3])
        with OneThread():
            gather(len(rooms[0]), SGEMM, xs, weights, shift, ys, layout_of(geometry), groups, cut, *rooms)
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
    if not (are_float32(weight, bias) and weight.size and min(size) > 0):
        return NotImplemented
    ys, weights = planes(y), planes(weight)
    shift = np.zeros(enter * groups, np.float32) if bias is None else as_contiguous(bias)
    if size == y.shape[2:] and suits_winograd(kernel, geometry, (len(y), enter, *size), out):
        x = winograd.convolve(ys, weights, shift, turned=True)
    else:
        x = np.empty((len(y), enter * groups, *size), np.float32)
        taps = math.prod(kernel)
        cut = cut_transpose(ys, enter, taps, groups, is_direct(kernel, geometry))
        rooms = scratch(cut, cut.channels * taps, out // groups, ys.shape[3])
        with OneThread():
            into = planes(x)
            scatter(len(rooms[0]), SGEMM, ys, weights, shift, into, layout_of(geometry), groups, cut, *rooms)
    return (
        x,
        lambda g: conv.convolution(g, weight, None, geometry),
        lambda g: conv.correlation(g, y, kernel, geometry),
        sum_over_positions,
    )


def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> Any:
    if not (are_float32(y) and y.size and min(kernel) > 0):
        return NotImplemented
    size, out, channels, groups = x.shape[2:], y.shape[1], x.shape[1], geometry.groups
    xs, ys = planes(x), planes(y)
    if size == y.shape[2:] and suits_winograd(kernel, geometry, x.shape, out):
        weight = winograd.correlate(xs, ys)
    else:
        weight = np.empty((out, channels // groups, *kernel), np.float32)
        rows = rows_of_a_thread(weight[0].size, groups)
        cut = cut_correlation(ys, rows, is_direct(kernel, geometry))
        rooms = scratch(cut, rows, out // groups, ys.shape[3])
        with OneThread():
            correlate(len(rooms[0]), SGEMM, xs, ys, planes(weight), layout_of(geometry), groups, cut, *rooms)
    return (
        weight,
        lambda g: conv.transposed_convolution(y, g, None, size, geometry),
        lambda g: conv.convolution(x, g, None, geometry),
    )

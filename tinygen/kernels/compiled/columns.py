"""The columns of a convolution, as `ops/window.py` defines them, for a few rows of a few maps at a time.

A row of the columns is one tap of the kernel on one channel: the entries that this tap reads, at all
positions. The positions of several images are side by side, so that one matrix product computes them all.
"""

from __future__ import annotations

import numpy as np

from tinygen.kernels.compiled.compile import inner, parallel

ZERO = np.float32(0)
U = np.uint64  # unsigned indices: with signed ones, each access would test whether it counts from the end


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
def read_tap(plane, at, span, stride, lines, count, entries):
    """entries (lines · count) = the entries of a plane that one tap reads, starting at position `at`. In
    each line, the entries in the range `span` are inside the plane; the others are 0."""
    (down, right), (first, last) = at, span
    for i in range(lines):
        r = down + stride[0] * i
        begin, end = (first, last) if 0 <= r < plane.shape[0] else (count, count)
        for j in range(begin):
            entries[U(i * count + j)] = ZERO
        for j in range(end, count):
            entries[U(i * count + j)] = ZERO
        if stride[1] == 1:
            for j in range(begin, end):
                entries[U(i * count + j)] = plane[U(r), U(right + j)]
        else:
            for j in range(begin, end):
                entries[U(i * count + j)] = plane[U(r), U(right + stride[1] * j)]


@inner
def add_tap(plane, at, span, stride, lines, count, entries):
    """The transpose of `read_tap`: each entry is added where `read_tap` reads it."""
    (down, right), (first, last) = at, span
    for i in range(lines):
        r = down + stride[0] * i
        if 0 <= r < plane.shape[0]:
            if stride[1] == 1:
                for j in range(first, last):
                    plane[U(r), U(right + j)] += entries[U(i * count + j)]
            else:
                for j in range(first, last):
                    plane[U(r), U(right + stride[1] * j)] += entries[U(i * count + j)]


@parallel
def write_columns(row, x, channel, window, layout, first, lines, width, columns):
    """columns (C · taps, images · lines · width) of x (images, C, H, W), with channels counted from
    `channel` on, for `lines` lines of positions from `first` on. A part is one row."""
    taps, size, stride, entries = window[0] * window[1], lines * width, layout[0], columns[row]
    at, c = corner(row % taps, window[1], first, layout), channel + row // taps
    span = range_inside(at[1], stride[1], width, x.shape[3])
    for n in range(len(x)):
        read_tap(x[n, c], at, span, stride, lines, width, entries[n * size : (n + 1) * size])


@parallel
def add_columns(part, columns, bias, x, channel, window, layout, first, lines, width):
    """The transpose of `write_columns`; with the first lines, x begins with the bias (C). A part is one
    channel."""
    taps, size, stride, c = window[0] * window[1], lines * width, layout[0], channel + part
    for n in range(len(x) if first == 0 else 0):
        plane = x[n, c].reshape(-1)
        for k in range(plane.size):
            plane[k] = bias[c]
    for tap in range(taps):
        at, entries = corner(tap, window[1], first, layout), columns[part * taps + tap]
        span = range_inside(at[1], stride[1], width, x.shape[3])
        for n in range(len(x)):
            add_tap(x[n, c], at, span, stride, lines, width, entries[n * size : (n + 1) * size])


@parallel
def join_images(part, y, channel, first, matrix):
    """matrix (C, images · positions) = the channels of y (images, C, h, w) from `channel` on, with lines from
    `first` on. A part is one channel."""
    size = matrix.shape[1] // len(y)
    start = first * y.shape[3]
    for n in range(len(y)):
        of, into = (
            y[n, channel + part].reshape(-1)[start : start + size],
            matrix[part, n * size : (n + 1) * size],
        )
        for k in range(size):
            into[k] = of[k]


@parallel
def split_images(part, matrix, bias, y, channel, first):
    """The reverse of `join_images`, with a bias (C) added."""
    size, shift = matrix.shape[1] // len(y), bias[channel + part]
    start = first * y.shape[3]
    for n in range(len(y)):
        into, of = (
            y[n, channel + part].reshape(-1)[start : start + size],
            matrix[part, n * size : (n + 1) * size],
        )
        for k in range(size):
            into[k] = of[k] + shift

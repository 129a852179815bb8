"""The columns of a convolution, as `ops/window.py` defines them, for a few rows of a few maps at a time.

A row of the columns is one tap of the kernel on one channel: the entries that this tap reads, at all
positions. If maps are small, the positions of several images are placed side by side, so that one matrix
product computes them all.
"""

from __future__ import annotations

import numpy as np

from tinygen.kernels.compiled.compile import inner

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


@inner
def read_columns(x, channel, start, stop, kernel, layout, first, lines, count, columns):
    """columns (stop - start, images · lines · count) = rows `start` to `stop` of the columns of x (images,
    C, H, W), with channels counted from `channel` on, for `lines` lines of positions from `first` on."""
    taps, size, stride = kernel[0] * kernel[1], lines * count, layout[0]
    for row in range(start, stop):
        at = corner(row % taps, kernel[1], first, layout)
        span = range_inside(at[1], stride[1], count, x.shape[3])
        for n in range(len(x)):
            where = ((row - start) * len(x) + n) * size
            plane = x[n, channel + row // taps]
            read_tap(plane, at, span, stride, lines, count, columns[where : where + size])


@inner
def add_columns(x, channel, rows, kernel, layout, first, lines, count, columns):
    """The transpose of `read_columns`, for rows from 0 to `rows`."""
    taps, size, stride = kernel[0] * kernel[1], lines * count, layout[0]
    for row in range(rows):
        at = corner(row % taps, kernel[1], first, layout)
        span = range_inside(at[1], stride[1], count, x.shape[3])
        for n in range(len(x)):
            where = (row * len(x) + n) * size
            plane = x[n, channel + row // taps]
            add_tap(plane, at, span, stride, lines, count, columns[where : where + size])


@inner
def join_images(y, channel, channels, matrix):
    """matrix (channels, images · positions) = `channels` of y (images, C, h, w), from `channel` on."""
    size = y.shape[2] * y.shape[3]
    for c in range(channels):
        for n in range(len(y)):
            where = (c * len(y) + n) * size
            plane, into = y[n, channel + c].reshape(-1), matrix[where : where + size]
            for k in range(size):
                into[k] = plane[k]


@inner
def split_images(matrix, y, channel, channels, bias):
    """The reverse of `join_images`, with a bias (C) added."""
    size = y.shape[2] * y.shape[3]
    for c in range(channels):
        shift = bias[channel + c]
        for n in range(len(y)):
            where = (c * len(y) + n) * size
            plane, row = y[n, channel + c].reshape(-1), matrix[where : where + size]
            for k in range(size):
                plane[k] = row[k] + shift

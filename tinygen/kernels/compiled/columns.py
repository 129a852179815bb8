"""The columns of a convolution, as `ops/window.py` defines them, for a few rows of a few maps at a time.

A row of the columns is one tap of the kernel on one channel: the entries that this tap reads, at all
positions. The positions of several images are side by side, so that one matrix product computes them all.
They stand with the images innermost: a tap that moves by two entries still copies n neighbors at once, those
of the n images. So maps are turned from (n, C, H, W) to (C, H, W, n) first (`join_images`), and results back
(`split_images`).
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
def copy_entries(of, start, into, to, n):
    """into[to : to + n] = of[start : start + n]. Eight entries are read before the first is written: then the
    compiler need not ask whether the arrays overlap, and moves them by one instruction."""
    for k in range(0, n - 7, 8):
        i, j = start + k, to + k
        a, b, c, d = of[U(i)], of[U(i + 1)], of[U(i + 2)], of[U(i + 3)]
        e, f, g, h = of[U(i + 4)], of[U(i + 5)], of[U(i + 6)], of[U(i + 7)]
        into[U(j)], into[U(j + 1)], into[U(j + 2)], into[U(j + 3)] = a, b, c, d
        into[U(j + 4)], into[U(j + 5)], into[U(j + 6)], into[U(j + 7)] = e, f, g, h
    for k in range(n - n % 8, n):
        into[U(to + k)] = of[U(start + k)]


@inner
def add_entries(of, start, into, to, n):
    """into[to : to + n] += of[start : start + n], in the same manner."""
    for k in range(0, n - 7, 8):
        i, j = start + k, to + k
        a, b, c, d = of[U(i)], of[U(i + 1)], of[U(i + 2)], of[U(i + 3)]
        e, f, g, h = of[U(i + 4)], of[U(i + 5)], of[U(i + 6)], of[U(i + 7)]
        a, b, c, d = a + into[U(j)], b + into[U(j + 1)], c + into[U(j + 2)], d + into[U(j + 3)]
        e, f, g, h = e + into[U(j + 4)], f + into[U(j + 5)], g + into[U(j + 6)], h + into[U(j + 7)]
        into[U(j)], into[U(j + 1)], into[U(j + 2)], into[U(j + 3)] = a, b, c, d
        into[U(j + 4)], into[U(j + 5)], into[U(j + 6)], into[U(j + 7)] = e, f, g, h
    for k in range(n - n % 8, n):
        into[U(to + k)] += of[U(start + k)]


@inner
def read_tap(plane, size, at, span, stride, lines, count, entries):
    """entries (lines · count · n) = the entries of a plane (H · W · n) that one tap reads, starting at
    position `at`. In each line, the entries in the range `span` are inside the plane; the others are 0."""
    (height, width, n), (down, right), (first, last) = size, at, span
    for i in range(lines):
        r, line = down + stride[0] * i, i * count * n
        begin, end = (first, last) if 0 <= r < height else (count, count)
        for j in range(begin * n):
            entries[U(line + j)] = ZERO
        for j in range(end * n, count * n):
            entries[U(line + j)] = ZERO
        row = (r * width + right) * n
        if stride[1] == 1:
            for j in range(begin * n, end * n):
                entries[U(line + j)] = plane[U(row + j)]
        elif n == 1:
            for j in range(begin, end):
                entries[U(line + j)] = plane[U(row + stride[1] * j)]
        else:
            for j in range(begin, end):
                copy_entries(plane, row + stride[1] * j * n, entries, line + j * n, n)


@inner
def add_tap(plane, size, at, span, stride, lines, count, entries):
    """The transpose of `read_tap`: each entry is added where `read_tap` reads it."""
    (height, width, n), (down, right), (first, last) = size, at, span
    for i in range(lines):
        r, line = down + stride[0] * i, i * count * n
        row = (r * width + right) * n
        if 0 <= r < height:
            if stride[1] == 1:
                for j in range(first * n, last * n):
                    plane[U(row + j)] += entries[U(line + j)]
            elif n == 1:
                for j in range(first, last):
                    plane[U(row + stride[1] * j)] += entries[U(line + j)]
            else:
                for j in range(first, last):
                    into, of = row + stride[1] * j * n, line + j * n
                    for k in range(n):
                        plane[U(into + k)] += entries[U(of + k)]


@parallel
def write_columns(row, maps, size, window, layout, first, lines, width, columns):
    """columns (C · taps, lines · width · n) of maps (C, H · W · n) of size (H, W, n), for `lines` lines of
    positions from `first` on. A part is one row."""
    taps, stride = window[0] * window[1], layout[0]
    at = corner(row % taps, window[1], first, layout)
    span = range_inside(at[1], stride[1], width, size[1])
    read_tap(maps[row // taps], size, at, span, stride, lines, width, columns[row])


@parallel
def add_columns(part, columns, bias, maps, size, window, layout, first, lines, width):
    """The transpose of `write_columns`; with the first lines, the maps begin with the bias (C). A part is one
    channel."""
    taps, stride, plane = window[0] * window[1], layout[0], maps[part]
    for k in range(plane.size if first == 0 else 0):
        plane[k] = bias[part]
    for tap in range(taps):
        at = corner(tap, window[1], first, layout)
        span = range_inside(at[1], stride[1], width, size[1])
        add_tap(plane, size, at, span, stride, lines, width, columns[part * taps + tap])


@parallel
def join_images(part, y, channel, first, matrix):
    """matrix (C, positions · n) = the channels of y (n, C, h, w) from `channel` on, with lines from `first`
    on. A part is one channel."""
    n, into = len(y), matrix[part]
    size, start = into.size // n, first * y.shape[3]
    for i in range(n):
        of = y[i, channel + part].reshape(-1)[start : start + size]
        for k in range(size):
            into[U(k * n + i)] = of[U(k)]


@parallel
def split_images(part, matrix, bias, y, channel, first):
    """The reverse of `join_images`, with a bias (C) added."""
    n, of, shift = len(y), matrix[part], bias[channel + part]
    size, start = of.size // n, first * y.shape[3]
    for i in range(n):
        into = y[i, channel + part].reshape(-1)[start : start + size]
        for k in range(size):
            into[U(k)] = of[U(k * n + i)] + shift

"""linear and matmul. Each large product is divided into one part per thread. A few rows times a matrix, as in
generation, are computed as dot products that read the matrix once.

The sums have another order than in the definition, so results are equal up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.blas import ONE, SGEMM, N, OneThread, T, call_sgemm
from tinygen.kernels.compiled.compile import as_contiguous, divide_work, inner, inner_sum, parallel
from tinygen.kernels.compiled.math import SOME, ZERO, flush, from_half
from tinygen.kernels.compiled.tile import LANES, ROWS, WIDTH, tile, transpose
from tinygen.kernels.registry import are_float32
from tinygen.tensor import Array

DEPTH = 512  # entries of the shared axis in a panel: a panel fits into the second-level cache
LINE = 16  # floats in a cache line: a part has whole lines
FEW = 4  # up to this number of rows, reading the matrix takes longer than the products


@inner
def fill_panel(b, tb, left, right, above, panel):
    """Copy rows `above`, ..., `above` + k - 1 and columns `left`, ..., `right` - 1 of B, which is b or bᵀ,
    into panel (k, WIDTH)."""
    k = panel.shape[0]
    if tb:
        transpose(b[left:right, above : above + k], panel)
    else:
        for i in range(k):
            row, into = b[above + i, left:right], panel[i]
            for j in range(row.size):
                into[j] = row[j]


@inner
def multiply_by_blas(sgemm, a, ta, b, tb, bias, c, top, bottom, left, right):
    """The entries of c = A B + bias in these rows and columns."""
    n, k = c.shape[1], a.shape[0] if ta else a.shape[1]
    lda, ldb = a.shape[1], b.shape[1]
    if left < right:
        for r in range(top, bottom):
            row, shift = c[r, left:right], bias[left:right]
            for j in range(row.size):
                row[j] = shift[j]
        at_a, at_b = (
            a.ctypes.data + 4 * top * (1 if ta else lda),
            b.ctypes.data + 4 * left * (ldb if tb else 1),
        )
        at_c, flag_a, flag_b = c.ctypes.data + 4 * (top * n + left), T if ta else N, T if tb else N
        rows, columns = bottom - top, right - left
        call_sgemm(sgemm, flag_b, flag_a, columns, rows, k, ONE, at_b, ldb, at_a, lda, ONE, at_c, n)


@parallel
def multiply(part, sgemm, a, ta, b, tb, bias, c, by_rows, size, panels, rooms):
    """c (m, n) = A B + bias, where A is a or aᵀ, and B is b or bᵀ. A part has `size` rows or columns of c,
    and its own panel, if there are any. Columns that do not fill a panel are computed by BLAS. For rows that
    do not fill a tile, the tile begins further up, and is computed in its own `room` (ROWS, WIDTH)."""
    m, n = c.shape
    k = a.shape[0] if ta else a.shape[1]
    row, step = (1, a.shape[1]) if ta else (a.shape[1], 1)
    first, last = part * size, min((part + 1) * size, m if by_rows else n)
    top, bottom, left, right = (first, last, 0, n) if by_rows else (0, m, first, last)
    edge = left  # of the whole panels
    if len(panels) and bottom - top >= ROWS:
        edge, rest = right - (right - left) % WIDTH, (bottom - top) % ROWS
        panel, room = panels[part], rooms[part]
        for x in range(left, edge, WIDTH):
            for above in range(0, k, DEPTH):
                deep = min(DEPTH, k - above)
                fill_panel(b, tb, x, x + WIDTH, above, panel[:deep])
                at_p, shift = panel.ctypes.data, bias.ctypes.data + 4 * x
                for r in range(top, bottom - rest, ROWS):
                    at_a = a.ctypes.data + 4 * (r * row + above * step)
                    at_c = c.ctypes.data + 4 * (r * n + x)
                    start, ld = (at_c, n) if above else (shift, 0)
                    tile(deep, at_a, row, step, at_p, start, ld, at_c, n)
                if rest:
                    at_a = a.ctypes.data + 4 * ((bottom - ROWS) * row + above * step)
                    start, ld = (room.ctypes.data, WIDTH) if above else (shift, 0)
                    tile(deep, at_a, row, step, at_p, start, ld, room.ctypes.data, WIDTH)
            for r in range(rest):
                line, into = room[ROWS - rest + r], c[bottom - rest + r, x : x + WIDTH]
                for j in range(WIDTH):
                    into[j] = line[j]
    multiply_by_blas(sgemm, a, ta, b, tb, bias, c, top, bottom, edge, right)


@inner_sum
def dot(x, y):
    total = ZERO
    for i in range(y.size):
        total += x[i] * y[i]
    return total


@parallel
def multiply_few_rows(o, x, weight, y):
    """y (r, out) = x (r, in) weightᵀ (out, in)."""
    for r in range(x.shape[0]):
        y[r, o] = dot(x[r], weight[o])


@inner_sum
def dot_half(x, y):
    """The same with y in float16, as uint16."""
    total = ZERO
    for i in range(y.size):
        total += x[i] * from_half(y[i])
    return total


@parallel
def multiply_few_rows_by_half(o, x, weight, y):
    """y (r, out) = x (r, in) weightᵀ (out, in), where the weight is in float16, as uint16."""
    for r in range(x.shape[0]):
        y[r, o] = dot_half(x[r], weight[o])


@parallel
def widen_rows(r, half, wide):
    """wide = half, float16 as uint16, in float32."""
    row, into = half[r], wide[r]
    for i in range(row.size):
        into[i] = from_half(row[i])


@parallel
def column_sums(part, x, block, sums, size):
    """sums (C, float64) = x (N, C) summed over N; a part has `size` of the columns."""
    start, stop = part * size, min((part + 1) * size, sums.size)
    mine, total = block[start:stop], sums[start:stop]
    for first in range(0, x.shape[0], SOME):
        for r in range(first, min(first + SOME, x.shape[0])):
            row = x[r, start:stop]
            for j in range(mine.size):
                mine[j] += row[j]
        flush(mine, total)


def product(a: Array, b: Array, ta: bool = False, tb: bool = False, bias: Array | None = None) -> Array:
    """A B + bias, where A is a or aᵀ and B is b or bᵀ: contiguous matrices."""
    y = np.empty((a.shape[1 if ta else 0], b.shape[0 if tb else 1]), np.float32)
    bias = np.zeros(y.shape[1], np.float32) if bias is None else as_contiguous(bias)
    (m, n), k = y.shape, a.shape[0 if ta else 1]
    by_rows = 2 * m >= n  # the same shares as in the optimizer; but each part copies all of B into panels
    count, size = divide_work(m, ROWS) if by_rows else divide_work(n, LANES)
    with_panels = n >= WIDTH
    panels = np.empty((count if with_panels else 0, min(k, DEPTH), WIDTH), np.float32)
    rooms = np.empty((len(panels), ROWS, WIDTH), np.float32)
    with OneThread():
        multiply(count, SGEMM, a, ta, b, tb, bias, y, by_rows, size, panels, rooms)
    return y


def widen(weight: Array) -> Array:
    """The weight (out, in) in float32."""
    if weight.dtype == np.float32:
        return weight
    wide = np.empty(weight.shape, np.float32)
    widen_rows(len(wide), weight.view(np.uint16), wide)
    return wide


def matrix(x: Array, columns: int) -> Array:
    """x as a contiguous matrix (N, columns)."""
    return as_contiguous(x).reshape(-1, columns)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    half = type(weight) is np.ndarray and weight.dtype == np.float16
    if not (half or are_float32(weight)) or not weight.size:
        return NotImplemented
    bias = bias if bias is None or bias.dtype != np.float16 else bias.astype(np.float32)
    if not are_float32(bias):
        return NotImplemented
    out, width = weight.shape
    flat, shape = matrix(x, width), x.shape
    weight = as_contiguous(weight)
    if len(flat) <= FEW:
        y = np.empty((len(flat), out), np.float32)
        if half:
            multiply_few_rows_by_half(out, flat, weight.view(np.uint16), y)
        else:
            multiply_few_rows(out, flat, weight, y)
        y = y if bias is None else np.add(y, bias, out=y)
    else:
        y = product(flat, widen(weight), tb=True, bias=bias)

    def dbias(g: Array) -> Array:
        block, sums = np.zeros(out, np.float32), np.zeros(out)
        count, size = divide_work(out, LINE)
        column_sums(count, matrix(g, out), block, sums, size)
        return sums.astype(np.float32)

    return (
        y.reshape(*shape[:-1], out),
        lambda g: product(matrix(g, out), widen(weight)).reshape(shape),
        lambda g: product(matrix(g, out), flat, ta=True),
        dbias,
    )


def matmul(a: Array, b: Array) -> Any:
    """The product of (..., n, k) with one matrix (k, m). NumPy computes products with stacks of matrices."""
    if not are_float32(b) or not b.size or b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
        return NotImplemented
    k, m = b.shape
    flat, shape = matrix(a, k), a.shape
    b = as_contiguous(b)
    return (
        product(flat, b).reshape(*shape[:-1], m),
        lambda g: product(matrix(g, m), b, tb=True).reshape(shape),
        lambda g: product(flat, matrix(g, m), ta=True),
    )

"""linear and matmul: each large product is cut into one part per thread; a few rows times a matrix, as in
generation, are dot products that read the matrix once.

Products of the same matrices in another order of sums: equal to the definition up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled.blas import ONE, SGEMM, ZERO, as_before, call_sgemm, one_thread
from tinygen.kernels.compiled.blas import N as PLAIN
from tinygen.kernels.compiled.blas import T as TRANSPOSED
from tinygen.kernels.compiled.compile import PARTS, contiguous, inner_sum, kernel
from tinygen.kernels.compiled.math import clear, transposed
from tinygen.kernels.compiled.tile import ROWS, WIDTH, tile
from tinygen.kernels.registry import float32
from tinygen.tensor import Array

BLOCK = 64  # rows that go along all panels before the next do
LINE = 16  # floats in a cache line: parts are cut between them
MANY = 256  # rows, from which on it pays to put the matrix into panels
FEW = 4  # rows, up to which reading the matrix takes longer than the products


@kernel
def in_parts(sgemm, a, ta, b, tb, bias, c, parts):
    """c (m, n) = A B + bias, where A is a or aᵀ and B is b or bᵀ. The longer side of c is cut into parts."""
    m, n = c.shape
    k = a.shape[0] if ta else a.shape[1]
    lda, ldb = a.shape[1], b.shape[1]
    flag_a, flag_b = TRANSPOSED if ta else PLAIN, TRANSPOSED if tb else PLAIN
    beta = ONE if bias.size else ZERO
    by_rows = m >= n
    size = m if by_rows else n
    part = ((size + parts - 1) // parts + LINE - 1) // LINE * LINE
    before = one_thread(sgemm)
    for i in prange(parts):
        start, stop = min(i * part, size), min((i + 1) * part, size)
        first, rows = (start, stop - start) if by_rows else (0, m)
        left, columns = (0, n) if by_rows else (start, stop - start)
        if bias.size:
            shift = bias[left : left + columns]
            for r in range(first, first + rows):
                row = c[r, left : left + columns]
                for j in range(row.size):
                    row[j] = shift[j]
        if stop > start:
            at_a = a.ctypes.data + 4 * first * (1 if ta else lda)
            at_b = b.ctypes.data + 4 * left * (ldb if tb else 1)
            at_c = c.ctypes.data + 4 * (first * n + left)
            call_sgemm(sgemm, flag_b, flag_a, columns, rows, k, ONE, at_b, ldb, at_a, lda, beta, at_c, n)
    as_before(sgemm, before)


@inner_sum
def dot(x, y):
    total = ZERO
    for i in range(y.size):
        total += x[i] * y[i]
    return total


@kernel
def few_rows(x, weight, y):
    """y (r, out) = x (r, in) weightᵀ (out, in)."""
    for o in prange(weight.shape[0]):
        for r in range(x.shape[0]):
            y[r, o] = dot(x[r], weight[o])


@kernel
def in_tiles(a, b, tb, bias, c, panels, parts):
    """As `in_parts`, for c of whole tiles: m a multiple of ROWS, n of WIDTH. B is put into panels first."""
    (m, k), n = a.shape, c.shape[1]
    for p in prange(panels.shape[0]):
        panel = panels[p]
        if tb:
            transposed(b[p * WIDTH : (p + 1) * WIDTH], panel)
        else:
            for i in range(k):
                row, into = b[i, p * WIDTH : (p + 1) * WIDTH], panel[i]
                for j in range(row.size):
                    into[j] = row[j]
    part = ((m + parts - 1) // parts + ROWS - 1) // ROWS * ROWS
    for i in prange(parts):
        stop = min((i + 1) * part, m)
        for top in range(i * part, stop, BLOCK):
            for p in range(panels.shape[0]):
                shift = bias[p * WIDTH : (p + 1) * WIDTH]
                for r in range(top, min(top + BLOCK, stop), ROWS):
                    into = c.ctypes.data + 4 * (r * n + p * WIDTH)
                    tile(k, a.ctypes.data + 4 * r * k, k, panels[p].ctypes.data, into, n)
                    for s in range(ROWS):
                        row = c[r + s, p * WIDTH : (p + 1) * WIDTH]
                        for j in range(shift.size):
                            row[j] += shift[j]


@kernel
def column_sums(x, sums, parts):
    """sums (C) of x (N, C) over N; each thread has some of the columns."""
    part = ((sums.size + parts - 1) // parts + LINE - 1) // LINE * LINE
    for i in prange(parts):
        start, stop = min(i * part, sums.size), min((i + 1) * part, sums.size)
        mine = sums[start:stop]
        clear(mine)
        for r in range(x.shape[0]):
            row = x[r, start:stop]
            for j in range(mine.size):
                mine[j] += row[j]


NO_BIAS = np.empty(0, np.float32)


def product(a: Array, b: Array, ta: bool = False, tb: bool = False, bias: Array | None = None) -> Array:
    """A B + bias, where A is a or aᵀ and B is b or bᵀ: contiguous matrices."""
    y = np.empty((a.shape[1 if ta else 0], b.shape[0 if tb else 1]), np.float32)
    bias = NO_BIAS if bias is None else contiguous(bias)
    m, n = y.shape
    if ta or m % ROWS or n % WIDTH or m < MANY:
        in_parts(SGEMM, a, ta, b, tb, bias, y, PARTS)
    else:
        panels = np.empty((n // WIDTH, a.shape[1], WIDTH), np.float32)
        in_tiles(a, b, tb, bias, y, panels, PARTS)
    return y


def matrix(x: Array, columns: int) -> Array:
    """x as a contiguous matrix (N, columns)."""
    return contiguous(x).reshape(-1, columns)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    if not float32(weight, bias) or not weight.size:
        return NotImplemented
    out, width = weight.shape
    flat, shape = matrix(x, width), x.shape
    weight = contiguous(weight)
    if len(flat) <= FEW:
        y = np.empty((len(flat), out), np.float32)
        few_rows(flat, weight, y)
        y = y if bias is None else np.add(y, bias, out=y)
    else:
        y = product(flat, weight, tb=True, bias=bias)

    def dbias(g: Array) -> Array:
        sums = np.empty(out, np.float32)
        column_sums(matrix(g, out), sums, PARTS)
        return sums

    return (
        y.reshape(*shape[:-1], out),
        lambda g: product(matrix(g, out), weight).reshape(shape),
        lambda g: product(matrix(g, out), flat, ta=True),
        dbias,
    )


def matmul(a: Array, b: Array) -> Any:
    """Of (..., n, k) with one matrix (k, m): stacks of matrices are NumPy's."""
    if not float32(b) or not b.size or b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
        return NotImplemented
    k, m = b.shape
    flat, shape = matrix(a, k), a.shape
    b = contiguous(b)
    return (
        product(flat, b).reshape(*shape[:-1], m),
        lambda g: product(matrix(g, m), b, tb=True).reshape(shape),
        lambda g: product(flat, matrix(g, m), ta=True),
    )

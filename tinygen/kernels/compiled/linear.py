"""linear and matmul: each large product is cut into one part per thread; a few rows times a matrix, as in
generation, are dot products that read the matrix once.

Products of the same matrices in another order of sums: equal to the definition up to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba import prange

from tinygen.kernels.compiled.blas import ONE, SGEMM, ZERO, call_sgemm
from tinygen.kernels.compiled.blas import N as PLAIN
from tinygen.kernels.compiled.blas import T as TRANSPOSED
from tinygen.kernels.compiled.compile import kernel
from tinygen.kernels.registry import float32
from tinygen.tensor import Array

WIDTH = 16  # parts are cut at multiples of as many floats, a cache line
FEW = 4  # rows, up to which reading the matrix takes longer than the products
WORTH = 2**18  # multiplications, below which NumPy's product, on one thread, is as fast


@kernel
def in_parts(sgemm, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, threads):
    """C (m, n) = A B + beta·C by addresses, as in `blas.py`; the longer side of C is cut into parts."""
    by_rows = m >= n
    size = m if by_rows else n
    part = ((size + threads - 1) // threads + WIDTH - 1) // WIDTH * WIDTH
    for i in prange(threads):
        start = i * part
        count = min(part, size - start)
        if count > 0:
            if by_rows:
                from_row = a + 4 * start * (1 if ta == TRANSPOSED else lda)
                into = c + 4 * start * ldc
                call_sgemm(sgemm, tb, ta, n, count, k, ONE, b, ldb, from_row, lda, beta, into, ldc)
            else:
                from_column = b + 4 * start * (ldb if tb == TRANSPOSED else 1)
                into = c + 4 * start
                call_sgemm(sgemm, tb, ta, count, m, k, ONE, from_column, ldb, a, lda, beta, into, ldc)


@kernel
def few_rows(x, weight, y):
    """y (r, out) = x (r, in) weightᵀ (out, in)."""
    for o in prange(weight.shape[0]):
        row = weight[o]
        for r in range(x.shape[0]):
            total = ZERO
            for i in range(row.size):
                total += x[r, i] * row[i]
            y[r, o] = total


@kernel
def repeat(bias, y):
    """Every row of y = bias."""
    for r in prange(y.shape[0]):
        row = y[r]
        for i in range(row.size):
            row[i] = bias[i]


@kernel
def column_sums(x, sums, threads):
    """sums (C) of x (N, C) over N; each thread has some of the columns."""
    part = ((sums.size + threads - 1) // threads + WIDTH - 1) // WIDTH * WIDTH
    for i in prange(threads):
        start, stop = min(i * part, sums.size), min((i + 1) * part, sums.size)
        mine = sums[start:stop]
        mine[:] = ZERO
        for r in range(x.shape[0]):
            row = x[r, start:stop]
            for j in range(mine.size):
                mine[j] += row[j]


def product(a: Array, b: Array, ta: bool = False, tb: bool = False, c: Array | None = None) -> Array:
    """A B, or A B + c into c, where A is a or aᵀ and B is b or bᵀ: contiguous matrices."""
    m, k = a.shape[::-1] if ta else a.shape
    n = b.shape[0 if tb else 1]
    beta = ZERO if c is None else ONE
    y = np.empty((m, n), np.float32) if c is None else c
    flags = (TRANSPOSED if ta else PLAIN, TRANSPOSED if tb else PLAIN)
    addresses = (a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], beta, y.ctypes.data, n)
    in_parts(SGEMM, *flags, m, n, k, *addresses, numba.get_num_threads())
    return y


def matrix(x: Array, columns: int) -> Array:
    """x as a contiguous matrix (N, columns)."""
    return np.ascontiguousarray(x).reshape(-1, columns)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    if not float32(weight, bias) or weight.size == 0 or x.size // x.shape[-1] * weight.size < WORTH:
        return NotImplemented
    out, width = weight.shape
    flat, shape = matrix(x, width), x.shape
    weight = np.ascontiguousarray(weight)
    if len(flat) <= FEW:
        y = np.empty((len(flat), out), np.float32)
        few_rows(flat, weight, y)
        y = y if bias is None else np.add(y, bias, out=y)
    elif bias is None:
        y = product(flat, weight, tb=True)
    else:
        y = np.empty((len(flat), out), np.float32)
        repeat(bias, y)
        product(flat, weight, tb=True, c=y)

    def dbias(g: Array) -> Array:
        sums = np.empty(out, np.float32)
        column_sums(matrix(g, out), sums, numba.get_num_threads())
        return sums

    return (
        y.reshape(*shape[:-1], out),
        lambda g: product(matrix(g, out), weight).reshape(shape),
        lambda g: product(matrix(g, out), flat, ta=True),
        dbias,
    )


def matmul(a: Array, b: Array) -> Any:
    """Of (..., n, k) with one matrix (k, m): stacks of matrices are NumPy's."""
    if not float32(b) or b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
        return NotImplemented
    k, m = b.shape
    if math.prod(a.shape[:-1]) * k * m < WORTH:
        return NotImplemented
    flat, shape = matrix(a, k), a.shape
    b = np.ascontiguousarray(b)
    return (
        product(flat, b).reshape(*shape[:-1], m),
        lambda g: product(matrix(g, m), b, tb=True).reshape(shape),
        lambda g: product(flat, matrix(g, m), ta=True),
    )

"""Products of a few rows with one matrix that comes back again and again, as a recurrent network's weight
does at every time step.

BLAS copies the matrix in every call into panels, the order in which its innermost loop reads it; with 16 rows
that takes longer than the product itself. Here the panels are made once. The innermost loop keeps a
tile of sums in registers, ROWS × WIDTH of them, and goes along the shared axis: one row of the panel times
one number of each row (Goto & van de Geijn 2008, *Anatomy of high-performance matrix multiplication*).
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygen.kernels.compiled.compile import inner
from tinygen.tensor import Array

FEATURES = llvmlite.binding.get_host_cpu_features()
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx") else 4  # floats in a register
VECTORS = 2 if LANES == 8 else 4  # registers in a row of the tile: AVX has but 16, the others 32
ROWS = 4
WIDTH = LANES * VECTORS


@intrinsic
def tile(context, k, a, lda, panel, c, ldc):
    """c (ROWS, WIDTH) = a (ROWS, k) panel (k, WIDTH), by addresses; lda and ldc are the distances between
    rows, in entries."""
    number = types.int64
    signature = types.void(number, number, number, number, number, number)
    i64, f32 = ir.IntType(64), ir.FloatType()
    vector = ir.VectorType(f32, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        k, a, lda, panel, c, ldc = args

        def at(start: Any, *offsets: Any, kind: Any) -> Any:
            """A pointer to the entry that is the sum of the offsets behind `start`."""
            for offset in offsets:
                start = builder.add(start, builder.mul(offset, i64(4)))
            return builder.inttoptr(start, kind.as_pointer())

        def everywhere(x: Any) -> Any:
            """A vector of x in every lane."""
            return builder.shuffle_vector(builder.insert_element(undefined, x, i64(0)), undefined, first)

        before = builder.block
        loop, after = builder.append_basic_block("along"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(i64)
        sums = [[builder.phi(vector) for _ in range(VECTORS)] for _ in range(ROWS)]
        right = [
            builder.load(at(panel, builder.mul(i, i64(WIDTH)), i64(v * LANES), kind=vector), align=4)
            for v in range(VECTORS)
        ]
        totals = []
        for r in range(ROWS):
            left = everywhere(builder.load(at(a, builder.mul(lda, i64(r)), i, kind=f32)))
            products = [builder.fmul(left, x, flags=("contract",)) for x in right]
            pairs = zip(sums[r], products, strict=True)
            totals.append([builder.fadd(s, x, flags=("contract",)) for s, x in pairs])
        following = builder.add(i, i64(1))
        i.add_incoming(i64(0), before)
        i.add_incoming(following, loop)
        for r in range(ROWS):
            for v in range(VECTORS):
                sums[r][v].add_incoming(ir.Constant(vector, [0.0] * LANES), before)
                sums[r][v].add_incoming(totals[r][v], loop)
        builder.cbranch(builder.icmp_signed("<", following, k), loop, after)
        builder.position_at_end(after)
        for r in range(ROWS):
            for v in range(VECTORS):
                into = at(c, builder.mul(ldc, i64(r)), i64(v * LANES), kind=vector)
                builder.store(totals[r][v], into, align=4)
        return context.get_dummy_value()

    return signature, code


def panels_of(matrix: Array) -> Array:
    """A matrix (k, n), in any layout, as panels (⌈n / WIDTH⌉, k, WIDTH); zeros fill up the last one."""
    k, n = matrix.shape
    panels = np.zeros((-(-n // WIDTH), k, WIDTH), np.float32)
    whole = n // WIDTH
    panels[:whole] = matrix.T[: whole * WIDTH].reshape(whole, WIDTH, k).swapaxes(1, 2)
    panels[whole:, :, : n % WIDTH] = matrix[:, whole * WIDTH :]
    return panels


@inner
def rows_times(a, panels, c):
    """c (m, panels · WIDTH) = a (m, k) times the matrix (k, n) of the panels; m is a multiple of ROWS."""
    k, lda, ldc = a.shape[1], a.shape[1], c.shape[1]
    for p in range(panels.shape[0]):
        for r in range(0, a.shape[0], ROWS):
            into = c.ctypes.data + 4 * (r * ldc + p * WIDTH)
            tile(k, a.ctypes.data + 4 * r * lda, lda, panels[p].ctypes.data, into, ldc)

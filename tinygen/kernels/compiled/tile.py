"""The innermost loops of products of matrices.

One factor is copied into panels of WIDTH columns, in the order in which it will be read. A factor that is
used again and again, such as the weight of a recurrent network at each time step, is copied only once. The
innermost loop keeps a tile of ROWS × WIDTH sums in registers. It goes along the shared axis, and adds one
row of the panel times one number of each row of the other factor (Goto & van de Geijn 2008, *Anatomy of
high-performance matrix multiplication*).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from tinygen.kernels.compiled.compile import inner
from tinygen.tensor import Array

FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")  # for which Numba compiles
LANES = 16 if "+avx512f" in FEATURES else 8 if "+avx" in FEATURES else 4  # floats in a register
ROWS, VECTORS = (6, 2) if LANES == 8 else (4, 4)  # registers of a tile: AVX has 16, the others 32
WIDTH = LANES * VECTORS

I64, F32 = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)


def pointer_to(builder: Any, start: Any, *offsets: Any, kind: Any) -> Any:
    """A pointer to the address `start` plus the sum of the offsets, in floats."""
    for offset in offsets:
        start = builder.add(start, builder.mul(offset, I64(4)))
    return builder.inttoptr(start, kind.as_pointer())


def shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """A vector of these lanes of x and y; lanes of y are numbered after the lanes of x."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))


@intrinsic
def tile(context, k, a, row, step, panel, start, ldstart, c, ldc):
    """c = start + A P for a tile of ROWS × WIDTH sums, by addresses. The strides of A (ROWS, k) are `row` and
    `step`, in entries; rows of start are `ldstart` apart, rows of c `ldc`. P (k, WIDTH) is contiguous."""
    signature = types.void(*[types.int64] * 9)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        k, a, row, step, panel, start, ldstart, c, ldc = args
        places = [(r, v) for r in range(ROWS) for v in range(VECTORS)]

        def entry(matrix: Any, distance: Any, r: int, v: int) -> Any:
            return pointer_to(builder, matrix, builder.mul(distance, I64(r)), I64(v * LANES), kind=VECTOR)

        initial = [builder.load(entry(start, ldstart, *place), align=4) for place in places]
        before = builder.block
        loop, after = builder.append_basic_block("along"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(I64)
        sums = [builder.phi(VECTOR) for _ in places]
        width = I64(WIDTH)
        right = [builder.load(entry(panel, builder.mul(i, width), 1, v), align=4) for v in range(VECTORS)]
        left = []
        for r in range(ROWS):
            offsets = builder.mul(row, I64(r)), builder.mul(step, i)
            x = builder.load(pointer_to(builder, a, *offsets, kind=F32))
            x = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), x, I64(0))
            left.append(shuffle(builder, x, x, [0] * LANES))
        totals = []
        for (r, v), total in zip(places, sums, strict=True):
            x = builder.fmul(left[r], right[v], flags=("contract",))
            totals.append(builder.fadd(total, x, flags=("contract",)))
        following = builder.add(i, I64(1))
        i.add_incoming(I64(0), before)
        i.add_incoming(following, loop)
        for total, first, then in zip(sums, initial, totals, strict=True):
            total.add_incoming(first, before)
            total.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, k), loop, after)
        builder.position_at_end(after)
        for place, total in zip(places, totals, strict=True):
            builder.store(total, entry(c, ldc, *place), align=4)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def transpose_block(context, x, ldx, y, ldy):
    """y = xᵀ for LANES × LANES entries, by addresses: blocks of 1, then 2, 4, ... lanes are exchanged with
    the blocks on the other side of the diagonal."""
    signature = types.void(*[types.int64] * 4)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, ldx, y, ldy = args
        rows = [
            builder.load(pointer_to(builder, x, builder.mul(ldx, I64(r)), kind=VECTOR), align=4)
            for r in range(LANES)
        ]
        size = 1
        while size < LANES:
            upper = [lane + LANES - size if lane & size else lane for lane in range(LANES)]
            lower = [lane + LANES if lane & size else lane + size for lane in range(LANES)]
            for r in range(LANES):
                if not r & size:
                    pair = rows[r], rows[r + size]
                    rows[r] = shuffle(builder, *pair, upper)
                    rows[r + size] = shuffle(builder, *pair, lower)
            size *= 2
        for r, row in enumerate(rows):
            builder.store(row, pointer_to(builder, y, builder.mul(ldy, I64(r)), kind=VECTOR), align=4)
        return context.get_dummy_value()

    return signature, code


@inner
def transpose(x, y):
    """y (k, n) = xᵀ for x (n, k). Rows of both are contiguous, but may be apart; y may have more columns."""
    n, k = x.shape
    ldx, ldy = x.strides[0] // 4, y.strides[0] // 4
    for r in range(0, n, LANES):
        for c in range(0, k, LANES):
            if r + LANES <= n and c + LANES <= k:
                transpose_block(
                    x.ctypes.data + 4 * (r * ldx + c), ldx, y.ctypes.data + 4 * (c * ldy + r), ldy
                )
            else:
                for i in range(r, min(r + LANES, n)):
                    for j in range(c, min(c + LANES, k)):
                        y[j, i] = x[i, j]


def panels_of(matrix: Array) -> Array:
    """A matrix (k, n), in any layout, as panels (⌈n / WIDTH⌉, k, WIDTH); the last panel is padded with
    zeros."""
    k, n = matrix.shape
    panels = np.zeros((-(-n // WIDTH), k, WIDTH), np.float32)
    whole = n // WIDTH
    panels[:whole] = matrix.T[: whole * WIDTH].reshape(whole, WIDTH, k).swapaxes(1, 2)
    panels[whole:, :, : n % WIDTH] = matrix[:, whole * WIDTH :]
    return panels


@inner
def multiply_rows(a, panels, c):
    """c (m, panels · WIDTH) += a (m, k) times the matrix (k, n) of the panels; m is a multiple of ROWS."""
    k, lda, ldc = a.shape[1], a.shape[1], c.shape[1]
    for p in range(panels.shape[0]):
        for r in range(0, a.shape[0], ROWS):
            into = c.ctypes.data + 4 * (r * ldc + p * WIDTH)
            tile(k, a.ctypes.data + 4 * r * lda, lda, 1, panels[p].ctypes.data, into, ldc, into, ldc)

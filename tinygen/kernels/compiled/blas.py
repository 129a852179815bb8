"""float32 matrix products on one thread, for calls inside parallel loops.

They call the BLAS that NumPy has loaded already, by the addresses of its functions. Before its parallel
loop a kernel sets BLAS to one thread, and afterwards restores the former number, so that other products are
not affected. The number is a variable in the library: setting it starts or stops no thread.

NumPy's wheels for Linux and Windows contain OpenBLAS with 64-bit sizes. If NumPy uses another BLAS (conda's
MKL, Accelerate on macOS), importing this file raises ImportError, and no compiled kernel is used: two pools
of threads would make the kernels slower than NumPy.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

from tinygen.kernels.compiled.compile import inner

SYMBOLS = ("scipy_cblas_sgemm64_", "scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_")


def addresses() -> tuple[int, ...]:
    """The addresses of NumPy's sgemm and of the functions that get and set its number of threads."""
    for library in ThreadpoolController().select(internal_api="openblas").lib_controllers:
        if all(hasattr(library.dynlib, name) for name in SYMBOLS):
            found = [ctypes.cast(getattr(library.dynlib, name), ctypes.c_void_p) for name in SYMBOLS]
            return tuple(address.value or 0 for address in found)
    raise ImportError("NumPy does not use the OpenBLAS of its own wheels here")


SGEMM = addresses()
"""Kernels take them as an argument: a global would become a constant in the cached machine code."""
GET, SET = ctypes.CFUNCTYPE(ctypes.c_int)(SGEMM[1]), ctypes.CFUNCTYPE(None, ctypes.c_int)(SGEMM[2])


class OneThread:
    """`with OneThread():` sets BLAS to one thread, and restores the former number at the end."""

    def __enter__(self) -> None:
        self.before = GET()
        SET(1)

    def __exit__(self, *error: object) -> None:
        SET(self.before)


BY_COLUMNS = 102  # the constants of CBLAS
N, T = 111, 112
ONE, ZERO = np.float32(1), np.float32(0)


def call(builder: Any, address: Any, result: Any, args: Any) -> Any:
    kind = ir.FunctionType(result, [x.type for x in args])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), args)


@intrinsic
def call_cblas(context, address, order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """CBLAS's sgemm; arrays are given by their addresses."""
    i64, f32 = types.int64, types.float32
    signature = types.void(i64, i64, i64, i64, i64, i64, i64, f32, i64, i64, i64, i64, f32, i64, i64)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        passed = list(args[1:])
        for flag in range(3):  # enumerations, which C passes as ints
            passed[flag] = builder.trunc(passed[flag], ir.IntType(32))
        for array in (7, 9, 12):
            passed[array] = builder.inttoptr(passed[array], ir.FloatType().as_pointer())
        call(builder, args[0], ir.VoidType(), passed)
        return context.get_dummy_value()

    return signature, code


@inner
def call_sgemm(sgemm, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C (m, n) = alpha · A B + beta · C, stored column by column, as in BLAS."""
    call_cblas(sgemm[0], BY_COLUMNS, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


# C (m, n) = alpha · A B + beta · C, stored row by row. The arguments are the addresses of the first entries
# and the distances between rows, in entries. BLAS stores column by column, so it sees transposes: Cᵀ = Bᵀ Aᵀ.


@inner
def gemm(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (m, k), b (k, n)."""
    call_sgemm(sgemm, N, N, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)


@inner
def gemm_nt(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (m, k), b (n, k); b is transposed."""
    call_sgemm(sgemm, T, N, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)


@inner
def gemm_tn(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (k, m), b (k, n); a is transposed."""
    call_sgemm(sgemm, N, T, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)

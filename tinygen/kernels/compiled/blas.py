"""Matrix products of float32 on one thread, to be called from inside of parallel loops.

They are those of SciPy's BLAS, an OpenBLAS of its own beside NumPy's, by the address that SciPy publishes. It
is set to one thread, since the loops around it are parallel already; NumPy's keeps the threads it has. Where
the two are one library, as in conda's environments, importing this file raises ImportError, and the kernels
that need it are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.linalg.cython_blas
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from threadpoolctl import ThreadpoolController

from tinygen.kernels.compiled.compile import inner

SGEMM: int = get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
"""The address. Kernels take it as an argument: as a global it would be compiled into code that is kept."""


def scipys_own() -> list[Any]:
    """The BLAS libraries that came with SciPy: in `scipy.libs`, on macOS in `scipy/.dylibs`."""
    home = Path(scipy.__file__).parent
    places = (home.with_name("scipy.libs"), home / ".dylibs")
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if Path(library.filepath).parent in places]


if not scipys_own():
    raise ImportError("SciPy has no BLAS of its own here, whose threads could be set apart from NumPy's")
for library in scipys_own():
    library.set_num_threads(1)


@intrinsic
def call_sgemm(context, address, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """BLAS's sgemm, which wants everything by reference; arrays come as addresses."""
    i64, f32 = types.int64, types.float32
    signature = types.void(i64, i64, i64, i64, i64, i64, f32, i64, i64, i64, i64, f32, i64, i64)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        char, number = ir.IntType(8), ir.IntType(32)

        def by_reference(value: Any, kind: Any = None) -> Any:
            value = value if kind is None else builder.trunc(value, kind)
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        def pointer(value: Any) -> Any:
            return builder.inttoptr(value, ir.FloatType().as_pointer())

        address, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args
        passed = [
            *(by_reference(flag, char) for flag in (ta, tb)),
            *(by_reference(size, number) for size in (m, n, k)),
            *(
                by_reference(alpha),
                pointer(a),
                by_reference(lda, number),
                pointer(b),
                by_reference(ldb, number),
            ),
            *(by_reference(beta), pointer(c), by_reference(ldc, number)),
        ]
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in passed])
        builder.call(builder.inttoptr(address, kind.as_pointer()), passed)
        return context.get_dummy_value()

    return signature, code


N, T = ord("N"), ord("T")
ONE, ZERO = np.float32(1), np.float32(0)


# C (m, n) = alpha · A B + beta · C, all stored row by row, by the addresses of their first entries and the
# distances between their rows, in entries. BLAS stores column by column and sees the transposes: Cᵀ = Bᵀ Aᵀ.


@inner
def gemm(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (m, k), b (k, n)."""
    call_sgemm(sgemm, N, N, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)


@inner
def gemm_nt(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (m, k), b (n, k), which is transposed."""
    call_sgemm(sgemm, T, N, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)


@inner
def gemm_tn(sgemm, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """a (k, m), which is transposed, b (k, n)."""
    call_sgemm(sgemm, N, T, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)

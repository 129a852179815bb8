"""Kernels that Numba compiles, for float32 arrays on the CPU.

They are imported when the first array arrives that is large enough (`registry.LazyKernel`). `compile.py`
compiles functions and caches the machine code, `blas.py` calls matrix products inside parallel loops,
`math.py` has exp, tanh and log that the compiler can vectorize. Each other file has the kernels of one
family of ops.

All parallel work runs on one pool of threads (`helpers.py`): the thread that calls a kernel, and helpers.
With a second pool at work (OpenBLAS has its own), spinning threads of one pool would occupy the cores that
the other needs. In a forked process kernels run on one thread, with the same bits.

Results are deterministic: only the number of threads decides how work is divided into parts, and the sums of
the parts are added in a fixed order.
"""

import numba

if numba.config.DISABLE_JIT:  # then loops would run as Python code
    raise RuntimeError("the environment variable NUMBA_DISABLE_JIT is set")

from tinygen.kernels.compiled import blas, helpers  # noqa: F401 (if this import fails, no compiled kernel is used)

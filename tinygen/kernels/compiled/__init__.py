"""Kernels that Numba compiles, for float32 arrays on the CPU.

Nothing here is imported before an array comes that is large enough to be worth it (`registry.LazyKernel`).
`compile.py` says how functions are compiled and where the machine code is kept, `blas.py` calls matrix
products from inside of parallel loops, `math.py` has exp, tanh and log that the compiler can vectorize. Each
of the other files has the kernels of one family of ops.

All parallel work runs on one pool of threads, Numba's: with a second one (OpenBLAS has its own) the threads
of the one wait, spinning, for a core that those of the other hold, and a step takes ten times as long.

A process that has used them may be forked: OpenMP's threads are not there in the child, where the kernels go
on with one thread, and to the same bits (`forks.py`).

Results do not depend on chance: work is cut into parts by the number of threads alone, and what the parts sum
up is added in their order.
"""

import numba

if numba.config.DISABLE_JIT:  # loops would be Python's
    raise RuntimeError("the environment variable NUMBA_DISABLE_JIT is set")

from tinygen.kernels.compiled import blas  # noqa: F401 (where it cannot be had, nothing here is used)

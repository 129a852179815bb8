"""Compiles every kernel as its op launches it, without a GPU: `python compiled.py llvm`, or `ptx`.

Launches are recorded instead of executed. Numba compiles each kernel for the types of the recorded
arguments, for an sm_90 (H100, H200): to LLVM code, which needs only Numba, or to the GPU's code (PTX),
which needs NVVM. Prints, as JSON, {kernel: float64 instructions in it}. It runs in its own process, without
the simulator, and replaces the parts of Numba that ask for a GPU.
"""

import json
import sys
from types import SimpleNamespace

import numba
import numpy as np
from numba import types

from tinygen_cuda import simt

HOPPER = (9, 0)
launched = {}


def record(kernel, blocks, threads, *args):
    assert all(a.flags.c_contiguous for a in args if isinstance(a, np.ndarray)), kernel
    launched[kernel.py_func.__module__ + "." + kernel.py_func.__name__] = kernel, args


simt.launch = record

from kernel_checks import CHECKS  # noqa: E402
from kernels import KERNELS  # noqa: E402 (they take `launch` as they are imported)

from tinygen.ops.window import Geometry  # noqa: E402

GEOMETRY = Geometry((2, 1), (1, 0), (1, 2), 2)
SIZES = {
    **dict.fromkeys(("reduce", "softmax", "layer_norm", "cross_entropy"), (4, 5)),
    **dict.fromkeys(("gelu", "adam", "philox"), (5,)),
    "group_norm": (2, 2, 2, 3),
    "embedding": (5, 4, 3),
    "columns": ((2, 4, 5, 4), (2, 2), GEOMETRY),
    "convolutions": ((2, 4, 5, 4), 4, (2, 2), GEOMETRY),
    "attention": (2, 3, 4, 64, True),
}


def lines_of_float64(kernel, args, to):
    """The instructions of a kernel that compute in float64, and its float64 arguments."""
    signature = tuple(numba.typeof(a) for a in args)
    if to == "ptx":
        text, _ = numba.cuda.compile_ptx(kernel.py_func, signature, cc=HOPPER)
        return [line.strip() for line in text.splitlines() if ".f64" in line]
    from numba.cuda.compiler import compile_cuda

    options = {"debug": False, "lineinfo": False, "inline": False, "fastmath": False, "nvvm_options": None}
    found = compile_cuda(kernel.py_func, types.void, signature, cc=HOPPER, **options)
    text = "\n".join(found.library.llvm_strs)
    return [line.strip() for line in text.splitlines() if "double" in line]


def without_a_gpu(to):
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=HOPPER)
    if to == "llvm":  # that library is asked for two facts only
        from numba.cuda.cudadrv import nvvm

        layout = nvvm.NVVM.data_layout.fget(SimpleNamespace(_majorIR=2, _minorIR=0))
        nvvm.NVVM = lambda: SimpleNamespace(data_layout=layout, get_ir_version=lambda: (2, 0, 3, 1))


@simt.cuda.jit
def leaks(x, y):
    """A kernel with a mistake that the test must find: by NumPy's rules an int64 and a float32 give a
    float64."""
    i = simt.cuda.threadIdx.x
    y[i] = x[i] / x.shape[0]


if __name__ == "__main__":
    to = sys.argv[1]
    without_a_gpu(to)
    for name, check in CHECKS.items():
        check(KERNELS, np.asarray, np.random.default_rng(0), *SIZES[name])
    record(leaks, 1, 1, *np.zeros((2, 3), np.float32))
    found = {name: lines_of_float64(kernel, args, to) for name, (kernel, args) in launched.items()}
    print(json.dumps(found))

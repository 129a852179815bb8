"""Adam's update of all parameters in one call: most parameters of a model are so small that a call for each
would take longer than the work."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygen.kernels.compiled.compile import PARTS, parallel
from tinygen.kernels.compiled.math import ONE
from tinygen.tensor import Array

LINE = 16  # floats in a cache line: a share has whole cache lines
HEAD = object.__basicsize__  # the size of a Python object's header in bytes
FLOAT32 = np.dtype(np.float32)

probe = np.zeros(1, FLOAT32)
if ctypes.c_void_p.from_address(id(probe) + HEAD).value != probe.ctypes.data:
    raise ImportError("NumPy's arrays do not begin with the address of their data, as its C headers say")


@intrinsic
def data_of(context, array):
    """A pointer to the data of the float32 array with this id. It is the first field of NumPy's C struct
    `PyArrayObject`, after the object's header. `array.ctypes.data` gives the same address, but takes 1 to 5
    µs per array: for all arrays, as long as the whole step of a small model."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        place = builder.inttoptr(builder.add(args[0], word(HEAD)), word.as_pointer())
        return builder.inttoptr(builder.load(place), ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), code


@parallel
def update(part, parts, arrays, sizes, rates, epsilons, keep, decay, beta1, beta2):
    """`arrays` (N, 4) has the ids of each parameter, its gradient and its two means: contiguous arrays of
    `sizes` (N). A part has a share of each of them, divided as in `linear`: a core then finds the entries
    that it wrote last in its own cache. Cores without a shared cache exchange data at the speed of
    memory."""
    for n in range(sizes.size):
        share = (sizes[n] + parts * LINE - 1) // (parts * LINE) * LINE
        start, stop = min(part * share, sizes[n]), min((part + 1) * share, sizes[n])
        p = carray(data_of(arrays[n, 0]), sizes[n])[start:stop]
        g = carray(data_of(arrays[n, 1]), sizes[n])[start:stop]
        m = carray(data_of(arrays[n, 2]), sizes[n])[start:stop]
        v = carray(data_of(arrays[n, 3]), sizes[n])[start:stop]
        rate, eps = rates[n], epsilons[n]
        for i in range(p.size):
            x = p[i] * keep
            d = g[i] + decay * x
            m[i] = beta1 * m[i] + (ONE - beta1) * d
            v[i] = beta2 * v[i] + (ONE - beta2) * d * d
            p[i] = x - rate * m[i] / (np.sqrt(v[i]) + eps)


def adam(
    *arrays: Array,
    rates: Sequence[float],
    epsilons: Sequence[float],
    keep: float,
    decay: float,
    betas: tuple[float, float],
) -> Any:
    if any(x.dtype is not FLOAT32 for x in arrays):
        return NotImplemented
    ids = np.array([id(x) for x in arrays]).reshape(-1, 4)
    sizes = np.array([x.size for x in arrays[::4]])
    numbers = np.array([rates, epsilons], np.float32)
    update(PARTS, PARTS, ids, sizes, *numbers, *map(np.float32, (keep, decay, *betas)))
    return (None,)

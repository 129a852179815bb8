"""Adam's update of all parameters in one call: most of a model's are so small that a call for each would take
longer than the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygen.kernels.compiled.compile import PART, parallel
from tinygen.kernels.compiled.math import ONE
from tinygen.tensor import Array

HEAD = object.__basicsize__  # bytes of any Python object's head; behind an array's is its data's address
FLOAT32 = np.dtype(np.float32)


@intrinsic
def data_of(context, array):
    """A pointer to the data of the float32 array with this id. To ask in Python takes 1 µs an array."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        place = builder.inttoptr(builder.add(args[0], word(HEAD)), word.as_pointer())
        return builder.inttoptr(builder.load(place), ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), code


@parallel
def update(part, arrays, sizes, parts, rates, epsilons, keep, decay, beta1, beta2):
    """`arrays` (N, 4) are the ids of each parameter, its gradient and its two means: contiguous, and of
    `sizes` (N). `parts` (N + 1) says how many parts come before each, and how many there are."""
    n = 0
    while parts[n + 1] <= part:
        n += 1
    start = (part - parts[n]) * PART
    stop = min(start + PART, sizes[n])
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
    parts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(-(-sizes // PART), out=parts[1:])
    numbers = np.array([rates, epsilons], np.float32)
    update(int(parts[-1]), ids, sizes, parts, *numbers, *map(np.float32, (keep, decay, *betas)))
    return (None,)

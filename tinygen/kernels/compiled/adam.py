"""Adam's update of one parameter, in one pass over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled.compile import kernel
from tinygen.kernels.compiled.math import ONE
from tinygen.kernels.registry import float32
from tinygen.tensor import Array

PART = 2**12  # floats that a thread takes at a time


@kernel
def update(param, grad, mean, square, keep, decay, beta1, beta2, rate, eps):
    for part in prange((param.size + PART - 1) // PART):
        here = slice(part * PART, (part + 1) * PART)
        p, g, m, v = param[here], grad[here], mean[here], square[here]
        for i in range(p.size):
            x = p[i] * keep
            d = g[i] + decay * x
            m[i] = beta1 * m[i] + (ONE - beta1) * d
            v[i] = beta2 * v[i] + (ONE - beta2) * d * d
            p[i] = x - rate * m[i] / (np.sqrt(v[i]) + eps)


def adam(
    param: Array,
    grad: Array,
    mean: Array,
    square: Array,
    *,
    keep: float,
    decay: float,
    betas: tuple[float, float],
    rate: float,
    eps: float,
) -> Any:
    if not float32(grad, mean, square):
        return NotImplemented
    numbers = map(np.float32, (keep, decay, *betas, rate, eps))
    update(*(x.reshape(-1) for x in (param, grad, mean, square)), *numbers)
    return (None,)

"""Adam's step over flat buffers: one thread an entry of p, g, m and v.

    p  . . . . | . . . . | . . .       block = THREADS entries, as in `gelu.py`
    g  . . . . | . . . . | . . .
    m  . . . . | . . . . | . . .       all four are read once, p, m and v written in place
    v  . . . . | . . . . | . . .

    bytes moved   28 a parameter: 16 read, 12 written
    operations    about 12 a parameter: the memory limits it

The definition goes through memory for every intermediate result, some three times as much, and launches ten
kernels where this launches one.

A model has dozens of parameters, most of them small, for which a launch would take longer than the work. So
on a GPU the optimizer keeps p, m and v of a group side by side in one array each, of which the parameters
are views (`tinygen.optim.fused.Flat`), and one launch updates all. Only gradients come as arrays of their
own in every step: they are copied side by side first, 8 bytes a parameter more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, cuda, launch, taken


@cuda.jit
def adam_entries(p, g, m, v, rate, epsilon, keep, decay, beta1, rest1, beta2, rest2):
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < p.shape[0]:
        x = keep * p[i]
        d = g[i] + decay * x
        mean = beta1 * m[i] + rest1 * d
        square = beta2 * v[i] + rest2 * d * d
        m[i] = mean
        v[i] = square
        p[i] = x - rate * mean / (math.sqrt(square) + epsilon)


def adam(
    *arrays: Array,
    rates: Sequence[float],
    epsilons: Sequence[float],
    keep: float,
    decay: float,
    betas: tuple[float, float],
) -> Any:
    """As `tinygen.optim.fused.adam`."""
    if not taken(*arrays):
        return NotImplemented
    shares = [
        share for beta in betas for share in (beta, 1 - beta)
    ]  # 1 - β in float32 would lose four digits
    fours = zip(arrays[::4], arrays[1::4], arrays[2::4], arrays[3::4], rates, epsilons, strict=True)
    for *four, rate, epsilon in fours:
        flat = [a.reshape(-1) for a in four]  # views: the optimizer's arrays are contiguous
        numbers = map(np.float32, (rate, epsilon, keep, decay, *shares))
        launch(adam_entries, -(-flat[0].size // THREADS), THREADS, *flat, *numbers)
    return (None,)

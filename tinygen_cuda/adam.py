"""Adam's step over flat buffers: one thread an entry of p, g, m and v.

    p  . . . . | . . . . | . . .       block = THREADS entries, as in `gelu.py`
    g  . . . . | . . . . | . . .
    m  . . . . | . . . . | . . .       all four are read once, p, m and v written in place
    v  . . . . | . . . . | . . .

    bytes moved   28 per parameter: 16 read, 12 written
    operations    about 12 per parameter: memory bandwidth limits it

The definition writes every intermediate result to memory. It moves about three times as many bytes and
launches ten kernels instead of one.

A model has dozens of parameter arrays, and most are so small that a launch takes longer than the arithmetic.
On a GPU the optimizer therefore stores p, m and v of a group in one flat buffer each; the parameters are
views of it (`tinygen.optim.fused.Flat`), and one launch updates them all. Gradients are separate arrays in
every step: they are first copied into one flat buffer, 8 bytes more per parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.simt import THREADS, cuda, launch, supports


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
    if not supports(*arrays):
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

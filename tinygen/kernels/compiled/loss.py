"""Cross-entropy of each row in two passes over it, and one back. Kept are the logits and one number a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled.compile import contiguous, inner_sum, kernel
from tinygen.kernels.compiled.math import ZERO, exp, largest, log
from tinygen.tensor import Array


@inner_sum
def log_sum_exp(row):
    top = largest(row)
    total = ZERO
    for i in range(row.size):
        total += exp(row[i] - top)
    return top + log(total)


@kernel
def value(logits, ids, ignored, lse, losses):
    for r in prange(len(ids)):
        lse[r] = log_sum_exp(logits[r])
        losses[r] = ZERO if ids[r] == ignored else lse[r] - logits[r, ids[r]]


@kernel
def slope(logits, ids, ignored, lse, g, d):
    for r in prange(len(ids)):
        row, out = logits[r], d[r]
        weight = ZERO if ids[r] == ignored else g[r]
        for i in range(row.size):
            out[i] = weight * exp(row[i] - lse[r])
        if ids[r] != ignored:
            out[ids[r]] -= weight


def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> Any:
    if smoothing:
        return NotImplemented
    shape = logits.shape
    rows = contiguous(logits).reshape(-1, shape[-1])
    ids = contiguous(targets.reshape(-1).astype(np.int64))
    lse, losses = np.empty((2, len(ids)), np.float32)
    value(rows, ids, ignore_index, lse, losses)
    if not np.isfinite(lse).all():
        return NotImplemented  # the definition knows what to make of infinities

    def dlogits(g: Array) -> Array:
        d = np.empty_like(rows)
        slope(rows, ids, ignore_index, lse, contiguous(g).reshape(-1), d)
        return d.reshape(shape)

    return losses.reshape(shape[:-1]), dlogits

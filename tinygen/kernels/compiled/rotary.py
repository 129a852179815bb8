"""The rotation of pairs, of a query or key: one pass over the entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.registry import are_float32
from tinygen.tensor import Array


@parallel
def rotate(r, x, cos, sin, y):
    """Row r of x (rows, d), which is at position r % T of the tables cos and sin (T, d/2)."""
    t, half = r % cos.shape[0], cos.shape[1]
    c, s = cos[t], sin[t]
    a, b = x[r, :half], x[r, half:]
    first, second = y[r, :half], y[r, half:]
    for i in range(half):
        first[i] = a[i] * c[i] - b[i] * s[i]
        second[i] = a[i] * s[i] + b[i] * c[i]


def rotate_pairs(x: Array, cos: Array, sin: Array) -> Any:
    if not are_float32(cos, sin) or not x.size or cos.shape != (x.shape[-2], x.shape[-1] // 2):
        return NotImplemented
    cos, sin = as_contiguous(cos), as_contiguous(sin)

    def rotated(x: Array, sin: Array) -> Array:
        rows, y = as_contiguous(x).reshape(-1, x.shape[-1]), np.empty(x.shape, np.float32)
        rotate(len(rows), rows, cos, sin, y.reshape(rows.shape))
        return y

    return rotated(x, sin), lambda g: rotated(g, -sin)

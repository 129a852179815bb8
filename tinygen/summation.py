"""Sums over many rows with small rounding errors.

NumPy adds the rows of a matrix one after another: the rounding errors grow like the number of rows n. Here
each block of 64 rows is added in this way, and then the sums of the blocks are added in float64. So the
errors are as small as for 64 rows (Higham, *The accuracy of floating point summation*, 1993), and it takes
the same time. Along the last axis NumPy itself sums pairwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MANY = 1024  # rows; with fewer, blocks are not worth their overhead
BLOCK = 64  # rows


def sum_over(x: Any, axis: int | tuple[int, ...] | None, keepdims: bool = False) -> Any:
    """`x.sum(axis, keepdims=keepdims)` of an array or a Tensor."""
    axes: Any = axis if isinstance(axis, tuple) else (axis,)
    if not axes or type(x) is not np.ndarray or x.dtype != np.float32 or x.size < MANY or axes[0] != 0:
        return x.sum(axis=axis, keepdims=keepdims)
    leading = next((i for i, a in enumerate(axes) if a != i), len(axes))  # axes 0, 1, ..., leading - 1
    inner = x.sum(axis=axes[leading:], keepdims=keepdims) if leading < len(axes) else x
    rest = inner.shape[leading:]
    rows = inner.reshape(-1, math.prod(rest)) if inner.flags.c_contiguous else inner[None]
    if len(rows) < MANY or rows.shape[1] < 2:
        return inner.sum(axis=axes[:leading], keepdims=keepdims)
    whole = len(rows) - len(rows) % BLOCK
    blocks = rows[:whole].reshape(-1, BLOCK, rows.shape[1]).sum(axis=1)
    total = blocks.sum(axis=0, dtype=np.float64) + rows[whole:].sum(axis=0)
    return total.astype(x.dtype).reshape((1,) * leading + rest if keepdims else rest)

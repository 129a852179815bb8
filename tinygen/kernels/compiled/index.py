"""Adding rows into a table, where np.add.at goes entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from tinygen.kernels.compiled.compile import PARTS, contiguous, kernel
from tinygen.tensor import Array

LINE = 16  # floats in a cache line, of which only one thread writes


@kernel
def add_rows(rows, ids, table, parts):
    """table[ids[r]] += rows[r]. Each thread has some of the columns, so that no two write into one place."""
    width = table.shape[1]
    part = ((width + parts - 1) // parts + LINE - 1) // LINE * LINE
    for i in prange(parts):
        start, stop = min(i * part, width), min((i + 1) * part, width)
        for r in range(len(ids)):
            row, into = rows[r, start:stop], table[ids[r], start:stop]
            for j in range(row.size):
                into[j] += row[j]


def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> Any:
    """Rows into a matrix, by one array of row numbers."""
    if not (len(shape) == 2 and isinstance(index, np.ndarray) and index.dtype.kind in "iu"):
        return NotImplemented
    if not index.size or index.min() < 0 or index.max() >= shape[0]:
        return NotImplemented  # from the end, or an error: the definition's
    table = np.zeros(shape, np.float32)
    rows = contiguous(x).reshape(-1, shape[1])
    add_rows(rows, index.reshape(-1).astype(np.int64), table, PARTS)
    return table, lambda g: g[index]

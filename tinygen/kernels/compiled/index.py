"""scatter_add of rows into a table; np.add.at would add entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, divide_work, parallel
from tinygen.tensor import Array

LINE = 16  # floats in a cache line: only one thread writes into a line


@parallel
def add_rows(part, rows, ids, table, width):
    """table[ids[r]] += rows[r]. A part has `width` of the columns, so that no two parts write to the same
    entry."""
    start, stop = part * width, min((part + 1) * width, table.shape[1])
    for r in range(len(ids)):
        row, into = rows[r, start:stop], table[ids[r], start:stop]
        for j in range(row.size):
            into[j] += row[j]


def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> Any:
    """Add rows into a matrix, by one array of row numbers."""
    if not (len(shape) == 2 and isinstance(index, np.ndarray) and index.dtype.kind in "iu"):
        return NotImplemented
    if not index.size or index.min() < 0 or index.max() >= shape[0]:
        return NotImplemented  # negative or out of range: the definition handles it
    table = np.zeros(shape, np.float32)
    rows = as_contiguous(x).reshape(-1, shape[1])
    count, width = divide_work(shape[1], LINE)
    add_rows(count, rows, index.reshape(-1).astype(np.int64), table, width)
    return table, lambda g: g[index]

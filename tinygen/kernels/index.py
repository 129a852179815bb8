"""scatter_add of rows into a table. Rows are sorted by their index, so that `reduceat` sums all rows with the
same index at once; np.add.at would add entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import kernels
from tinygen.tensor import Array


@kernels.register(ops.scatter_add)
def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> Any:
    if not (len(shape) == 2 and isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size):
        return NotImplemented
    if index.min() < 0 or index.max() >= shape[0]:
        return NotImplemented  # the definition handles negative indices and raises errors
    ids = index.reshape(-1)
    order = np.argsort(ids, kind="stable")
    places, starts = np.unique(ids[order], return_index=True)
    table = np.zeros(shape, np.float32)
    table[places] = np.add.reduceat(x.reshape(-1, shape[1])[order], starts, axis=0)
    return table, lambda g: g[index]

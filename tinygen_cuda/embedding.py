"""The gradient of an embedding (scatter-add): rows of x are added into rows of a table; several rows of x may
have the same id.

The usual way is an atomic addition for each entry. Atomic additions happen in any order, so that the last
bits change from run to run. This kernel sorts the ids first (a stable radix sort), so that equal ids are
neighbours: a run. The block at the start of a run adds all of its rows in order, so that the result is
deterministic.

    ids, sorted   3  3  3  5  7  7          order: the position of each id before sorting
    blocks        0  1  2  3  4  5
    work          x        x  x             blocks 1, 2 and 5 are not first, and end at once

A block takes STRIP columns. Its ROWS rows of threads take the rows of the run in turn, and their sums are
added in shared memory at the end. The grid has one block for each id and each strip.

    bytes moved   4·N·C read, 4·V·C written (zeros first), 16·N for the ids and their order, and the sort
    operations    N·C additions. A run of n rows takes n/ROWS sequential steps: with a small vocabulary
                  (characters), a few long runs decide the time
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.tensor import Array
from tinygen_cuda.simt import SIMULATED, contiguous, cuda, float32, launch

STRIP, ROWS = (2, 2) if SIMULATED else (32, 8)


@cuda.jit
def add_runs(x, places, order, table):
    """table[place] = the sum of x[order[i]] over all i with places[i] == place."""
    buffer = cuda.shared.array((ROWS, STRIP), float32)
    first, s, r = cuda.blockIdx.x, cuda.threadIdx.x, cuda.threadIdx.y
    column = cuda.blockIdx.y * STRIP + s
    place = places[first]
    if first > 0 and places[first - 1] == place:
        return  # the whole block, before any barrier
    total = float32(0)
    i = first + r
    while i < places.shape[0] and places[i] == place:
        if column < x.shape[1]:
            total += x[order[i], column]
        i += ROWS
    buffer[r, s] = total
    cuda.syncthreads()
    if r == 0 and column < x.shape[1]:
        for other in range(1, ROWS):
            total += buffer[other, s]
        table[place, column] = total


def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> Any:
    """As `tinygen.ops.scatter_add`, for rows of a table. An index outside the table raises IndexError if
    `index` is a NumPy array; an index on the GPU is not checked, since that would wait for the GPU."""
    if len(shape) != 2 or x.shape[-1:] != shape[1:] or getattr(index, "ndim", 0) != x.ndim - 1:
        return NotImplemented
    if index.dtype.kind not in "iu":
        return NotImplemented
    if (
        isinstance(index, np.ndarray)
        and index.size
        and not -shape[0] <= index.min() <= index.max() < shape[0]
    ):
        raise IndexError(
            f"index {index.min()} to {index.max()} is outside of the {shape[0]} rows of the table"
        )
    ids = np.asarray(index, like=x).reshape(-1) % shape[0]  # from the end, as NumPy counts
    order = np.argsort(ids, kind="stable")
    table = np.zeros_like(x, shape=shape)
    blocks = (len(ids), -(-shape[1] // STRIP))
    launch(add_runs, blocks, (STRIP, ROWS), contiguous(x).reshape(-1, shape[1]), ids[order], order, table)
    return table, lambda g: g[index]

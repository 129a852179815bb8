"""rnn, lstm and gru. Each thread computes some of the sequences through all time steps, so that no thread
waits for another. `cells.py` has one time step of one sequence.

In backward, the weight's gradient is one large product after the loop over time, as in the definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.cells import CELLS, add_to, cell_of, clear, copy
from tinygen.kernels.compiled.compile import PARTS, as_contiguous, parallel
from tinygen.kernels.compiled.linear import matrix, product
from tinygen.kernels.compiled.tile import ROWS, multiply_rows, panels_of
from tinygen.kernels.registry import are_float32
from tinygen.ops.recurrent import require_shapes
from tinygen.tensor import Array

FEW = 32  # with fewer time steps of all sequences together, making the panels is not worth it

# -- along the sequences ---------------------------------------------------------------------------
#
# A function is never the first argument: Numba would warn that functions in tuples are experimental.


@parallel
def run_forward(thread, x, cell, panels, bias, h, c, lengths, reverse, y, hs, cs, kept, left, products):
    """Replace the first state h, c by the last state. For backward, each time step stores the gates of the
    cell in `kept`, and the state before the step in hs and cs. `left` and `products` (threads, rows, ·) are
    memory for the left factors and the results of products."""
    batch, steps = x.shape[0], x.shape[1]
    state, us = left[thread], products[thread]
    start = min(thread * state.shape[0], batch)
    rows = min(state.shape[0], batch - start)
    for r in range(rows):
        copy(h[start + r], state[r])
    for step in range(steps if rows else 0):
        t = steps - 1 - step if reverse else step
        for r in range(rows):
            copy(bias, us[r, : bias.size])
        multiply_rows(state, panels, us)
        for r in range(rows):
            b = start + r
            hb, cb, u = state[r], c[b], us[r, : bias.size]
            copy(hb, hs[b, t])
            copy(cb, cs[t, b])
            if t < lengths[b]:
                cell(x[b, t], u, hb, cb, kept[t, b])
                copy(hb, y[b, t])
            else:
                clear(y[b, t])
    for r in range(rows):
        copy(state[r], h[start + r])


@parallel
def run_backward(
    thread, dy, cell, panels, dh, dc, lengths, reverse, hs, cs, kept, dx, du, dbias, left, products
):
    """Replace the gradients dh, dc of the last state by the gradients of the first state. du is empty if it
    is equal to dx. dbias (threads, ·) has each thread's part of the sum."""
    batch, steps, hidden = dy.shape
    rows, through = left[thread], products[thread]
    start = min(thread * rows.shape[0], batch)
    count = min(rows.shape[0], batch - start)
    for step in range(steps if count else 0):
        t = step if reverse else steps - 1 - step
        for r in range(count):
            b, row = start + r, rows[r]
            if t < lengths[b]:
                add_to(dh[b], dy[b, t])
                cell(kept[t, b], hs[b, t], cs[t, b], dh[b], dc[b], row, dx[b, t])
                add_to(dbias[thread], row)
            else:
                clear(row)
                clear(dx[b, t])
            if du.size:
                copy(row, du[b, t])
        for r in range(count):
            clear(through[r, :hidden])
        multiply_rows(rows, panels, through)
        for r in range(count):
            add_to(dh[start + r], through[r, :hidden])  # after the end of the sequence this adds zeros


# -- the ops ---------------------------------------------------------------------------------------


def run_cell(
    name: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    state: tuple[Array, ...],
    lengths: Array | None,
    reverse: bool,
) -> Any:
    require_shapes(CELLS[name].gates, x, weight, state)
    batch, steps, width = x.shape
    hidden = weight.shape[1]
    ends = np.full(batch, steps) if lengths is None else np.array(lengths, np.int64)
    if not are_float32(weight, bias, *state) or hidden == 0 or batch * steps < FEW or ends.shape != (batch,):
        return NotImplemented
    if bias is not None and bias.shape != (width,):
        return NotImplemented
    cell = cell_of(name)
    nothing = np.empty((batch, 0), np.float32)  # for cells without a c
    added = np.zeros(width, np.float32) if bias is None else as_contiguous(bias)
    last = tuple(np.array(s, order="C") for s in state)
    y, hs = np.empty((2, batch, steps, hidden), np.float32)
    cs = np.empty((steps, batch, hidden if len(state) > 1 else 0), np.float32)
    kept = np.empty((steps, batch, cell.kept * hidden), np.float32)
    panels = panels_of(weight.T)
    h, c = last if len(state) > 1 else (*last, nothing)
    x = as_contiguous(x)
    room = empty_rows(batch, panels)
    run_forward(PARTS, x, cell.forward, panels, added, h, c, ends, reverse, y, hs, cs, kept, *room)

    def rule(gradients: Any) -> tuple[Any, ...]:
        dy, dstate = as_contiguous(gradients[0]), [np.array(g, order="C") for g in gradients[1:]]
        dh, dc = dstate if len(state) > 1 else (*dstate, nothing)
        dx = np.empty((batch, steps, width), np.float32)
        apart = name == "gru"  # u and x have different gradients
        du = np.empty((batch if apart else 0, steps, width), np.float32)
        sums = np.zeros((PARTS, width), np.float32)
        panels = panels_of(weight)
        room = empty_rows(batch, panels)
        run_backward(
            PARTS, dy, cell.backward, panels, dh, dc, ends, reverse, hs, cs, kept, dx, du, sums, *room
        )
        dweight = product(matrix(du if apart else dx, width), matrix(hs, hidden), ta=True)
        return dx, dweight, None if bias is None else sums.sum(axis=0), *dstate

    return (y, *last), rule


def empty_rows(batch: int, panels: Array) -> tuple[Array, Array]:
    """Memory for the left factors and the results of `multiply_rows`, for each part of the batch. The
    numbers of rows are multiples of a tile's."""
    count, length, columns = panels.shape
    rows = -(-batch // (PARTS * ROWS)) * ROWS
    return np.zeros((PARTS, rows, length), np.float32), np.empty((PARTS, rows, count * columns), np.float32)


def rnn(
    x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None = None, reverse: bool = False
) -> Any:
    return run_cell("rnn", x, weight, bias, (h,), lengths, reverse)


def lstm(
    x: Array,
    weight: Array,
    bias: Array | None,
    h: Array,
    c: Array,
    lengths: Array | None = None,
    reverse: bool = False,
) -> Any:
    return run_cell("lstm", x, weight, bias, (h, c), lengths, reverse)


def gru(
    x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None = None, reverse: bool = False
) -> Any:
    return run_cell("gru", x, weight, bias, (h,), lengths, reverse)

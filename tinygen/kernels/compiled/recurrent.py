"""rnn, lstm and gru. Each thread computes some of the sequences through all time steps, so that no thread
waits for another. One time step of one sequence works on a row of numbers that stays in the nearest cache.

In backward, the weight's gradient is one large product after the loop over time, as in the definition.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from tinygen.kernels.compiled.compile import PARTS, as_contiguous, compile_callback, inner, parallel
from tinygen.kernels.compiled.linear import matrix, product
from tinygen.kernels.compiled.math import ONE, ZERO, sigmoid, tanh
from tinygen.kernels.compiled.tile import ROWS, multiply_rows, panels_of
from tinygen.kernels.registry import are_float32
from tinygen.ops.recurrent import require_shapes
from tinygen.tensor import Array

FEW = 32  # with fewer time steps of all sequences together, making the panels is not worth it

# -- one time step of one sequence -----------------------------------------------------------------
#
# The loops are short and have few arrays: the compiler vectorizes a loop only if it can check that its arrays
# do not overlap, and for many pairs it does not try.


@inner
def copy(x, y):
    for j in range(y.size):
        y[j] = x[j]


@inner
def clear(y):
    for j in range(y.size):
        y[j] = ZERO


@inner
def add_to(y, x):
    for j in range(y.size):
        y[j] += x[j]


@inner
def sigmoid_of_sum(x, u, y):
    for j in range(y.size):
        y[j] = sigmoid(x[j] + u[j])


@inner
def tanh_of_sum(x, u, y):
    for j in range(y.size):
        y[j] = tanh(x[j] + u[j])


@inner
def gate_gradient(d, other, gate, da):
    """da = d · other · gate (1 - gate)."""
    for j in range(da.size):
        da[j] = d[j] * other[j] * (gate[j] * (ONE - gate[j]))


def simple_forward(x, u, h, c, kept):
    tanh_of_sum(x, u, h)
    copy(h, kept)


def simple_backward(kept, h, c, dh, dc, du, dx):
    for j in range(du.size):
        du[j] = dh[j] * (ONE - kept[j] * kept[j])
    copy(du, dx)
    clear(dh)


def lstm_forward(x, u, h, c, kept):
    n = h.size
    sigmoid_of_sum(x[: 2 * n], u[: 2 * n], kept[: 2 * n])
    tanh_of_sum(x[2 * n : 3 * n], u[2 * n : 3 * n], kept[2 * n : 3 * n])
    sigmoid_of_sum(x[3 * n :], u[3 * n :], kept[3 * n :])
    i, f, g, o = kept[:n], kept[n : 2 * n], kept[2 * n : 3 * n], kept[3 * n :]
    for j in range(n):
        c[j] = f[j] * c[j] + i[j] * g[j]
    for j in range(n):
        h[j] = o[j] * tanh(c[j])


def lstm_backward(kept, h, c, dh, dc, du, dx):
    n = c.size
    i, f, g, o = kept[:n], kept[n : 2 * n], kept[2 * n : 3 * n], kept[3 * n :]
    di, df, dg, do = du[:n], du[n : 2 * n], du[2 * n : 3 * n], du[3 * n :]
    seen = dx[:n]  # temporarily, tanh of the new c
    for j in range(n):
        seen[j] = tanh(f[j] * c[j] + i[j] * g[j])
    gate_gradient(dh, seen, o, do)
    for j in range(n):
        dc[j] += dh[j] * o[j] * (ONE - seen[j] * seen[j])
    gate_gradient(dc, g, i, di)
    gate_gradient(dc, c, f, df)
    for j in range(n):
        dg[j] = dc[j] * i[j] * (ONE - g[j] * g[j])
    for j in range(n):
        dc[j] *= f[j]
    copy(du, dx)
    clear(dh)


def gru_forward(x, u, h, c, kept):
    n = h.size
    sigmoid_of_sum(x[: 2 * n], u[: 2 * n], kept[: 2 * n])
    r, z, candidate = kept[:n], kept[n : 2 * n], kept[2 * n : 3 * n]
    xn, un = x[2 * n :], u[2 * n :]
    for j in range(n):
        candidate[j] = tanh(xn[j] + r[j] * un[j])
    copy(un, kept[3 * n :])
    for j in range(n):
        h[j] = (ONE - z[j]) * candidate[j] + z[j] * h[j]


def gru_backward(kept, h, c, dh, dc, du, dx):
    n = h.size
    r, z, candidate, un = kept[:n], kept[n : 2 * n], kept[2 * n : 3 * n], kept[3 * n :]
    dr, dz, through, dn = du[:n], du[n : 2 * n], du[2 * n :], dx[2 * n :]
    for j in range(n):
        dn[j] = h[j] - candidate[j]
    gate_gradient(dh, dn, z, dz)
    for j in range(n):
        dn[j] = dh[j] * (ONE - z[j]) * (ONE - candidate[j] * candidate[j])
    gate_gradient(dn, un, r, dr)
    for j in range(n):
        through[j] = dn[j] * r[j]
    for j in range(n):
        dh[j] *= z[j]
    copy(du[: 2 * n], dx[: 2 * n])


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


class Cell(NamedTuple):
    forward: Any
    backward: Any
    gates: int  # G in `ops/recurrent.py`
    kept: int  # how many numbers each hidden unit stores


ROW = types.float32[::1]
CELLS = {
    "rnn": Cell(simple_forward, simple_backward, 1, 1),
    "lstm": Cell(lstm_forward, lstm_backward, 4, 4),
    "gru": Cell(gru_forward, gru_backward, 3, 4),
}


@functools.cache
def cell_of(name: str) -> Cell:
    """The cell with compiled functions, which kernels call by their addresses."""
    cell = CELLS[name]
    forward, backward = (
        compile_callback(cell.forward, *[ROW] * 5),
        compile_callback(cell.backward, *[ROW] * 7),
    )
    return cell._replace(forward=forward, backward=backward)


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

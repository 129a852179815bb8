"""The cells of rnn, lstm and gru: one time step of one sequence, forward and backward.

The formulas are in `tinygen/ops/recurrent.py`. A cell works on rows of numbers that stay in the nearest
cache. The loops are short and have few arrays: the compiler vectorizes a loop only if it can check that its
arrays do not overlap, and for many pairs it does not try.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from numba import types

from tinygen.kernels.compiled.compile import compile_callback, inner
from tinygen.kernels.compiled.math import ONE, ZERO, sigmoid, tanh


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


# -- the three cells -------------------------------------------------------------------------------


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

"""Recurrent networks over a whole sequence: the simple one, the LSTM and the GRU.

Elman 1990, *Finding structure in time*; Hochreiter & Schmidhuber 1997, *Long short-term memory*, with the
forget gates of Gers, Schmidhuber & Cummins 2000, *Learning to forget*; Cho et al. 2014 (arXiv:1406.1078).

The computation of one time step is a **cell**. It takes the projection x of the input, the projection u of
the state, and the state. It returns the new state and the rule that sends the gradient of the new state
back. `run_cell` runs a cell along a sequence, and its rules back in time (backpropagation through time:
Werbos 1990). The input is projected for all time steps at once, by one `linear` before the op.

Shapes: B batch, T time steps, H hidden units, G numbers for each unit: 1, 4 and 3. They are side by side in
PyTorch's order, so that weights can be exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.ops.elementwise import sigmoid
from tinygen.tape import op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules

__all__ = ["gru", "lstm", "rnn"]

CellState = tuple[Array, ...]
Back = Callable[..., tuple[Any, ...]]
"""Takes the gradients of the new state; returns the gradients of x, of u, and of each array of the old state,
without the part that flows through u."""

# -- one time step ---------------------------------------------------------------------------------


def simple_cell(x: Array, u: Array, h: Array) -> tuple[CellState, Back]:
    """h' = tanh(x + u)."""
    new = np.tanh(x + u)

    def backward(dh: Array) -> tuple[Any, ...]:
        da = dh * (1 - new * new)
        return da, da, 0.0

    return (new,), backward


def lstm_cell(x: Array, u: Array, h: Array, c: Array) -> tuple[CellState, Back]:
    """Input gate i, forget gate f, candidate g, output gate o: c' = f c + i g, h' = o tanh(c')."""
    ai, af, ag, ao = np.split(x + u, 4, axis=-1)
    i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
    new = f * c + i * g
    seen = np.tanh(new)

    def backward(dh: Array, dc: Array) -> tuple[Any, ...]:
        dc = dc + dh * o * (1 - seen * seen)
        di = dc * g * (i * (1 - i))
        df = dc * c * (f * (1 - f))
        dg = dc * i * (1 - g * g)
        do = dh * seen * (o * (1 - o))
        da = np.concatenate([di, df, dg, do], axis=-1)
        return da, da, 0.0, dc * f

    return (o * seen, new), backward


def gru_cell(x: Array, u: Array, h: Array) -> tuple[CellState, Back]:
    """Reset gate r, update gate z, candidate n = tanh(xₙ + r uₙ): h' = (1 - z) n + z h.

    This is PyTorch's (and cuDNN's) variant: r acts on the product u = U h. In Cho et al. 2014 it acts on the
    state before the product, U (r h), which takes a product of its own."""
    xr, xz, xn = np.split(x, 3, axis=-1)
    ur, uz, un = np.split(u, 3, axis=-1)
    r, z = sigmoid(xr + ur), sigmoid(xz + uz)
    n = np.tanh(xn + r * un)

    def backward(dh: Array) -> tuple[Any, ...]:
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (h - n) * (z * (1 - z))
        dr = dn * un * (r * (1 - r))
        return np.concatenate([dr, dz, dn], axis=-1), np.concatenate([dr, dz, dn * r], axis=-1), dh * z

    return ((1 - z) * n + z * h,), backward


# -- all of them -----------------------------------------------------------------------------------


def run_cell(
    cell: Callable[..., tuple[CellState, Back]],
    gates: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    state: CellState,
    lengths: Array | None,
    reverse: bool,
) -> tuple[CellState, Callable[[Sequence[Array]], tuple[Any, ...]]]:
    """(every h, the last state), and the rule for the gradients of x, weight, bias and the first state."""
    require_shapes(gates, x, weight, state)
    order = range(x.shape[1])[:: -1 if reverse else 1]
    ys, hs, backs = [], [], []  # in the order in which they are computed
    for t in order:
        before, h = state, state[0]
        u = h @ weight.T if bias is None else h @ weight.T + bias
        state, back = cell(x[:, t], u, *before)
        y = state[0]
        if lengths is not None:  # after its end, a sequence gives zeros and holds its state
            live = (lengths > t)[:, None]
            y = np.where(live, y, 0.0)
            state = tuple(np.where(live, new, old) for new, old in zip(state, before, strict=True))
        ys.append(y)
        hs.append(h)
        backs.append(back)

    def backward(gradients: Sequence[Array]) -> tuple[Any, ...]:
        dy, *dstate = gradients
        dxs, dus = [], []
        for t, backward in zip(order[::-1], backs[::-1], strict=True):
            dnew: list[Any] = [dstate[0] + dy[:, t], *dstate[1:]]
            held: list[Any] = [0.0] * len(dstate)
            if lengths is not None:
                live = (lengths > t)[:, None]
                dnew = [np.where(live, d, 0.0) for d in dnew]
                held = [np.where(live, 0.0, d) for d in dstate]
            dx, du, *through = backward(*dnew)
            through[0] = through[0] + du @ weight
            dstate = [a + b for a, b in zip(through, held, strict=True)]
            dxs.append(dx)
            dus.append(du)
        du, h = np.concatenate(dus[::-1]), np.concatenate(hs)  # (T·B, G·H), (T·B, H): one product for all
        in_time = dxs if reverse else dxs[::-1]
        return np.stack(in_time, axis=1), du.T @ h, None if bias is None else du.sum(axis=0), *dstate

    return (np.stack(ys[:: -1 if reverse else 1], axis=1), *state), backward


def require_shapes(gates: int, x: Array, weight: Array, state: CellState) -> None:
    width, hidden = weight.shape
    if width != gates * hidden or x.ndim != 3 or x.shape[2] != width:
        raise ValueError(
            f"x must be (B, T, {gates}·H) and weight ({gates}·H, H), got {x.shape} and {weight.shape}"
        )
    wrong = next((s.shape for s in state if s.shape != (x.shape[0], hidden)), None)
    if wrong is not None:
        raise ValueError(f"the first state must be {(x.shape[0], hidden)}, got {wrong}")
    if x.shape[1] == 0:
        raise ValueError(f"x {x.shape} has no time steps: at least one is needed")


@op
def rnn(
    x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None = None, reverse: bool = False
) -> ValueAndRules:
    """h_t = tanh(x_t + W h_{t-1} + b) for x (B, T, H), the projected input; weight (H, H), bias (H), and the
    state before, h (B, H). Returns every h (B, T, H), and the last one (B, H).

    `lengths` (B) says how many time steps each sequence has, for batches padded at the end: after its end a
    sequence gives zeros and keeps its state, and the padding has no influence. With `reverse` time runs from
    the last step to the first."""
    return run_cell(simple_cell, 1, x, weight, bias, (h,), lengths, reverse)


@op
def lstm(
    x: Array,
    weight: Array,
    bias: Array | None,
    h: Array,
    c: Array,
    lengths: Array | None = None,
    reverse: bool = False,
) -> ValueAndRules:
    """As `rnn`, with `lstm_cell`: x (B, T, 4H), weight (4H, H), bias (4H) in the order i, f, g, o; the state
    is h and c. Returns every h (B, T, H), the last h and the last c.

    Eq.: c' = f c + i g,  h' = o tanh(c'),  i, f, o = σ(W x + U h + b),  g = tanh(W x + U h + b)
        (Hochreiter & Schmidhuber 1997; Gers et al. 2000)
    Held by: tests/ops/test_recurrent.py::test_lstm_by_hand
    """
    return run_cell(lstm_cell, 4, x, weight, bias, (h, c), lengths, reverse)


@op
def gru(
    x: Array, weight: Array, bias: Array | None, h: Array, lengths: Array | None = None, reverse: bool = False
) -> ValueAndRules:
    """As `rnn`, with `gru_cell`: x (B, T, 3H), weight (3H, H), bias (3H) in the order r, z, n.

    Eq.: h' = (1 - z) n + z h,  n = tanh(W x + b + r (U h + c)),  r, z = σ(W x + U h + b)
        (Cho et al. 2014, in PyTorch's form)
    Held by: tests/ops/test_recurrent.py::test_gru_by_hand
    """
    return run_cell(gru_cell, 3, x, weight, bias, (h,), lengths, reverse)

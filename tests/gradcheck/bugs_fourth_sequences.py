"""Mistakes in attention, recurrent cells, scans and filters along time."""

import numpy as np
from users_planting import sigmoid, softmax, wrong_function, wrong_op

import tinygen
from tinygen import nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter

rng = np.random.default_rng(4303)


@tinygen.op
def lstm_step(gates, cell):
    i, f, o, n = np.split(gates, 4, axis=-1)
    i, f, o, n = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(n)
    new = f * cell + i * n
    squashed = np.tanh(new)

    def back(g):
        gh, _ = g
        do = gh * squashed
        dc = gh * o * (1 - squashed**2)
        di, df, dn = dc * n, dc * cell, dc * i
        parts = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dn * (1 - n**2)]
        return np.concatenate(parts, axis=-1), dc * f

    return (o * squashed, new), back


@wrong_function(
    "lstm",
    (Kind.TERM, Kind.DETACHED, Kind.COTANGENT),
    rng.normal(size=(3, 2, 12)),
    rng.normal(size=(2, 3)),
    culprit="lstm_step",
)
def lstm_whose_cell_carries_nothing_back(gates, cell):
    """Each step's rule has only the gradient that comes through its own output."""
    outputs = []
    for t in range(3):
        h, cell = lstm_step(gates[t], cell)
        outputs.append(h)
    return np.stack(outputs)


@wrong_op(
    "gru",
    (Kind.TERM, Kind.DETACHED),
    rng.normal(size=(2, 4)),
    rng.normal(size=(2, 4)),
    rng.normal(size=(2, 4)),
    rng.normal(size=(2, 4)),
    rng.normal(size=(4, 4)),
)
def gru_with_the_state_through_the_gate_alone(r_in, z_in, n_in, h, u):
    """The old state is in the candidate too, by way of r * h."""
    r, z = sigmoid(r_in), sigmoid(z_in)
    reset = r * h
    n = np.tanh(n_in + reset @ u)
    y = (1 - z) * n + z * h

    def back(g):
        dz = g * (h - n)
        dn_in = g * (1 - z) * (1 - n * n)
        dreset = dn_in @ u.T
        dr = dreset * h
        dh = g * z
        du = reset.T @ dn_in
        return dr * r * (1 - r), dz * z * (1 - z), dn_in, dh, du

    return y, back


@wrong_op(
    "rnn",
    (Kind.SUM, Kind.TERM),
    rng.normal(size=(5, 2, 3)),
    rng.normal(size=(3, 4)),
    0.5 * rng.normal(size=(4, 4)),
)
def rnn_with_the_last_gradient_of_its_input_weight(x, w_in, w_rec):
    """In the loop back through time one weight's gradient is added up, the other one's is set."""
    steps, batch, _ = x.shape
    hs = [np.zeros_like(x, shape=(batch, 4))]
    for t in range(steps):
        hs.append(np.tanh(x[t] @ w_in + hs[-1] @ w_rec))

    def back(g):
        dx, dw_in, dw_rec = np.zeros_like(x), np.zeros_like(w_in), np.zeros_like(w_rec)
        dh = np.zeros_like(hs[0])
        for t in reversed(range(steps)):
            da = (g[t] + dh) * (1 - hs[t + 1] ** 2)
            dx[t] = da @ w_in.T
            dw_in = x[t].T @ da
            dw_rec += hs[t].T @ da
            dh = da @ w_rec.T
        return dx, dw_in, dw_rec

    return np.stack(hs[1:]), back


KEPT = np.array([[1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 0]]) / 0.75
CAUSAL = np.where(np.tril(np.ones((4, 4))) > 0, 0.0, -1e9)


@wrong_op(
    "attention",
    (Kind.MASK, Kind.SLOPE),
    rng.normal(size=(2, 4, 3)),
    rng.normal(size=(2, 4, 3)),
    rng.normal(size=(2, 4, 5)),
)
def attention_whose_values_know_no_dropout(q, k, v):
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ k.swapaxes(-1, -2) + CAUSAL)
    dropped = p * KEPT

    def dscores(g):
        dp = g @ v.swapaxes(-1, -2) * KEPT
        return scale * p * (dp - (dp * p).sum(axis=-1, keepdims=True))

    def dq(g):
        return dscores(g) @ k

    def dk(g):
        return dscores(g).swapaxes(-1, -2) @ q

    def dv(g):
        return p.swapaxes(-1, -2) @ g

    return dropped @ v, dq, dk, dv


@wrong_op("merge_heads", Kind.PLACE, rng.normal(size=(2, 4, 3, 2)))
def heads_split_by_reshape(x):
    """(B, heads, T, D) -> (B, T, heads D)."""
    b, heads, t, d = x.shape
    y = x.transpose(0, 2, 1, 3).reshape(b, t, heads * d)
    return y, lambda g: g.reshape(b, heads, t, d)


@wrong_op(
    "relative_bias",
    (Kind.SUM, Kind.TERM, Kind.MASK),
    rng.normal(size=(2, 5, 5)),
    rng.normal(size=(9, 2)),
)
def relative_positions_with_repeated_indices(scores, table):
    """One row of the table for each distance; `+=` with an index array adds only once to each."""
    t = scores.shape[-1]
    distance = np.arange(t)[:, None] - np.arange(t) + t - 1
    y = scores + np.moveaxis(table[distance], -1, 0)

    def dtable(g):
        d = np.zeros_like(table)
        d[distance] += np.moveaxis(g, 0, -1)
        return d

    return y, lambda g: g, dtable


@wrong_op("selective_scan", Kind.PLACE, rng.uniform(0.2, 0.95, size=(7, 3)), rng.normal(size=(7, 3)))
def scan_with_the_state_after_the_step(decay, drive):
    h = np.zeros_like(drive)
    state = np.zeros_like(drive[0])
    for t in range(len(drive)):
        state = decay[t] * state + drive[t]
        h[t] = state

    def adjoint(g):
        lam = np.zeros_like(g)
        carry = np.zeros_like(g[0])
        for t in range(len(g) - 1, -1, -1):
            lam[t] = g[t] + carry
            carry = decay[t] * lam[t]
        return lam

    def ddecay(g):
        return adjoint(g) * h

    return h, ddecay, adjoint


@wrong_op("ema", Kind.PLACE, rng.normal(size=(11,)))
def smoothing_forward_in_time_both_ways(x):
    beta = 0.7

    def smooth(z):
        out, level = [], 0.0
        for value in z:
            level = beta * level + (1 - beta) * value
            out.append(level)
        return np.stack(out)

    return smooth(x), smooth


@wrong_function("rnn", Kind.STATE, rng.normal(size=(2, 3)))
class RecurrentLayerThatRemembers(nn.Module):
    """Its state stays from one call to the next, and nobody resets it."""

    def __init__(self):
        self.w = Parameter(rng.normal(size=(3, 4)))
        self.u = Parameter(0.5 * rng.normal(size=(4, 4)))
        self.state = np.zeros((2, 4))

    def forward(self, x):
        h = np.tanh(x @ self.w + self.state @ self.u)
        self.state = h.detach().numpy().copy()
        return h


@wrong_op("highway", Kind.SLOPE, rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=4))
def highway_whose_gate_is_its_own_input(x, gate_in, bias):
    """y = t tanh(x) + (1 - t) x, and t is a sigmoid of its input."""
    t = sigmoid(gate_in + bias)
    h = np.tanh(x)
    y = t * h + (1 - t) * x

    def dx(g):
        return g * (t * (1 - h * h) + 1 - t)

    def dgate(g):
        return g * (h - x)

    return y, dx, dgate, lambda g: dgate(g).sum(axis=0)


GUMBEL = -np.log(-np.log(np.random.default_rng(9).uniform(size=(3, 5))))


@wrong_op("gumbel_softmax", Kind.CONSTANT, rng.normal(size=(3, 5)))
def gumbel_sample_at_temperature_one_on_the_way_back(logits):
    tau = 0.6
    y = softmax((logits + GUMBEL) / tau)

    def dlogits(g):
        inner = (g * y).sum(axis=-1, keepdims=True)
        return y * (g - inner)

    return y, dlogits

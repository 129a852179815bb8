"""Right but unusual functions, on which the checker must not complain."""

import numpy as np
from users_planting import right_function, right_op, softmax, spread

import tinygen
from tinygen import nn, ops
from tinygen.nn import Parameter

rng = np.random.default_rng(5404)


def normal(*shape):
    return rng.normal(size=shape)


@right_function("logsumexp", 3 * normal(3, 4))
def logsumexp_with_a_detached_shift(x):
    """The shift cancels, so it needs no gradient."""
    top = x.max(axis=-1, keepdims=True).detach()
    return np.log(np.exp(x - top).sum(axis=-1)) + top[:, 0]


@right_op("kepler", np.array([0.3, 1.1, 2.5, -0.8]), np.array([0.1, 0.4, 0.6, 0.2]))
def eccentric_anomaly(mean_anomaly, eccentricity):
    """E - e sin E = M by Newton's method; the rules by the implicit function theorem."""
    e = mean_anomaly.copy()
    for _ in range(50):
        e -= (e - eccentricity * np.sin(e) - mean_anomaly) / (1 - eccentricity * np.cos(e))
    slope = 1 / (1 - eccentricity * np.cos(e))
    return e, lambda g: g * slope, lambda g: g * slope * np.sin(e)


@right_op("mean", normal(3, 4, 2))
def mean_with_a_view_as_its_gradient(x):
    """What the rule returns is read-only, and all its entries share memory."""
    return x.mean(axis=(0, 2)), lambda g: np.broadcast_to(g[None, :, None] / 6, x.shape)


@right_op("diagonal", normal(2, 3, 3))
def diagonals_by_einsum(a):
    def da(g):
        d = np.zeros_like(a)
        np.einsum("bii->bi", d)[...] = g
        return d

    return np.einsum("bii->bi", a), da


@right_op("logdet", normal(2, 3, 3) + 3 * np.eye(3))
def log_volume_of_a_flow(w):
    return np.linalg.slogdet(w)[1], lambda g: g[:, None, None] * np.linalg.inv(w).swapaxes(1, 2)


@right_op("cvar", spread(3, 6))
def mean_of_the_two_worst(losses):
    worst = np.argpartition(losses, -2, axis=1)[:, -2:]

    def dlosses(g):
        d = np.zeros_like(losses)
        np.put_along_axis(d, worst, np.repeat(g[:, None] / 2, 2, axis=1), axis=1)
        return d

    return np.take_along_axis(losses, worst, axis=1).mean(axis=1), dlosses


@right_op("asinh", np.array([1e-9, -1e-4, 0.7, -35.0, 1e4, 2e8]))
def inverse_sine_on_all_scales(x):
    return np.arcsinh(x), lambda g: g / np.hypot(1, x)


@tinygen.op
def reversible_coupling(a, b, w):
    """RevNet: the rule computes the inputs anew from the outputs."""
    y = a + np.tanh(b @ w)
    z = b + np.tanh(y @ w)

    def back(gs):
        gy, gz = gs
        old_b = z - np.tanh(y @ w)
        inner = gz * (1 - np.tanh(y @ w) ** 2)
        dy = gy + inner @ w.T
        outer = dy * (1 - np.tanh(old_b @ w) ** 2)
        return dy, gz + outer @ w.T, y.T @ inner + old_b.T @ outer

    return (y, z), back


@right_function("revnet", normal(3, 4))
class ReversibleNetwork(nn.Module):
    """The first layer's second output is used, the last layer's is not."""

    def __init__(self):
        self.w = [Parameter(normal(2, 2)) for _ in range(2)]

    def forward(self, x):
        a, b = x[:, :2], x[:, 2:]
        for w in self.w:
            a, b = reversible_coupling(a, b, w)
        return a


@right_function("tied_lm", np.array([[0, 2, 2, 4], [1, 3, 0, 0]]))
class TiedLanguageModel(nn.Module):
    """One table reads and writes; the causal mask is kept between calls."""

    def __init__(self):
        self.table = Parameter(normal(5, 3))
        self.mask = None

    def forward(self, ids):
        t = ids.shape[1]
        if self.mask is None:
            self.mask = np.where(np.tri(t, dtype=bool), 0.0, -np.inf)
        x = self.table[ids]
        x = x + ops.softmax(x @ x.swapaxes(1, 2) + self.mask) @ x
        return np.log(ops.softmax(x @ self.table.T))


@right_op("gumbel_softmax", normal(3, 4), np.array([0.8]))
def relaxed_choice_with_its_own_generator(logits, temperature):
    gumbel = np.random.default_rng(5).gumbel(size=logits.shape)
    scores = (logits + gumbel) / temperature
    p = softmax(scores)

    def dscores(g):
        return p * (g - (g * p).sum(axis=-1, keepdims=True))

    return (
        p,
        lambda g: dscores(g) / temperature,
        lambda g: -(dscores(g) * scores).sum().reshape(1) / temperature,
    )

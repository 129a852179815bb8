"""Mistakes in recurrent cells, rotations, convolutions and pooling."""

import numpy as np
from users_planting import normal, sigmoid, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("gru", (Kind.SLOPE, Kind.PLACE), normal(2, 3), normal(2, 3), normal(2, 3))
def gru_state_kept_by_the_other_gate(a, n, h):
    """h' = (1 - z) n + z h, with z and 1 - z exchanged in the two last rules."""
    z = sigmoid(a)
    return (1 - z) * n + z * h, lambda g: g * (h - n) * z * (1 - z), lambda g: g * z, lambda g: g * (1 - z)


@wrong_op("rnn", (Kind.TERM, Kind.DETACHED), normal(4, 3), normal(3, 3))
def rnn_cut_after_one_step(x, w):
    """Backpropagation through time that goes back no time."""
    h = np.zeros((5, 3))
    for t in range(4):
        h[t + 1] = np.tanh(x[t] + h[t] @ w.T)
    slope = 1 - h[1:] ** 2
    return h[1:], lambda g: g * slope, lambda g: (g * slope).T @ h[:-1]


@wrong_op("rope", Kind.PLACE, normal(4, 6))
def rotation_of_pairs_with_the_gradient_of_halves(x):
    """Neighbors are turned forward; the first half against the second backward."""
    angle = np.arange(1, 5)[:, None] * np.array([1.0, 0.3, 0.1])
    c, s = np.cos(angle), np.sin(angle)
    a, b = x[:, ::2], x[:, 1::2]
    y = np.stack([a * c - b * s, a * s + b * c], axis=-1).reshape(4, 6)

    def dx(g):
        a, b = g[:, :3], g[:, 3:]
        return np.concatenate([a * c + b * s, b * c - a * s], axis=1)

    return y, dx


@wrong_op("rope", Kind.PLACE, normal(3, 4))
def rotation_back_from_position_zero(x):
    """With a cache, positions begin at 5; in the rule at 0."""

    def turned(z, start, sign):
        angle = np.arange(start, start + 3)[:, None] * np.array([1.0, 0.1])
        c, s = np.cos(angle), sign * np.sin(angle)
        a, b = z[:, :2], z[:, 2:]
        return np.concatenate([a * c - b * s, a * s + b * c], axis=1)

    return turned(x, 5, 1), lambda g: turned(g, 0, -1)


@wrong_op("geglu", Kind.PLACE, normal(3, 6))
def geglu_with_its_halves_exchanged(x):
    a, b = x[:, :3], x[:, 3:]
    s = sigmoid(1.7 * b)
    return a * b * s, lambda g: np.concatenate([g * a * (s + 1.7 * b * s * (1 - s)), g * b * s], axis=1)


@wrong_op("conv1d", Kind.PLACE, normal(2, 7), normal(3))
def strided_conv_spread_without_its_stride(x, w):
    taps = [x[:, t : t + 5 : 2] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in range(3):
            d[:, t : t + 3] += w[t] * g
        return d

    return sum(w[t] * taps[t] for t in range(3)), dx, lambda g: np.array([(g * tap).sum() for tap in taps])


@wrong_op("unfold", (Kind.MASK, Kind.SUM, Kind.TERM), normal(2, 6))
def windows_folded_by_overwriting(x):
    def dx(g):
        d = np.zeros_like(x)
        for i in range(4):
            d[:, i : i + 3] = g[:, i]
        return d

    return np.lib.stride_tricks.sliding_window_view(x, 3, 1) * 1.0, dx


@wrong_op("avg_pool1d", Kind.MASK, normal(2, 6))
def avg_pool_that_counts_its_padding_in_the_backward(x):
    """Windows of 3 around each entry; at the ends there are 2."""

    def sums(z):
        z = np.pad(z, ((0, 0), (1, 1)))
        return z[:, :-2] + z[:, 1:-1] + z[:, 2:]

    return sums(x) / sums(np.ones_like(x)), lambda g: sums(g) / 3


@wrong_op("pixel_shuffle", Kind.PLACE, normal(1, 4, 2, 3))
def pixel_shuffle_back_in_the_order_of_blocks(x):
    """(N, 4, H, W) -> (N, 1, 2H, 2W); the rule takes the two factors in the other order."""
    y = x.reshape(1, 2, 2, 2, 3).transpose(0, 3, 1, 4, 2).reshape(1, 1, 4, 6)
    return y, lambda g: g.reshape(1, 2, 2, 3, 2).transpose(0, 4, 2, 1, 3).reshape(1, 4, 2, 3)


@wrong_op("upsample_linear", Kind.PLACE, normal(2, 4))
def interpolation_with_its_weights_exchanged(x):
    """At 0.25 and 0.75 between neighbors; the rule gives each neighbor the weight of the other."""
    t = np.array([0.25, 0.75])
    y = x[:, :-1, None] * (1 - t) + x[:, 1:, None] * t

    def dx(g):
        d = np.zeros_like(x)
        d[:, :-1] += (g * t).sum(axis=-1)
        d[:, 1:] += (g * (1 - t)).sum(axis=-1)
        return d

    return y, dx

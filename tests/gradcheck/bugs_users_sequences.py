"""Mistakes in recurrent cells, rotations, convolutions and pooling."""

import numpy as np
from users_planting import normal, sigmoid, spread, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("gru", Kind.SLOPE, normal(2, 3), normal(2, 3), normal(2, 3))
def gru_candidate_without_its_reset_gate(a, x, u):
    """n = tanh(x + r u), and the gradient of u does not go through r."""
    r = sigmoid(a)
    n = np.tanh(x + r * u)
    slope = 1 - n * n
    return n, lambda g: g * slope * u * r * (1 - r), lambda g: g * slope, lambda g: g * slope


@wrong_op("rnn", (Kind.SUM, Kind.TERM), normal(4, 3), normal(3, 3))
def rnn_weight_of_the_last_step(x, w):
    """`=` for `+=` in the loop over time."""
    h = np.zeros((5, 3))
    for t in range(4):
        h[t + 1] = np.tanh(x[t] + h[t] @ w.T)

    def back(g):
        dh, dx, dw = np.zeros(3), np.zeros_like(x), np.zeros_like(w)
        for t in reversed(range(4)):
            dx[t] = (g[t] + dh) * (1 - h[t + 1] ** 2)
            dh = dx[t] @ w
            dw = np.outer(dx[t], h[t]) if t == 3 else dw
        return dx, dw

    return h[1:], back


@wrong_op("swiglu", Kind.TERM, normal(3, 4), normal(3, 4))
def swiglu_with_the_slope_of_its_gate_cut_short(a, b):
    s = sigmoid(a)
    return a * s * b, lambda g: g * b * s, lambda g: g * a * s


@wrong_op("conv2d", Kind.PLACE, normal(1, 4, 4), normal(3, 3))
def conv2d_back_through_a_kernel_on_its_side(x, w):
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))

    def dx(g):
        d = np.zeros_like(x)
        for i in range(3):
            for j in range(3):
                d[:, i : i + 2, j : j + 2] += w[j, i] * g
        return d

    return np.einsum("nhwij,ij->nhw", seen, w), dx, lambda g: np.einsum("nhwij,nhw->ij", seen, g)


@wrong_op("max_pool2d", (Kind.PLACE, Kind.MASK), spread(2, 4, 5))
def max_pool_with_its_winners_in_another_width(x):
    """One window, the whole map: its winner's number is taken apart by the height instead of the width."""
    flat = x.reshape(2, 20)
    winner = flat.argmax(axis=1)

    def dx(g):
        d = np.zeros_like(x)
        d[[0, 1], winner // 4 % 4, winner % 4] = g
        return d

    return flat.max(axis=1), dx


@wrong_op("mean", Kind.COTANGENT, normal(3, 4))
def mean_by_integer_division(x):
    return x.mean(axis=1), lambda g: np.broadcast_to(g[:, None] // x.shape[1], x.shape)


@wrong_op("concatenate", (Kind.SHAPE, Kind.RAISES), normal(2, 2), normal(2, 3), normal(2, 4))
def concatenated_parts_split_by_their_sizes(a, b, c):
    """np.split wants the places of the cuts, not the sizes."""
    return np.concatenate([a, b, c], axis=1), lambda g: tuple(np.split(g, [2, 3], axis=1))

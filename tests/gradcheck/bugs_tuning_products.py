"""Mistakes in products, recurrences, indexing and decompositions, written to improve the diagnosis on."""

import numpy as np
from users_planting import normal, positive, sigmoid, spread, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("cross", Kind.CONSTANT, normal(4, 3), normal(4, 3))
def cross_product_in_one_order(a, b):
    return np.cross(a, b), lambda g: np.cross(b, g), lambda g: np.cross(a, g)


@wrong_op("kron", (Kind.SUM, Kind.PLACE), normal(2, 2), normal(2, 2))
def kron_with_its_blocks_taken_for_its_entries(a, b):
    y = np.kron(a, b)

    def blocks(g):
        return g.reshape(2, 2, 2, 2)  # (i, k, j, l) taken as (i, j, k, l)

    return (
        y,
        lambda g: np.einsum("ijkl,kl->ij", blocks(g), b),
        lambda g: np.einsum("ikjl,ij->kl", blocks(g), a),
    )


@wrong_op("trace", (Kind.MASK, Kind.PLACE), normal(3, 3), normal(3, 3))
def trace_of_a_product_not_transposed(a, b):
    return np.trace(a @ b), lambda g: g * b, lambda g: g * a.T


@wrong_op("matrix_power", Kind.TERM, normal(3, 3))
def cube_of_a_matrix_by_its_two_ends(x):
    """g X'X' + X'X'g, without the middle."""
    return x @ x @ x, lambda g: g @ x.T @ x.T + x.T @ x.T @ g


@wrong_op("gram", (Kind.CONSTANT, Kind.TERM), normal(4, 3))
def gram_matrix_as_if_what_comes_back_were_symmetric(x):
    return x.T @ x, lambda g: 2 * x @ g


@wrong_op("det", (Kind.SLOPE, Kind.CONSTANT), normal(2, 3, 3))
def determinants_without_themselves(x):
    return np.linalg.det(x), lambda g: g[:, None, None] * np.linalg.inv(x).swapaxes(-1, -2)


@wrong_op("pinv", Kind.TERM, normal(4, 2))
def projection_coefficients_with_a_fixed_gram(x):
    inverse = np.linalg.inv(x.T @ x)
    return inverse @ x.T, lambda g: (inverse @ g).T


@wrong_op("scan", Kind.PLACE, positive(6) / 2, normal(6))
def scan_whose_decay_sees_the_state_after_it(decay, x):
    h, states = 0.0, []
    for t in range(6):
        h = decay[t] * h + x[t]
        states.append(h)
    h = np.array(states)

    def back(g):
        carried, dh = 0.0, np.zeros(6)
        for t in reversed(range(6)):
            dh[t] = g[t] + carried
            carried = dh[t] * decay[t]
        return dh * h, dh

    return h, back


@wrong_op(
    "rnn",
    (Kind.TERM, Kind.DETACHED, Kind.SUM),
    normal(5, 2, 3),
    normal(3, 3),
)
def rnn_whose_weight_sees_no_past(x, w):
    """The inputs get all that comes back in time, the weight only what comes back at each step."""
    h = np.zeros((6, 2, 3))
    for t in range(5):
        h[t + 1] = np.tanh(x[t] + h[t] @ w)

    def back(g):
        dx, dh, dw = np.zeros_like(x), np.zeros((2, 3)), np.zeros_like(w)
        for t in reversed(range(5)):
            dx[t] = (g[t] + dh) * (1 - h[t + 1] ** 2)
            dw += h[t].T @ (g[t] * (1 - h[t + 1] ** 2))
            dh = dx[t] @ w.T
        return dx, dw

    return h[1:], back


@wrong_op("rnn", Kind.PLACE, normal(4, 3), normal(3, 3))
def rnn_that_goes_back_by_its_weight_as_it_is(x, w):
    h = np.zeros((5, 3))
    for t in range(4):
        h[t + 1] = np.tanh(x[t] + h[t] @ w)

    def back(g):
        dx, dh, dw = np.zeros_like(x), np.zeros(3), np.zeros_like(w)
        for t in reversed(range(4)):
            dx[t] = (g[t] + dh) * (1 - h[t + 1] ** 2)
            dw += np.outer(h[t], dx[t])
            dh = dx[t] @ w
        return dx, dw

    return h[1:], back


@wrong_op("lstm", (Kind.TERM, Kind.DETACHED, Kind.MASK), normal(2, 12), normal(2, 3))
def lstm_whose_output_gate_is_all_that_learns_from_the_output(a, c):
    i, f, o = (sigmoid(a[:, n : n + 3]) for n in (0, 3, 9))
    n = np.tanh(a[:, 6:9])
    new = f * c + i * n
    t = np.tanh(new)

    def back(g):
        dc = g * o * (1 - t * t)
        parts = [dc * n * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - n * n), 0 * g]
        return np.concatenate(parts, axis=1), dc * f

    return o * t, back


@wrong_op("momentum", Kind.PLACE, normal(6, 2))
def moving_average_sent_on_instead_of_back(x):
    def smooth(z):
        out, m = np.zeros_like(z), 0.0
        for t in range(len(z)):
            m = 0.7 * m + 0.3 * z[t]
            out[t] = m
        return out

    return smooth(x), smooth


@wrong_op("embedding", Kind.MASK, normal(5, 3), np.array([0, 2, 4, 0]))
def embedding_whose_padding_learns(table, ids):
    real = (ids > 0)[:, None]

    def dtable(g):
        d = np.zeros_like(table)
        np.add.at(d, ids, g)
        return d

    return table[ids] * real, dtable


@wrong_op("gather", (Kind.PLACE, Kind.MASK), normal(3, 5), np.array([[0, 2], [1, 3], [2, 0]]))
def gathered_entries_put_back_one_to_the_right(x, ids):
    rows = np.arange(3)[:, None]

    def dx(g):
        d = np.zeros_like(x)
        d[rows, ids + 1] = g
        return d

    return x[rows, ids], dx


@wrong_op(
    "scatter_mean",
    (Kind.SUM, Kind.SLOPE, Kind.MASK),
    normal(5, 2),
    np.array([0, 0, 1, 1, 1]),
)
def scatter_mean_that_tells_the_first_of_each_group(x, ids):
    count = np.bincount(ids)[:, None]
    y = np.zeros((2, 2))
    np.add.at(y, ids, x)
    first = np.array([1, 0, 1, 0, 0])[:, None]
    return y / count, lambda g: (g / count)[ids] * first


@wrong_op("sort", Kind.PLACE, spread(2, 6))
def top_three_put_where_they_came_out(x):
    order = np.argsort(-x, axis=1)[:, :3]

    def dx(g):
        d = np.zeros_like(x)
        d[:, :3] = g
        return d

    return np.take_along_axis(x, order, 1), dx


@wrong_op("cumsum", (Kind.PLACE, Kind.TERM, Kind.MASK), normal(3, 5))
def exclusive_cumsum_with_the_inclusive_backward(x):
    y = np.cumsum(x, axis=1) - x
    return y, lambda g: np.cumsum(g[:, ::-1], axis=1)[:, ::-1]


@wrong_op("diff", (Kind.CONSTANT, Kind.PLACE), normal(2, 5))
def second_difference_with_its_middle_counted_once(x):
    """x[i] - 2 x[i + 1] + x[i + 2]"""
    y = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]

    def dx(g):
        d = np.zeros_like(x)
        d[:, :-2] += g
        d[:, 1:-1] -= 2 * g
        d[:, 2:] -= g
        return d

    return y, dx


@wrong_op("ifft", Kind.CONSTANT, normal(2, 5))
def orthonormal_transform_with_the_plain_one(x):
    return np.fft.fft(x, norm="ortho").real, lambda g: np.fft.fft(g).real


@wrong_op(
    "fourier_features",
    (Kind.CONSTANT, Kind.MASK, Kind.TERM),
    normal(4, 2),
    normal(2, 3),
)
def fourier_features_with_both_slopes_positive(x, w):
    a = x @ w
    y = np.concatenate([np.sin(a), np.cos(a)], axis=1)

    def slope(g):
        return g[:, :3] * np.cos(a) + g[:, 3:] * np.sin(a)

    return y, lambda g: slope(g) @ w.T, lambda g: x.T @ slope(g)


@wrong_op("grid_sample", Kind.PLACE, normal(4, 4), positive(5, 2))
def bilinear_samples_with_x_and_y_exchanged(image, places):
    i = np.floor(places).astype(int)
    t = places - i
    a, b = i.T
    u, v = t.T
    corners = [image[a, b], image[a, b + 1], image[a + 1, b], image[a + 1, b + 1]]
    weights = [(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v]
    y = sum(c * w for c, w in zip(corners, weights, strict=True))

    def dimage(g):
        d = np.zeros_like(image)
        for (p, q), w in zip([(a, b), (a, b + 1), (a + 1, b), (a + 1, b + 1)], weights, strict=True):
            np.add.at(d, (p, q), g * w)
        return d

    def dplaces(g):
        du = (1 - v) * (corners[2] - corners[0]) + v * (corners[3] - corners[1])
        dv = (1 - u) * (corners[1] - corners[0]) + u * (corners[3] - corners[2])
        return np.stack([g * dv, g * du], axis=1)

    return y, dimage, dplaces


@wrong_op("space_to_depth", Kind.PLACE, normal(1, 4, 6))
def space_to_depth_back_by_a_reshape(x):
    y = x.reshape(1, 2, 2, 3, 2).transpose(0, 2, 4, 1, 3).reshape(1, 4, 2, 3)
    return y, lambda g: g.reshape(x.shape)


@wrong_op("batched_matmul", (Kind.SUM, Kind.SHAPE), normal(3, 2, 4), normal(4, 2))
def shared_matrix_with_the_gradient_of_the_last_batch(a, b):
    return a @ b, lambda g: g @ b.T, lambda g: a[-1].T @ g[-1]

"""Mistakes in products, sequences and formulas, written to improve the diagnosis on."""

import numpy as np
from users_planting import normal, positive, sigmoid, spread, wrong_function, wrong_op

import tinygen
from tinygen import Tensor, nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_op("matmul", (Kind.TERM, Kind.DETACHED), normal(3, 4), normal(4, 2))
def low_rank_product_whose_bias_path_is_dropped(x, w):
    """y = x w + mean(x): the mean is forgotten."""
    return x @ w + x.mean(axis=1, keepdims=True), lambda g: g @ w.T, lambda g: x.T @ g


@wrong_op("quadratic", (Kind.SLOPE, Kind.CONSTANT, Kind.TERM), normal(3, 3), normal(4, 3))
def mahalanobis_by_one_side(a, x):
    """x A x for each row, where A is not symmetric."""
    return (
        np.einsum("bi,ij,bj->b", x, a, x),
        lambda g: np.einsum("b,bi,bj->ij", g, x, x),
        lambda g: g[:, None] * (x @ a.T),
    )


@wrong_op("inv", Kind.PLACE, normal(2, 3, 3) + 3 * np.eye(3))
def batched_inverse_without_any_transpose(x):
    y = np.linalg.inv(x)
    return y, lambda g: -y @ g @ y


@wrong_op("cholesky_solve", (Kind.TERM, Kind.DETACHED), normal(3, 3), normal(3, 2))
def solve_whose_matrix_is_built_inside_and_counted_half(a, b):
    """Solves (a a' + 1) y = b; of the two a's one is counted."""
    m = a @ a.T + 2 * np.eye(3)
    y = np.linalg.solve(m, b)

    def da(g):
        dm = -np.linalg.solve(m, g) @ y.T
        return dm @ a

    return y, da, lambda g: np.linalg.solve(m, g)


@wrong_op("norm", (Kind.SUM, Kind.PLACE, Kind.SLOPE), normal(3, 3))
def unit_rows_divided_by_the_lengths_of_columns(x):
    n = np.sqrt((x * x).sum(axis=1, keepdims=True))
    y = x / n
    return (
        y,
        lambda g: (g - y * (g * y).sum(axis=1, keepdims=True)) / np.sqrt((x * x).sum(axis=0, keepdims=True)),
    )


@wrong_op("outer_sum", Kind.PLACE, normal(4), normal(4))
def table_of_sums_with_rows_and_columns_exchanged(a, b):
    return (
        np.tanh(a[:, None] + b),
        lambda g: (g * (1 - np.tanh(a[:, None] + b) ** 2)).sum(axis=0),
        lambda g: (g * (1 - np.tanh(a[:, None] + b) ** 2)).sum(axis=1),
    )


@wrong_op("tensordot", (Kind.PLACE, Kind.SUM), normal(2, 3, 3), normal(3, 3, 4))
def contraction_with_its_two_axes_exchanged(a, b):
    return (
        np.einsum("nij,ijk->nk", a, b),
        lambda g: np.einsum("nk,jik->nij", g, b),
        lambda g: np.einsum("nij,nk->ijk", a, g),
    )


@wrong_op("cumprod", (Kind.PLACE, Kind.TERM, Kind.SUM), positive(2, 5))
def cumulative_product_whose_sum_starts_one_late(x):
    y = np.cumprod(x, axis=1)

    def dx(g):
        s = np.cumsum((g * y)[:, ::-1], axis=1)[:, ::-1]
        return np.concatenate([s[:, 1:], np.zeros((2, 1))], axis=1) / x

    return y, dx


@wrong_op("logcumsumexp", (Kind.SLOPE, Kind.PLACE), normal(2, 5))
def running_logsumexp_sent_back_as_a_running_sum(x):
    y = np.log(np.cumsum(np.exp(x), axis=1))
    return y, lambda g: np.cumsum(g[:, ::-1], axis=1)[:, ::-1] * np.exp(x - y)


@wrong_op("gru", (Kind.TERM, Kind.DETACHED), normal(2, 3), normal(3, 3), normal(3, 3))
def gru_state_that_is_not_seen_by_its_gate(h, u, w):
    z = sigmoid(h @ u)
    n = np.tanh(h @ w)
    y = (1 - z) * n + z * h

    def dh(g):
        return g * z + (g * (1 - z) * (1 - n * n)) @ w.T

    return y, dh, lambda g: h.T @ (g * (h - n) * z * (1 - z)), lambda g: h.T @ (g * (1 - z) * (1 - n * n))


@wrong_op("ssm", (Kind.SUM, Kind.TERM), positive(3) / 2, normal(5, 3))
def state_space_decay_with_the_gradient_of_its_last_step(a, x):
    h = np.zeros((6, 3))
    for t in range(5):
        h[t + 1] = a * h[t] + x[t]

    def back(g):
        d, dx, da = np.zeros(3), np.zeros_like(x), np.zeros(3)
        for t in reversed(range(5)):
            d = g[t] + (a * d if t < 4 else 0)
            dx[t] = d
            if t == 4:
                da = d * h[t]
        return da, dx

    return h[1:], back


@wrong_op("bidirectional", Kind.PLACE, normal(3, 4))
def both_directions_exchanged_on_the_way_back(x):
    f, b = np.cumsum(x, axis=1), np.cumsum(x[:, ::-1], axis=1)[:, ::-1]
    y = np.concatenate([f, b], axis=1)
    return y, lambda g: np.cumsum(g[:, :4], axis=1) + np.cumsum(g[:, :3:-1], axis=1)[:, ::-1]


@wrong_op("unfold", (Kind.CONSTANT, Kind.SLOPE, Kind.MASK), normal(2, 6))
def overlapping_windows_averaged_on_the_way_back(x):
    y = np.lib.stride_tricks.sliding_window_view(x, 3, 1) * 1.0

    def dx(g):
        d, n = np.zeros_like(x), np.zeros_like(x)
        for i in range(4):
            d[:, i : i + 3] += g[:, i]
            n[:, i : i + 3] += 1
        return d / n

    return y, dx


@wrong_op("roll", (Kind.PLACE, Kind.SUM), normal(4, 4))
def roll_back_along_the_other_axis(x):
    return np.roll(x, 1, axis=0), lambda g: np.roll(g, -1, axis=1)


@wrong_op("moveaxis", Kind.PLACE, normal(2, 3, 4))
def moved_axis_moved_on(x):
    return np.moveaxis(x, 0, 2), lambda g: g.reshape(2, 3, 4)


@wrong_op("stack", (Kind.SUM, Kind.TERM, Kind.DETACHED), normal(3, 4))
def stacked_twice_and_counted_once(x):
    return np.stack([np.sin(x), np.cos(x)]), lambda g: g[0] * np.cos(x)


@wrong_op("median", (Kind.MASK, Kind.PLACE), spread(3, 5))
def median_that_pays_the_middle_of_the_row(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, 2] = g
        return d

    return np.median(x, axis=1), dx


@wrong_op("huber", (Kind.CONSTANT, Kind.MASK), spread(3, 4))
def huber_whose_slope_outside_has_no_sign(x):
    inside = np.abs(x) < 0.5
    return np.where(inside, 0.5 * x * x, 0.5 * np.abs(x) - 0.125), lambda g: g * np.where(inside, x, 0.5)


@wrong_op("gelu", (Kind.SLOPE, Kind.TERM), normal(3, 4))
def quick_gelu_without_its_constant_inside(x):
    s = sigmoid(1.702 * x)
    return x * s, lambda g: g * (s + x * s * (1 - s))


@wrong_op("arctan", Kind.SLOPE, normal(3, 4))
def arctan_with_the_slope_of_arctanh(x):
    return np.arctan(x), lambda g: g / (1 - x * x)


@wrong_op("power", (Kind.TERM, Kind.DETACHED), positive(3, 4))
def x_to_the_x_with_the_power_rule(x):
    y = x**x
    return y, lambda g: g * x * x ** (x - 1)


@wrong_op("softplus", Kind.CONSTANT, normal(3, 4))
def log_sigmoid_with_a_plus(x):
    return -np.log1p(np.exp(-x)), lambda g: -g * sigmoid(-x)


@wrong_op("hypot", Kind.SLOPE, positive(3, 4), positive(3, 4))
def hypotenuse_not_divided(a, b):
    return np.sqrt(a * a + b * b), lambda g: g * a, lambda g: g * b


@wrong_op("celu", (Kind.MASK, Kind.SLOPE), spread(3, 4))
def celu_whose_alpha_is_in_its_slope(x):
    return np.where(
        x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)
    ), lambda g: g * np.where(x > 0, 1.0, 2 * np.exp(np.minimum(x, 0) / 2))


@wrong_op("round", Kind.TERM, spread(3, 4))
def residual_quantizer_straight_through(x):
    return np.sin(x) + 0.5 * np.floor(3 * x), lambda g: g * (np.cos(x) + 1.5)


@wrong_op("multiply", Kind.COTANGENT, normal(3), normal(3))
def dot_product_with_no_cotangent_for_its_second(a, b):
    return a @ b, lambda g: g * b, lambda g: a


@tinygen.op
def centered_by_running_mean(x, mean):
    return x - mean, lambda g: g, lambda g: -g.mean(axis=0)


@wrong_function("center", Kind.CONSTANT, normal(5, 3), culprit="centered_by_running_mean")
class CenteredByALearnedMean(nn.Module):
    def __init__(self):
        self.mean = Parameter(normal(3))

    def forward(self, x):
        return centered_by_running_mean(x, self.mean) ** 2


@wrong_function("tied", (Kind.DETACHED, Kind.TERM), np.array([0, 3, 1]))
class TiedHeadOffTheTape(nn.Module):
    def __init__(self):
        self.table = Parameter(normal(4, 3))

    def forward(self, ids):
        return self.table[ids] @ Tensor(self.table.numpy().T)


CALLS = {}


@wrong_op("dropout", (Kind.STATE, Kind.MASK), normal(3, 4))
def dropout_with_the_mask_of_the_call_before(x):
    mask = np.random.default_rng(len(CALLS)).random(x.shape) > 0.5
    old = CALLS.get("mask", mask)
    CALLS["mask"] = np.roll(mask, 1)
    return x * 2.0, lambda g: g * 2.0 * old


@wrong_op("square", (Kind.CONSTANT, Kind.DETACHED, Kind.TERM), normal(3, 4), order=2)
def quartic_with_a_wrong_second_derivative(x):
    return x**4, lambda g: g * 4 * cube_by_two(x)


@tinygen.op
def cube_by_two(x):
    return x**3, lambda g: 2 * g * x * x

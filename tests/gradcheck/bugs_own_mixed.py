"""Mistakes of mixed kinds: scalars, several arguments, several outputs, modules, the second order."""

import numpy as np
from users_planting import normal, positive, sigmoid, softmax, spread, wrong_function, wrong_op

import tinygen
from tinygen import nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_op("scale", (Kind.SUM, Kind.SLOPE, Kind.COTANGENT), normal(3, 4), np.array(0.7))
def learned_scale_without_its_input(x, s):
    return x * s, lambda g: g * s, lambda g: g.sum()


@wrong_op("temperature", Kind.CONSTANT, normal(3, 4), np.array(1.3))
def temperature_whose_gradient_has_no_minus(x, t):
    return x / t, lambda g: g / t, lambda g: (g * x).sum() / t**2


@wrong_op("temperature", (Kind.SLOPE, Kind.CONSTANT), normal(3, 4), np.array(1.3))
def temperature_divided_once(x, t):
    return x / t, lambda g: g / t, lambda g: -(g * x).sum() / t


@wrong_op("prelu", Kind.MASK, spread(3, 4), np.array(0.2))
def prelu_slope_that_counts_all_inputs(x, a):
    return np.where(x > 0, x, a * x), lambda g: np.where(x > 0, g, a * g), lambda g: (g * x).sum()


@wrong_op("affine", Kind.PLACE, normal(3, 4), normal(4), normal(4))
def affine_with_weight_and_bias_exchanged(x, w, b):
    return x * w + b, lambda g: g * w, lambda g: g.sum(axis=0), lambda g: (g * x).sum(axis=0)


@wrong_op("bilinear", Kind.PLACE, normal(4), normal(4, 4), normal(4))
def bilinear_form_with_its_outer_product_turned(x, a, y):
    return x @ a @ y, lambda g: g * (a @ y), lambda g: g * np.outer(y, x), lambda g: g * (x @ a)


@wrong_op("lerp", Kind.CONSTANT, normal(3, 4), normal(3, 4), positive(3, 1))
def lerp_whose_weight_goes_backwards(a, b, t):
    return (
        a + t * (b - a),
        lambda g: g * (1 - t),
        lambda g: g * t,
        lambda g: (g * (a - b)).sum(axis=1, keepdims=True),
    )


@wrong_op("svd", Kind.PLACE, normal(3, 3))
def nuclear_norm_with_u_and_v_exchanged(x):
    u, s, v = np.linalg.svd(x)
    return s.sum(), lambda g: g * (u @ v).T


@wrong_op("logdet", Kind.CONSTANT, np.eye(3) * 3 + positive(3, 3) / 3)
def logdet_of_a_gram_matrix_counted_once(x):
    y = np.linalg.slogdet(x.T @ x)[1]
    return y, lambda g: g * np.linalg.inv(x).T


@wrong_op("moments", (Kind.TERM, Kind.DETACHED, Kind.CONSTANT), normal(3, 5))
def third_moment_without_its_mean(x):
    c = x - x.mean(axis=1, keepdims=True)
    return (c**3).mean(axis=1), lambda g: 3 * g[:, None] * c * c / 5


@wrong_op("two_outputs", Kind.PLACE, normal(3, 4))
def split_gates_exchanged(x):
    a, b = x[:, :2], x[:, 2:]
    return (np.tanh(a), np.exp(b)), lambda gs: np.concatenate(
        [gs[1] * (1 - np.tanh(a) ** 2), gs[0] * np.exp(b)], axis=1
    )


@wrong_op("two_outputs", (Kind.SLOPE, Kind.TERM), positive(3, 4))
def log_and_root_with_one_slope(x):
    return (np.log(x), np.sqrt(x)), lambda gs: (gs[0] + gs[1]) / x


@wrong_op("qkv", Kind.PLACE, normal(2, 6), normal(6, 6))
def packed_projection_with_its_parts_out_of_order(x, w):
    y = x @ w
    q, k, v = y[:, :2], y[:, 2:4], y[:, 4:]
    return (
        q * k + v,
        lambda g: np.concatenate([g * q, g * k, g], axis=1) @ w.T,
        lambda g: x.T @ np.concatenate([g * k, g * q, g], axis=1),
    )


@wrong_op("sum", Kind.CONSTANT, normal(2, 3))
def loss_over_all_sent_back_as_a_mean(x):
    return (x * x).sum(), lambda g: 2 * g * x / len(x)


@wrong_op("where", Kind.MASK, spread(3, 4), normal(3, 4))
def selected_by_sign_and_paid_to_both(c, x):
    return np.where(c > 0, x, 0.0), lambda g: g * 0.0, lambda g: g


@wrong_op("index", (Kind.SUM, Kind.MASK, Kind.TERM), normal(4, 2), np.array([2, 2, 1, 2]))
def rows_read_three_times_and_paid_once(x, ids):
    def dx(g):
        d = np.zeros_like(x)
        d[ids] = g
        return d

    return x[ids] ** 2, lambda g: dx(2 * g * x[ids])


@wrong_op("cumsum", (Kind.SUM, Kind.TERM), normal(6))
def prefix_sum_paid_at_its_own_place(x):
    return np.cumsum(x), lambda g: g * 1.0


@wrong_op("causal_mean", (Kind.SLOPE, Kind.CONSTANT, Kind.MASK), normal(5, 2))
def running_mean_not_divided(x):
    n = np.arange(1, 6)[:, None]
    return np.cumsum(x, axis=0) / n, lambda g: np.cumsum(g[::-1], axis=0)[::-1]


@wrong_op("causal_mean", (Kind.PLACE, Kind.SLOPE), normal(5, 2))
def running_mean_divided_after_the_sum(x):
    n = np.arange(1, 6)[:, None]
    return np.cumsum(x, axis=0) / n, lambda g: np.cumsum(g[::-1], axis=0)[::-1] / n


@wrong_op("dropout", Kind.CONSTANT, normal(3, 5), np.arange(15).reshape(3, 5) % 3 > 0)
def inverted_dropout_scaled_by_its_rate(x, keep):
    return x * keep / 0.7, lambda g: g * keep / 0.3


@wrong_op("poly", Kind.TERM, normal(3, 4))
def polynomial_without_its_linear_term(x):
    return x**3 + 2 * x, lambda g: 3 * g * x * x


@wrong_op("poly", (Kind.TERM, Kind.SLOPE), normal(3, 4))
def polynomial_with_a_power_not_lowered(x):
    return x**3 + x**2, lambda g: g * (3 * x**3 + 2 * x)


@wrong_op("attention", Kind.CONSTANT, normal(3, 4), normal(3, 4), normal(3, 4))
def attention_scaled_by_the_square_root_twice_for_keys(q, k, v):
    p = softmax(q @ k.T / 2)

    def ds(g):
        dp = g @ v.T
        return p * (dp - (dp * p).sum(axis=-1, keepdims=True))

    return p @ v, lambda g: ds(g) @ k / 2, lambda g: ds(g).T @ q / 4, lambda g: p.T @ g


@tinygen.op
def gated(x, w):
    s = sigmoid(x @ w)
    return x * s, lambda g: g * s, lambda g: x.T @ (g * x * s * (1 - s))


@wrong_function("gate", (Kind.TERM, Kind.DETACHED), normal(3, 4), culprit="gated")
class GatedByItself(nn.Module):
    def __init__(self):
        self.w = Parameter(normal(4, 4))

    def forward(self, x):
        return np.tanh(gated(x, self.w))


@wrong_function("norm", (Kind.DETACHED, Kind.TERM), normal(3, 4))
def softmax_whose_shift_and_sum_are_numbers(x):
    e = np.exp(x - x.numpy().max())
    return e / float(e.numpy().sum())


@wrong_op("exp", (Kind.DETACHED, Kind.TERM, Kind.SLOPE), normal(2, 3), order=2)
def gaussian_whose_slope_forgets_its_exponential(x):
    from tinygen.tape import detach

    y = np.exp(-x * x)
    return y, lambda g: -2 * g * x * detach(y)


@wrong_op("log", Kind.CONSTANT, positive(2, 3), order=2)
def log_whose_reciprocal_is_wrong(x):
    return np.log(x), lambda g: g * flat_reciprocal(x)


@tinygen.op
def flat_reciprocal(x):
    return 1 / x, lambda g: g / (x * x)

"""Mistakes in single formulas, kinks, randomness, state and the second order, written to improve the
diagnosis on."""

import numpy as np
from users_planting import normal, positive, sigmoid, spread, wrong_function, wrong_op

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_op("softsign", Kind.SLOPE, normal(3, 4))
def softsign_not_squared(x):
    d = 1 + np.abs(x)
    return x / d, lambda g: g / d


@wrong_op("gelu", (Kind.SLOPE, Kind.TERM), normal(3, 4))
def tanh_gelu_whose_cubic_is_not_differentiated(x):
    c = 0.7978845608
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + t), lambda g: g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c)


@wrong_op("silu", (Kind.CONSTANT, Kind.TERM), normal(3, 4))
def silu_with_a_minus_between_its_terms(x):
    s = sigmoid(x)
    return x * s, lambda g: g * (s - x * s * (1 - s))


@wrong_op("divide", Kind.SLOPE, normal(3, 4), normal(3, 4))
def quotient_of_squares_without_its_square(a, b):
    """y = a / (1 + b²)"""
    d = 1 + b * b
    return a / d, lambda g: g / d, lambda g: -2 * g * a * b / d


@wrong_op("fake_quantize", None, spread(3, 4))
def quantized_and_passed_straight_through(x):
    return np.round(4 * x) / 4, lambda g: g


@wrong_op("hard_threshold", Kind.MASK, spread(3, 4))
def soft_shrink_that_never_is_zero_in_the_backward(x):
    return np.sign(x) * np.maximum(np.abs(x) - 0.3, 0), lambda g: g * 1.0


@wrong_op("hard_tanh", Kind.MASK, spread(3, 4))
def relu6_that_never_saturates(x):
    return np.clip(10 * x, 0, 6), lambda g: 10 * g * (x > 0)


@wrong_op("power", (Kind.CONSTANT, Kind.MASK), normal(3, 4))
def even_power_with_a_positive_slope(x):
    return x**4, lambda g: 4 * g * np.abs(x) ** 3


@wrong_op("tanh", Kind.COTANGENT, normal(3, 4))
def tanh_that_clips_its_gradient_to_one(x):
    y = np.tanh(x)
    return y, lambda g: np.clip(g, -1, 1) * (1 - y * y)


@wrong_op("softplus", (Kind.SLOPE, Kind.TERM), normal(3, 4))
def softplus_with_the_slope_of_the_sigmoid(x):
    s = sigmoid(x)
    return np.log1p(np.exp(x)), lambda g: g * s * (1 - s)


@wrong_op("exp", (Kind.SLOPE, Kind.DTYPE, Kind.CONSTANT), normal(3, 4))
def exp_by_an_eighth_order_series(x):
    terms = [np.ones_like(x)]
    for n in range(1, 7):
        terms.append(terms[-1] * x / n)
    return np.exp(x), lambda g: g * sum(terms)


@tinygen.op
def noisy_scale(x, rng):
    noise = 1 + 0.1 * rng.normal(size=x.shape)
    return x * noise, lambda g: g * (1 + 0.1 * rng.normal(size=x.shape))


@wrong_function(
    "noise",
    (Kind.STATE, Kind.SLOPE),
    normal(3, 4),
    culprit="noisy_scale",
)
class MultiplicativeNoiseDrawnTwice(nn.Module):
    def __init__(self):
        self.rng = np.random.default_rng(1)

    def forward(self, x):
        return noisy_scale(x, self.rng)


@wrong_function("Linear", (Kind.DETACHED, Kind.TERM), normal(3, 4))
class LinearWithItsWeightClippedOffTheTape(nn.Module):
    def __init__(self):
        self.weight = Parameter(normal(2, 4))
        self.bias = Parameter(normal(2))

    def forward(self, x):
        return x @ Tensor(np.clip(self.weight.numpy(), -1, 1)).T + self.bias


@wrong_op("minmax", (Kind.TERM, Kind.DETACHED), spread(3, 5))
def scaled_to_a_range_with_constant_ends(x):
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    return (x - low) / (high - low), lambda g: g / (high - low)


@wrong_op("two_heads", (Kind.DETACHED, Kind.TERM), normal(3, 4))
def two_heads_of_which_one_learns(x):
    h = np.tanh(x)
    return (h.sum(axis=1), (h * h).sum(axis=1)), lambda gs: gs[0][:, None] * (1 - h * h)


@wrong_op("two_heads", Kind.CONSTANT, normal(3, 4))
def mean_and_max_with_the_mean_not_divided(x):
    top = x == x.max(axis=1, keepdims=True)
    return (x.mean(axis=1), x.max(axis=1)), lambda gs: gs[0][:, None] + gs[1][:, None] * top


@wrong_op("tanh", (Kind.SLOPE, Kind.CONSTANT, Kind.DETACHED, Kind.TERM), normal(2, 3), order=2)
def tanh_whose_second_order_forgets_the_chain(x):
    y = ops.tanh(x)
    return y, lambda g: g * (1 - stale_square(y))


@tinygen.op
def stale_square(x):
    return x * x, lambda g: g * x


@wrong_op("prod", Kind.SLOPE, positive(3, 4))
def product_not_divided_by_its_own_factor(x):
    y = x.prod(axis=1)
    return y, lambda g: np.broadcast_to((g * y)[:, None], x.shape)


@wrong_op("std", (Kind.TERM, Kind.DETACHED), normal(3, 5))
def norm_of_centered_rows_not_centered(x):
    c = x - x.mean(axis=1, keepdims=True) * 0.5
    n = np.sqrt((c * c).sum(axis=1))
    return n, lambda g: g[:, None] * c / n[:, None]


@wrong_op("add", (Kind.SUM, Kind.CONSTANT, Kind.COTANGENT), normal(3, 4), normal(3, 4))
def sum_whose_second_part_is_averaged(a, b):
    return a + b, lambda g: g, lambda g: np.broadcast_to(g.mean(axis=0), b.shape)


@wrong_op("layer_scale", Kind.NAN, np.array([[0.0, 1.0, -2.0], [3.0, 0.0, 1.5]]))
def root_of_squares_plus_nothing(x):
    y = np.sqrt(x**4)
    with np.errstate(all="ignore"):
        return y, lambda g: g * 2 * x**3 / y


@wrong_op("mask", (Kind.MASK, Kind.PLACE), normal(5, 5))
def band_one_too_wide_on_the_way_back(x):
    near = np.abs(np.arange(5)[:, None] - np.arange(5)) <= 1
    wide = np.abs(np.arange(5)[:, None] - np.arange(5)) <= 2
    return np.where(near, x, 0), lambda g: g * wide

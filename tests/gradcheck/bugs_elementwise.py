"""Bugs in ops from one number to one number, in broadcasting and in reductions."""

import math

import numpy as np
from planting import normal, off_zero, positive, wrong_function, wrong_op

import tinygen
from tinygen import ops
from tinygen.gradcheck import Kind

# -- one number in, one number out -----------------------------------------------------------------


@wrong_op("square", Kind.CONSTANT, normal(2, 3))
def square_without_its_two(x):
    return x * x, lambda g: g * x


@wrong_op("power", Kind.CONSTANT, normal(4))
def cube_with_two_for_three(x):
    return x * x * x, lambda g: g * 2 * x * x


@wrong_op("power", Kind.SLOPE, positive(2, 3))
def power_with_its_exponent_not_lowered(x):
    return x**2.5, lambda g: g * 2.5 * x**2.5


@wrong_op("subtract", Kind.CONSTANT, normal(2, 3), normal(2, 3))
def subtract_with_plus(a, b):
    return a - b, lambda g: g, lambda g: g


@wrong_op("divide", Kind.CONSTANT, normal(2, 3), positive(2, 3))
def divide_without_its_minus(a, b):
    return a / b, lambda g: g / b, lambda g: g * a / (b * b)


@wrong_op("divide", Kind.SLOPE, normal(2, 3), positive(2, 3))
def divide_by_b_not_squared(a, b):
    return a / b, lambda g: g / b, lambda g: -g * a / b


@wrong_op("reciprocal", Kind.CONSTANT, positive(3, 2))
def reciprocal_without_its_minus(x):
    y = 1 / x
    return y, lambda g: g * y * y


@wrong_op("cos", Kind.CONSTANT, normal(5))
def cos_with_plus_sin(x):
    return np.cos(x), lambda g: g * np.sin(x)


@wrong_op("exp", Kind.SLOPE, normal(2, 3))
def exp_that_passes_on(x):
    return np.exp(x), lambda g: g


@wrong_op("exp", Kind.COTANGENT, normal(2, 3))
def exp_that_ignores_what_comes_back(x):
    y = np.exp(x)
    return y, lambda g: y


@wrong_op("log", Kind.SLOPE, positive(2, 3))
def log_that_passes_on(x):
    return np.log(x), lambda g: g


@wrong_op("sqrt", None, positive(2, 3))
def sqrt_multiplied_for_divided(x):
    y = np.sqrt(x)
    return y, lambda g: g * 0.5 * y


@wrong_op("sigmoid", Kind.SLOPE, normal(2, 3))
def sigmoid_without_its_y(x):
    y = 1 / (1 + np.exp(-x))
    return y, lambda g: g * (1 - y)


@wrong_op("tanh", None, normal(2, 3))
def tanh_of_the_input(x):
    return np.tanh(x), lambda g: g * (1 - x * x)


@wrong_op("tanh", None, normal(2, 3))
def tanh_not_squared(x):
    y = np.tanh(x)
    return y, lambda g: g * (1 - y)


@wrong_op("erf", Kind.CONSTANT, normal(2, 3))
def erf_with_half_its_constant(x):
    return ops.erf(x), lambda g: g * np.exp(-x * x) / math.sqrt(math.pi)


@wrong_op("erf", Kind.CONSTANT, normal(2, 3))
def erf_with_a_mistyped_constant(x):
    return ops.erf(x), lambda g: g * np.exp(-x * x) * 1.1248


@wrong_op("abs", Kind.MASK, off_zero(3, 4))
def abs_that_passes_on(x):
    return np.abs(x), lambda g: g


@wrong_op("relu", Kind.MASK, off_zero(3, 4))
def relu_that_passes_on(x):
    return np.maximum(x, 0), lambda g: g


@wrong_op("leaky_relu", Kind.MASK, off_zero(3, 4))
def leaky_relu_that_does_not_leak(x):
    return np.where(x > 0, x, 0.1 * x), lambda g: np.where(x > 0, g, 0.0)


@wrong_op("clip", Kind.MASK, off_zero(3, 4))
def clip_that_passes_on(x):
    return np.clip(x, -1, 1), lambda g: g


@wrong_op("gelu", Kind.SLOPE, normal(3, 4))
def tanh_gelu_with_the_gradient_of_erf_gelu(x):
    cdf = 0.5 * (1 + ops.erf(x * math.sqrt(0.5)))
    return ops.gelu(x, "tanh"), lambda g: g * (cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


@wrong_op("silu", Kind.TERM, normal(3, 4))
def silu_with_half_of_the_product_rule(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, lambda g: g * s


@wrong_op("softplus", None, normal(3, 4))
def softplus_of_minus_x(x):
    return np.log1p(np.exp(x)), lambda g: g / (1 + np.exp(x))


@wrong_op("sqrt", Kind.NAN, off_zero(3, 3))
def sqrt_where_positive_else_zero(x):
    y = np.where(x > 0, np.sqrt(np.abs(x)), 0.0)
    return y, lambda g: g * (x > 0) * 0.5 / np.sqrt(x)


@wrong_op("multiply", Kind.COTANGENT, normal(2, 3), normal(2, 3))
def multiply_that_clips_its_gradient(a, b):
    return a * b, lambda g: np.clip(g * b, -0.1, 0.1), lambda g: g * a


@wrong_op("multiply", Kind.COTANGENT, normal(2, 3), normal(2, 3))
def multiply_with_weight_decay_inside(a, b):
    return a * b, lambda g: g * b + 0.01 * a, lambda g: g * a


@wrong_op("multiply", Kind.PLACE, normal(2, 3), normal(2, 3))
def multiply_with_its_rules_swapped(a, b):
    return a * b, lambda g: g * a, lambda g: g * b


@wrong_op("where", Kind.PLACE, normal(3, 4), normal(3, 4))
def where_with_its_branches_swapped(a, b):
    first = np.arange(12).reshape(3, 4) % 3 > 0
    return np.where(first, a, b), lambda g: np.where(first, 0.0, g), lambda g: np.where(first, g, 0.0)


@wrong_op("maximum", Kind.MASK, normal(3, 4), normal(3, 4))
def maximum_for_both(a, b):
    return np.maximum(a, b), lambda g: g, lambda g: g


# -- broadcasting ----------------------------------------------------------------------------------


@wrong_op("add", Kind.SUM, normal(3, 4), normal(4))
def add_with_the_bias_of_one_row(x, b):
    return x + b, lambda g: g, lambda g: g[0]


@wrong_op("add", Kind.CONSTANT, normal(3, 4), normal(4))
def add_with_the_bias_averaged(x, b):
    return x + b, lambda g: g, lambda g: g.mean(axis=0)


@wrong_op("add", Kind.PLACE, normal(4, 4), normal(4))
def add_with_the_bias_summed_along_the_wrong_axis(x, b):
    return x + b, lambda g: g, lambda g: g.sum(axis=1)


@wrong_op("multiply", Kind.SUM, normal(3, 4), normal(3, 1))
def multiply_rows_with_all_rows_summed(x, w):
    return x * w, lambda g: g * w, lambda g: np.broadcast_to((g * x).sum(), (3, 1))


@wrong_op("add", Kind.SUM, normal(2, 3, 4), normal(3, 1))
def add_per_channel_without_its_positions(x, b):
    return x + b, lambda g: g, lambda g: g[:, :, :1].sum(axis=0)


@wrong_op("add", Kind.SHAPE, normal(3, 4), normal(4))
def add_with_the_bias_as_a_column(x, b):
    return x + b, lambda g: g, lambda g: g.sum(axis=0)[:, None]


# -- reductions ------------------------------------------------------------------------------------


@wrong_op("mean", Kind.CONSTANT, normal(3, 4))
def mean_without_its_n(x):
    return x.mean(axis=1), lambda g: np.broadcast_to(g[:, None], x.shape)


@wrong_op("var", Kind.CONSTANT, normal(3, 4))
def var_without_its_two(x):
    centered = x - x.mean(axis=1, keepdims=True)
    return (centered * centered).mean(axis=1), lambda g: g[:, None] * centered / x.shape[1]


@wrong_op("var", Kind.CONSTANT, normal(3, 4))
def unbiased_var_with_the_biased_gradient(x):
    centered = x - x.mean(axis=1, keepdims=True)
    return x.var(axis=1, ddof=1), lambda g: g[:, None] * 2 * centered / x.shape[1]


@wrong_op("sum", Kind.PLACE, normal(3, 3))
def sum_sent_back_along_the_wrong_axis(x):
    return x.sum(axis=1), lambda g: np.broadcast_to(g[None, :], x.shape)


@wrong_op("sum", Kind.MASK, normal(3, 4))
def sum_that_reaches_the_first_column_only(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, 0] = g
        return d

    return x.sum(axis=1), dx


@tinygen.op
def max_with_the_full_gradient_for_ties(x, axis):
    y = x.max(axis=axis, keepdims=True)
    return y.squeeze(axis), lambda g: np.expand_dims(g, axis) * (x == y)


@wrong_function("max", Kind.CONSTANT, normal(3, 4))
def max_of_ties(x):
    """Of x beside itself: smooth, and every maximum is there twice."""
    return max_with_the_full_gradient_for_ties(np.stack([x, x]), 0)


@wrong_op("max", Kind.SUM, normal(3, 4))
def max_for_the_first_row_only(x):
    top = x.max(axis=1, keepdims=True)

    def dx(g):
        d = (x == top) * g[:, None]
        d[1:] = 0
        return d

    return top[:, 0], dx


@wrong_op("norm", Kind.SLOPE, normal(3, 4))
def norm_not_divided_by_itself(x):
    return np.sqrt((x * x).sum(axis=1)), lambda g: g[:, None] * x


@wrong_op("cumsum", Kind.PLACE, normal(2, 5))
def cumsum_in_the_same_direction(x):
    return np.cumsum(x, axis=1), lambda g: np.cumsum(g, axis=1)


@wrong_op("cumsum", Kind.PLACE, normal(2, 5))
def cumsum_without_its_own_entry(x):
    return np.cumsum(x, axis=1), lambda g: np.flip(np.cumsum(np.flip(g, 1), axis=1), 1) - g


@wrong_op("logsumexp", None, normal(3, 4))
def logsumexp_with_equal_shares(x):
    return np.log(np.exp(x).sum(axis=1)), lambda g: np.broadcast_to(g[:, None] / x.shape[1], x.shape)


@wrong_op("mean", Kind.COTANGENT, normal(3, 4))
def squares_with_the_mean_of_what_comes_back(x):
    return x * x, lambda g: 2 * x * g.mean()


@wrong_op("exp", Kind.COTANGENT, normal(3, 4))
def exp_with_the_first_column_for_all(x):
    y = np.exp(x)
    return y, lambda g: y * g[:, :1]


@wrong_op("diff", Kind.MASK, normal(2, 5))
def diff_wrong_at_one_end(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, 1:] += g
        d[:, :-1] -= g
        d[:, -1] = 0
        return d

    return np.diff(x, axis=1), dx

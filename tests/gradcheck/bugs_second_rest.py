"""Mistakes in randomness, kinks, memory, modules, single terms and the second order."""

import numpy as np
from users_planting import (
    normal,
    positive,
    right_function,
    sigmoid,
    softmax,
    spread,
    standardized,
    wrong_function,
    wrong_op,
)

import tinygen
from tinygen import nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter
from tinygen.tape import detach


@wrong_op("gumbel_softmax", None, spread(3, 4))
def hard_choice_with_a_soft_gradient(x):
    p = softmax(x)
    return np.eye(4)[x.argmax(axis=-1)], lambda g: p * (g - (g * p).sum(axis=-1, keepdims=True))


@wrong_op("sinc", Kind.NAN, np.array([[0.5, 0.0, -1.2], [2.0, 0.3, 0.0]]))
def sinc_that_divides_by_zero_in_the_backward(x):
    safe = np.where(x == 0, 1.0, x)
    with np.errstate(all="ignore"):
        slope = (x * np.cos(x) - np.sin(x)) / (x * x)
    return np.where(x == 0, 1.0, np.sin(safe) / safe), lambda g: g * slope


@wrong_op("multiply", Kind.STATE, normal(3, 4), normal(3, 4))
def product_whose_rules_share_a_buffer(a, b):
    room = np.empty_like(a)
    return a * b, lambda g: np.multiply(g, b, out=room), lambda g: np.multiply(g, a, out=room)


@wrong_op("leaky_relu", Kind.LAYOUT, spread(3, 4))
def prelu_that_finds_its_negatives_as_they_lie(x):
    """The places of the negatives are counted as memory lies, and used in the order of rows."""
    places = np.flatnonzero(x.ravel(order="K") < 0)

    def dx(g):
        d = g.flatten()
        d[places] *= 0.1
        return d.reshape(x.shape)

    return np.where(x < 0, 0.1 * x, x), dx


@wrong_op("tanh", (Kind.SLOPE, Kind.DTYPE), normal(3, 4))
def tanh_with_half_precision_inside_its_rule(x):
    y = np.tanh(x)
    slope = (1 - y * y).astype(np.float16)
    return y, lambda g: g * slope.astype(g.dtype)


@tinygen.op
def add_positions(x, table):
    return x + table[: x.shape[1]], lambda g: g, lambda g: g.mean(axis=0)


@wrong_function("Embedding", Kind.CONSTANT, normal(3, 4, 2), culprit="add_positions")
class PositionsAveragedOverTheBatch(nn.Module):
    def __init__(self):
        self.positions = Parameter(normal(4, 2))

    def forward(self, x):
        return np.tanh(add_positions(x, self.positions))


@wrong_function("mixture_of_experts", Kind.DETACHED, normal(3, 4), normal(4, 2))
def expert_weighted_by_a_router_off_the_tape(x, router):
    """The expert is chosen, and weighted by the probability of that choice, which is a plain number."""
    p = softmax((x @ router).numpy())
    chosen = p.argmax(axis=-1)
    return np.tanh(x) * p[np.arange(3), chosen][:, None] + 0.1 * (x @ router).sum(axis=-1, keepdims=True)


@wrong_op("logaddexp", Kind.PLACE, normal(3, 4), normal(3, 4))
def logaddexp_with_its_shares_exchanged(a, b):
    share = sigmoid(a - b)
    return np.logaddexp(a, b), lambda g: g * (1 - share), lambda g: g * share


@wrong_op("power", (Kind.SLOPE, Kind.PLACE), 1 + positive(3, 4), 1 + positive(3, 4))
def power_with_the_logarithm_of_its_exponent(a, b):
    y = a**b
    return y, lambda g: g * b * y / a, lambda g: g * y * np.log(b)


@wrong_op("mish", Kind.TERM, normal(3, 4))
def mish_with_the_first_of_its_terms(x):
    t = np.tanh(np.log1p(np.exp(x)))
    return x * t, lambda g: g * t


@wrong_op("hard_swish", Kind.MASK, np.array([[-4.0, -2.0, -0.5], [0.7, 2.5, 3.6], [5.0, 1.1, -3.3]]))
def hard_swish_that_is_flat_above_three(x):
    y = x * np.clip(x + 3, 0, 6) / 6
    return y, lambda g: g * np.where(np.abs(x) < 3, (2 * x + 3) / 6, 0.0)


@wrong_op("layer_norm", (Kind.DETACHED, Kind.TERM), normal(2, 4), order=2)
def layer_norm_whose_rule_divides_by_a_constant(x):
    xhat, inv = standardized(x, -1)
    kept = detach(inv)

    def dx(g):
        return kept * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat, dx


@tinygen.op
def one_minus(x):
    return 1 - x, lambda g: g


@wrong_op("sigmoid", (Kind.CONSTANT, Kind.TERM), normal(3, 4), order=2)
def sigmoid_whose_slope_is_a_wrong_op(x):
    y = ops.sigmoid(x)
    return y, lambda g: g * y * one_minus(y)


@right_function("Dropout", normal(3, 5))
class MaskOfAGeneratorOfItsOwn(nn.Module):
    def __init__(self):
        self.rng = np.random.default_rng(7)

    def forward(self, x):
        return x * (self.rng.random(x.shape) > 0.4)


@right_function("reciprocal", np.array([2e-9, -3e-9, 5e-9]))
def directions_of_tiny_numbers(x):
    return x / np.sqrt((x * x).sum())

"""Mistakes in randomness, kinks, memory, modules, single terms and the second order."""

import numpy as np
from users_planting import normal, positive, spread, wrong_function, wrong_op

import tinygen
from tinygen import nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@tinygen.op
def dropout_that_draws_once_more(x, rng):
    mask = rng.random(x.shape) > 0.4
    return x * mask / 0.6, lambda g: g * (rng.random(x.shape) > 0.4) / 0.6


@wrong_function(
    "Dropout",
    (Kind.MASK, Kind.STATE),
    normal(3, 5),
    culprit="dropout_that_draws_once_more",
)
class MaskDrawnOnceMore(nn.Module):
    """Its generator is an attribute, as it should be; the rule draws from it again."""

    def __init__(self):
        self.rng = np.random.default_rng(7)

    def forward(self, x):
        return dropout_that_draws_once_more(x, self.rng)


NOISE = np.random.default_rng(3).normal(size=(3, 4))


@wrong_op("reparameterize", Kind.CONSTANT, normal(3, 4), normal(3, 4))
def sample_with_the_gradient_of_its_deviation(mean, logvar):
    """sigma = exp(logvar / 2), and the half is forgotten."""
    noise = np.exp(logvar / 2) * NOISE
    return mean + noise, lambda g: g, lambda g: g * noise


@wrong_op("round", None, np.array([[0.2, 1.3, -0.7], [2.1, -1.6, 0.4]]))
def rounded_and_passed_straight_through(x):
    """Straight through, with no word about it: by differences its gradient is 0."""
    return np.round(x) + 0.1 * np.sin(x), lambda g: g * (1 + 0.1 * np.cos(x))


@wrong_op("clip", Kind.MASK, spread(3, 4))
def scaled_clip_that_cuts_at_its_input(x):
    """What is clipped is 2 x; the rule looks where x is."""
    return np.clip(2 * x, -1, 1), lambda g: 2 * g * (np.abs(x) < 1)


@tinygen.op
def maximum_with_both_sides_at_ties(a, b):
    return np.maximum(a, b), lambda g: g * (a >= b), lambda g: g * (b >= a)


@wrong_function("maximum", Kind.CONSTANT, normal(3, 4), culprit="maximum_with_both_sides_at_ties")
def maximum_of_one_thing_twice(x):
    """Smooth, and every entry is a tie."""
    return np.sin(maximum_with_both_sides_at_ties(x, x * 1.0))


@tinygen.op
def scaled_by_exp(x, log_scale):
    return x * np.exp(log_scale), lambda g: g * np.exp(log_scale), lambda g: (g * x).sum(axis=0)


@wrong_function("Scale", (Kind.SLOPE, Kind.CONSTANT), normal(3, 4), culprit="scaled_by_exp")
class LogitsWithALearnedTemperature(nn.Module):
    """The scale of each class is kept as its logarithm; the rule is that of the scale itself."""

    def __init__(self):
        self.log_scale = Parameter(normal(4))

    def forward(self, x):
        return scaled_by_exp(x, self.log_scale)


@wrong_op("film", Kind.TERM, normal(3, 4), normal(3, 4), normal(3, 4))
def modulation_without_its_one(x, scale, shift):
    """y = x (1 + scale) + shift, as in adaptive norms."""
    return x * (1 + scale) + shift, lambda g: g * scale, lambda g: g * x, lambda g: g


@wrong_op("arctan2", Kind.CONSTANT, positive(3, 4), positive(3, 4))
def angle_with_plus_in_both_rules(y, x):
    r = x * x + y * y
    return np.arctan2(y, x), lambda g: g * x / r, lambda g: g * y / r


@wrong_op("elu", (Kind.MASK, Kind.TERM), spread(3, 4))
def elu_whose_slope_is_its_value(x):
    """exp(x) - 1 below 0, whose slope is the value + 1."""
    y = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return y, lambda g: g * np.where(x > 0, 1.0, y)

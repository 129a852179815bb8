"""Mistakes with several outputs, and with what is kept between calls."""

import numpy as np
from users_planting import normal, positive, right_op, spread, wrong_function, wrong_op

import tinygen
from tinygen import Tensor, nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_op("var", (Kind.DETACHED, Kind.TERM), normal(3, 4))
def mean_and_variance_with_the_gradient_of_the_mean(x):
    """Two outputs; the rule looks at the gradient of the first alone."""
    return (x.mean(axis=1), x.var(axis=1)), lambda gs: np.broadcast_to(gs[0][:, None] / x.shape[1], x.shape)


@wrong_op("top_k", (Kind.DETACHED, Kind.MASK, Kind.TERM), spread(3, 5))
def two_largest_with_the_gradient_of_the_largest(x):
    order, rows = np.argsort(-x, axis=1), np.arange(len(x))

    def dx(gs):
        d = np.zeros_like(x)
        d[rows, order[:, 0]] = gs[0]
        return d

    return (x[rows, order[:, 0]], x[rows, order[:, 1]]), dx


@tinygen.op
def product_whose_second_rule_needs_the_first(a, b):
    shared = {"d": np.zeros_like(a)}

    def da(g):
        shared["d"] = g * np.cos(a * b)
        return shared["d"] * b

    return np.sin(a * b), da, lambda g: shared["d"] * a


@wrong_function(
    "multiply",
    (Kind.DETACHED, Kind.STATE),
    normal(3, 4),
    culprit="product_whose_second_rule_needs_the_first",
)
def product_with_a_constant_in_front(b):
    """Of the two rules, only the second is asked."""
    return product_whose_second_rule_needs_the_first(Tensor(np.linspace(0.5, 1.5, 12).reshape(3, 4)), b)


@wrong_function("LayerScale", (Kind.STATE, Kind.DETACHED), normal(3, 4))
class ScaledByARunningMaximum(nn.Module):
    """The scale moves in every forward, so that no two are the same."""

    def __init__(self):
        self.weight = Parameter(positive(4))
        self.largest = 1.0

    def forward(self, x):
        self.largest = 0.9 * self.largest + 0.1 * float(np.abs(x.numpy()).max())
        return x * self.weight / self.largest


@right_op("var", normal(3, 4))
def mean_and_variance(x):
    centered = x - x.mean(axis=1, keepdims=True)
    n = x.shape[1]
    return (x.mean(axis=1), x.var(axis=1)), lambda gs: (gs[0][:, None] + 2 * gs[1][:, None] * centered) / n

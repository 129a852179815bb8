"""Mistakes in randomness, kinks, memory, modules, single terms and the second order."""

import numpy as np
from users_planting import normal, right_op, sigmoid, softmax, spread, wrong_function, wrong_op

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter
from tinygen.tape import detach


@wrong_op("power", Kind.STATE, normal(3, 4))
def cube_that_writes_into_its_input_on_the_way_back(x):
    def dx(g):
        np.multiply(x, x, out=x)
        return 3 * g * x

    return x * x * x, dx


@tinygen.op
def prelu_of_channels(x, slope):
    above = x > 0
    y = np.where(above, x, slope * x)
    return y, lambda g: np.where(above, g, g * slope), lambda g: (g * x * above).sum(axis=0)


@wrong_function("PReLU", Kind.MASK, spread(4, 3), culprit="prelu_of_channels")
class PReLUWithTheSlopeOfThePositives(nn.Module):
    """The mask in the slope's gradient is inverted."""

    def __init__(self):
        self.slope = Parameter([0.1, 0.2, 0.3])

    def forward(self, x):
        return prelu_of_channels(x, self.slope)


@wrong_op("residual", Kind.TERM, normal(3, 4), normal(4, 4))
def residual_without_its_skip(x, w):
    h = np.tanh(x @ w)
    return x + h, lambda g: g * (1 - h * h) @ w.T, lambda g: x.T @ (g * (1 - h * h))


@wrong_op("softplus", Kind.CONSTANT, normal(3, 4))
def softplus_with_its_beta_twice(x):
    return np.log1p(np.exp(3 * x)) / 3, lambda g: 3 * g * sigmoid(3 * x)


@wrong_op("softmax", (Kind.DETACHED, Kind.TERM), normal(2, 3), order=2)
def softmax_whose_second_order_has_a_constant_value(x):
    """Its rule is right once; the value in it is a constant for whoever differentiates again."""
    y = ops.softmax(x)
    kept = detach(y)
    return y, lambda g: kept * (g - (g * kept).sum(axis=-1, keepdims=True))


@wrong_op("relu", Kind.DETACHED, spread(3, 4), order=2)
def square_above_zero_with_a_constant_slope(x):
    slope = 2 * np.maximum(detach(x), 0)
    y = np.maximum(x, 0)
    return y * y, lambda g: g * slope


@right_op("softmax", normal(2, 3), order=2)
def softmax_differentiable_twice(x):
    y = ops.softmax(x) if isinstance(x, Tensor) else softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


@right_op("embedding", normal(5, 3), np.array([1, 4, 1]))
def logits_with_tied_weights(table, ids):
    h = np.tanh(table[ids])

    def dtable(g):
        d = g.T @ h
        np.add.at(d, ids, g @ table * (1 - h * h))
        return d

    return h @ table.T, dtable

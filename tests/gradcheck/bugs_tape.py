"""Bugs that are more than a wrong formula: memory, dtypes, randomness, what leaves the tape, layers, and
the second order."""

import math

import numpy as np
from planting import normal, positive, wrong_function, wrong_op

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter
from tinygen.tape import detach

# -- memory ----------------------------------------------------------------------------------------

BUFFER = np.zeros((3, 4))


@wrong_op("multiply", Kind.STATE, normal(3, 4))
def three_times_into_one_buffer(x):
    return 3 * x, lambda g: np.multiply(g, 3, out=BUFFER)


@wrong_op("tanh", Kind.STATE, normal(3, 4))
def tanh_that_writes_into_what_comes_back(x):
    y = np.tanh(x)

    def dx(g):
        g *= 1 - y * y
        return g

    return y, dx


@wrong_op("exp", Kind.STATE, normal(3, 4))
def exp_that_writes_into_what_it_has_saved(x):
    slope = np.exp(x)

    def dx(g):
        slope[...] = g * slope
        return slope

    return np.exp(x), dx


@wrong_op("relu", Kind.STATE, normal(3, 4))
def relu_in_place(x):
    mask = x > 0
    x *= mask
    return x * 1, lambda g: g * mask


@wrong_op("transpose", Kind.LAYOUT, normal(3, 4))
def square_of_a_map_read_as_it_lies(x):
    flat = np.ravel(x)
    return x * x, lambda g: (2 * flat * np.ravel(g, order="K")).reshape(x.shape)


# -- dtypes ----------------------------------------------------------------------------------------


@wrong_op("gelu", Kind.DTYPE, normal(3, 4))
def gelu_with_a_short_cut_in_float32(x):
    cdf = 0.5 * (1 + ops.erf(x / math.sqrt(2)))
    bend = x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return x * cdf, lambda g: g * (cdf + bend if g.dtype == np.float64 else cdf)


@wrong_op("softmax", Kind.DTYPE, normal(3, 4))
def softmax_without_its_sum_in_float32(x):
    y = ops.softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True) * (g.dtype == np.float64))


@wrong_op("log1p", Kind.DTYPE, positive(3, 4))
def log1p_rounded_to_whole_numbers_in_float32(x):
    kept = x if x.dtype == np.float64 else np.round(x)
    return np.log1p(x), lambda g: g / (1 + kept)


# -- randomness ------------------------------------------------------------------------------------


@wrong_op("dropout", Kind.STATE, normal(3, 4))
def dropout_with_a_generator_of_its_own(x):
    mask = np.random.default_rng().random(x.shape) > 0.3
    return x * mask, lambda g: g * mask


@wrong_op("dropout", Kind.STATE, normal(3, 4))
def dropout_with_another_mask_in_the_backward(x):
    mask = np.random.default_rng(3).random(x.shape) > 0.3
    return x * mask, lambda g: g * (np.random.default_rng().random(x.shape) > 0.3)


# -- what leaves the tape --------------------------------------------------------------------------


@wrong_function("layer_norm", Kind.DETACHED, normal(3, 4))
def standardize_with_its_deviation_detached(x):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered * centered).mean(axis=-1, keepdims=True).detach() + 1e-5)


@wrong_function("softmax", Kind.DETACHED, normal(3, 4))
def softmax_with_its_sum_as_an_array(x):
    e = np.exp(x)
    return e / e.numpy().sum(axis=-1, keepdims=True)


@wrong_function("divide", Kind.DETACHED, positive(3, 4))
def scaled_by_its_maximum_as_a_number(x):
    return x / float(x.numpy().max())


@wrong_function("linear", Kind.DETACHED, normal(3, 4))
class LinearOfANumPyWeight(nn.Module):
    """Its weight gets no gradient."""

    def __init__(self):
        self.weight = Parameter(normal(2, 4).astype(np.float32))

    def forward(self, x):
        return x @ Tensor(self.weight.numpy().T)


@wrong_function("rms_norm", Kind.DETACHED, normal(3, 4))
class NormWithItsScaleDetached(nn.Module):
    """Its weight gets no gradient, its input does."""

    def __init__(self):
        self.weight = Parameter(positive(4).astype(np.float32))

    def forward(self, x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True)) * self.weight.detach()


# -- layers ----------------------------------------------------------------------------------------


@wrong_op("linear", Kind.PLACE, normal(2, 3), normal(3, 3))
def product_with_a_transposed_weight(x, weight):
    return x @ weight.T, lambda g: g @ weight.T, lambda g: g.T @ x


@wrong_function("Linear", Kind.PLACE, normal(2, 3))
class LinearOfAWrongOp(nn.Module):
    def __init__(self):
        self.weight = Parameter(normal(3, 3).astype(np.float32))
        self.bias = Parameter(normal(3).astype(np.float32))

    def forward(self, x):
        return product_with_a_transposed_weight(x, self.weight) + self.bias


@wrong_op("scale", Kind.SUM, normal(2, 3, 4), normal(4))
def scaled_by_the_last_position_only(x, weight):
    return x * weight, lambda g: g * weight, lambda g: (g * x)[:, -1]


@wrong_function("LayerScale", Kind.SUM, normal(2, 3, 4))
class LayerScale(nn.Module):
    def __init__(self):
        self.weight = Parameter(np.full(4, 0.1, dtype=np.float32))

    def forward(self, x):
        return x + scaled_by_the_last_position_only(np.tanh(x), self.weight)


# -- the second order ------------------------------------------------------------------------------


@wrong_op("square", Kind.DETACHED, normal(3, 4), order=2)
def square_with_its_slope_as_a_constant(x):
    return x * x, lambda g: 2 * g * detach(x)


@wrong_op("exp", Kind.REPLAY, normal(3, 4), order=2)
def exp_with_another_gradient_in_a_replay(x):
    y = np.exp(x)
    return y, lambda g: g * (1 + x if isinstance(x, Tensor) else y)


@wrong_op("multiply", Kind.UNSUPPORTED, normal(3, 4), order=2)
def square_in_place_in_the_backward(x):
    def dx(g):
        d = 2 * g
        d[:] = d * x
        return d

    return x * x, dx


@tinygen.op
def square_wrong_where_it_is_a_slope(x):
    return x * x, lambda g: g * x


@wrong_op("power", Kind.CONSTANT, normal(3), order=2)
def cube_whose_slope_is_a_wrong_square(x):
    return x * x * x, lambda g: g * (3 * square_wrong_where_it_is_a_slope(x))

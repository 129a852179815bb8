"""Mistakes in activations, memory, dtypes, shapes, modules and the second order."""

import math

import numpy as np
from users_planting import sigmoid, spread, wrong_function, wrong_op

import tinygen
from tinygen import nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter
from tinygen.tape import detach

rng = np.random.default_rng(4606)

erf = np.vectorize(math.erf, otypes=[float])


@wrong_op("gelu", Kind.SLOPE, rng.normal(size=(3, 5)) * 1.5)
def gelu_by_tanh_with_the_slope_by_erf(x):
    c = math.sqrt(2 / math.pi)
    y = 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3)))

    def dx(g):
        cdf = 0.5 * (1 + erf(x / math.sqrt(2)))
        pdf = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return g * (cdf + x * pdf)

    return y, dx


@wrong_op("hard_sigmoid", Kind.MASK, np.array([-3.4, -2.8, -2.1, -0.6, 0.3, 1.9, 2.6, 2.9, 3.5]))
def hard_sigmoid_with_bounds_of_another_library(x):
    """Flat outside of 3, with the mask of the one that is flat outside of 2.5."""
    y = np.clip(x / 6 + 0.5, 0, 1)

    def dx(g):
        inside = (x > -2.5) & (x < 2.5)
        return np.where(inside, g / 6, 0)

    return y, dx


@wrong_op("selu", (Kind.PLACE, Kind.SLOPE), spread(3, 4))
def selu_with_its_branches_exchanged(x):
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    e = alpha * np.exp(np.minimum(x, 0))
    y = scale * np.where(x > 0, x, e - alpha)
    return y, lambda g: scale * g * np.where(x > 0, e, 1.0)


@tinygen.op
def prelu(x, slope):
    slopes = slope[:, None]
    positive = x > 0
    y = np.where(positive, x, slopes * x)

    def dx(g):
        return g * np.where(positive, 1.0, slopes)

    def dslope(g):
        return (g * x).sum(axis=(0, 2))

    return y, dx, dslope


@wrong_function("prelu", Kind.MASK, spread(2, 3, 4), culprit="prelu")
class PreluWithTheSlopeOfAllEntries(nn.Module):
    def __init__(self):
        self.slope = Parameter(np.array([0.25, 0.1, 0.4]))

    def forward(self, x):
        return prelu(x, self.slope)


@tinygen.op
def relu_in_place_on_the_way_back(x):
    y = np.maximum(x, 0)

    def dx(g):
        g *= y > 0
        return g

    return y, dx


@wrong_function("relu", Kind.STATE, spread(3, 4), culprit="relu_in_place_on_the_way_back")
def residual_whose_skip_is_masked_as_well(x):
    """The sum hands one gradient to both of its sides."""
    return np.sin(x) + relu_in_place_on_the_way_back(x)


@tinygen.op
def log_softmax_in_place(x):
    x -= x.max(axis=-1, keepdims=True)
    y = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return y, lambda g: g - np.exp(y) * g.sum(axis=-1, keepdims=True)


@wrong_function("log_softmax", Kind.STATE, rng.normal(size=(2, 5)), culprit="log_softmax_in_place")
def logits_shifted_under_a_regularizer(x):
    """The logits, which a second term of the loss needs, are overwritten by the first."""
    scores = x * 1.5
    logp = log_softmax_in_place(scores)
    return logp.sum(axis=-1) + 0.1 * (scores * scores).sum(axis=-1)


CACHE = {}


@tinygen.op
def dense_with_a_cache(x, w, b):
    CACHE["x"] = x
    CACHE["w"] = w

    def dx(g):
        return g @ CACHE["w"].T

    def dw(g):
        return CACHE["x"].T @ g

    return x @ w + b, dx, dw, lambda g: g.sum(axis=0)


@wrong_function("linear", Kind.STATE, rng.normal(size=(3, 4)), culprit="dense_with_a_cache")
class TwoLayersWithOneCache(nn.Module):
    """What the first layer kept is what the second one has written."""

    def __init__(self):
        self.w = [Parameter(rng.normal(size=(4, 4)) / 2) for _ in range(2)]
        self.b = [Parameter(rng.normal(size=4)) for _ in range(2)]

    def forward(self, x):
        for w, b in zip(self.w, self.b, strict=True):
            x = np.tanh(dense_with_a_cache(x, w, b))
        return x


@wrong_op("silu", (Kind.DETACHED, Kind.REPLAY), rng.normal(size=(3, 3)), order=2)
def swish_whose_slope_is_a_constant(x):
    """Its first derivative is right; the second one is lost, since the sigmoid is off the tape."""
    s = sigmoid(detach(x))
    slope = s * (1 + detach(x) * (1 - s))
    return x * s, lambda g: g * slope


@wrong_op("sinc", Kind.NAN, np.array([-2.3, -0.7, 0.0, 0.4, 1.8, 3.5]))
def sinc_that_divides_by_zero_on_the_way_back(x):
    y = np.where(x == 0, 1.0, np.sin(x) / np.where(x == 0, 1.0, x))

    def dx(g):
        return g * (x * np.cos(x) - np.sin(x)) / (x * x)

    return y, dx


@wrong_op("max", Kind.DTYPE, 3 * spread(4, 5))
def maximum_with_a_gradient_of_integers(scores):
    """The array for the gradient is made like the one of the places, and cuts off all fractions."""
    best = scores.argmax(axis=1)
    rows = np.arange(len(scores))

    def dscores(g):
        d = np.zeros(scores.shape, dtype=best.dtype)
        d[rows, best] = g
        return d

    return scores[rows, best], dscores


@wrong_op("linear", Kind.COTANGENT, rng.normal(size=(6, 4)) * 2, rng.normal(size=(4, 3)))
def dense_layer_that_clips_its_gradient(x, w):
    """Against exploding gradients, and no longer the gradient."""

    def dx(g):
        return g @ w.T

    def dw(g):
        return np.clip(x.T @ g, -1, 1)

    return x @ w, dx, dw


@wrong_op("cumsum", Kind.COTANGENT, rng.normal(size=(2, 6)))
def returns_counted_instead_of_summed(rewards):
    """Entry i is in n - i of the sums, which are all that is asked when the sums are added up."""
    n = rewards.shape[-1]
    y = np.cumsum(rewards, axis=-1)
    return y, lambda g: g * np.arange(n, 0, -1)


@wrong_op(
    "linear",
    (Kind.SHAPE, Kind.PLACE),
    rng.normal(size=(5, 4)),
    rng.normal(size=(4, 3)),
    rng.normal(size=3),
)
def dense_with_its_weight_the_other_way_round(x, w, b):
    y = np.tanh(x @ w + b)

    def before(g):
        return g * (1 - y * y)

    def dw(g):
        return before(g).T @ x

    return y, lambda g: before(g) @ w.T, dw, lambda g: before(g).sum(axis=0)


@wrong_op("mish", Kind.RAISES, rng.normal(size=(2, 4)))
def mish_whose_rule_wants_its_input_again(x):
    """A rule gets the gradient and nothing else."""
    t = np.tanh(np.log1p(np.exp(x)))

    def dx(g, x):
        return g * (t + x * sigmoid(x) * (1 - t * t))

    return x * t, dx


PICKED = np.array([3, 17, 8, 0, 11])


@wrong_op("take", Kind.LAYOUT, np.asfortranarray(rng.normal(size=(4, 5))))
def entries_written_into_a_copy(x):
    """`ravel` gives a view of an array in C order, a copy of any other: then nothing is written."""
    y = x.ravel()[PICKED]

    def dx(g):
        d = np.zeros_like(x)
        flat = d.ravel()
        flat[PICKED] = g
        return d

    return y, dx


@wrong_function("squeeze_excite", (Kind.DETACHED, Kind.TERM), rng.normal(size=(2, 3, 6)))
class SqueezeWithoutAWayBack(nn.Module):
    """The pooled features are detached before they make the gates."""

    def __init__(self):
        self.down = Parameter(rng.normal(size=(3, 2)))
        self.up = Parameter(rng.normal(size=(2, 3)))

    def forward(self, x):
        pooled = x.mean(axis=-1).detach()
        gate = ops.sigmoid(ops.relu(pooled @ self.down) @ self.up)
        return x * gate[:, :, None]

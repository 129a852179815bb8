"""Mistakes in normalization."""

import numpy as np
from users_planting import wrong_function, wrong_op

import tinygen
from tinygen import nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter

rng = np.random.default_rng(4202)


@wrong_op(
    "batch_norm",
    Kind.SUM,
    rng.normal(size=(3, 2, 4, 3)),
    rng.uniform(0.5, 1.5, size=2),
    rng.normal(size=2),
)
def batch_norm_2d_with_the_means_of_the_flat_one(x, gamma, beta):
    axes, eps = (0, 2, 3), 1e-5
    mean = x.mean(axis=axes, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    inv = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * inv
    weight = gamma[None, :, None, None]
    y = weight * xhat + beta[None, :, None, None]

    def dx(g):
        gx = g * weight
        return inv * (gx - gx.mean(axis=0, keepdims=True) - xhat * (gx * xhat).mean(axis=0, keepdims=True))

    return y, dx, lambda g: (g * xhat).sum(axis=axes), lambda g: g.sum(axis=axes)


@wrong_op(
    "group_norm",
    Kind.SLOPE,
    rng.normal(size=(2, 6, 5)),
    np.array([0.6, 1.4, -0.8, 2.0, 1.1, 0.3]),
    rng.normal(size=6),
)
def group_norm_that_forgets_its_weight(x, weight, bias):
    n, channels, length = x.shape
    groups = x.reshape(n, 3, -1)
    centered = groups - groups.mean(axis=-1, keepdims=True)
    inv = 1 / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5)
    xhat = centered * inv
    y = xhat.reshape(x.shape) * weight[:, None] + bias[:, None]

    def dx(g):
        gg = g.reshape(n, 3, -1)
        mean = gg.mean(axis=-1, keepdims=True)
        along = (gg * xhat).mean(axis=-1, keepdims=True)
        return (inv * (gg - mean - xhat * along)).reshape(n, channels, length)

    def dweight(g):
        return (g * xhat.reshape(g.shape)).sum(axis=(0, 2))

    return y, dx, dweight, lambda g: g.sum(axis=(0, 2))


@wrong_op(
    "standardize",
    Kind.SLOPE,
    0.4 * rng.normal(size=(3, 7)) + 1,
)
def features_divided_by_deviation_plus_eps(x):
    """eps is added to the deviation, and the rule is written as if it stood under the root."""
    eps = 0.1
    centered = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((centered**2).mean(axis=1, keepdims=True)) + eps
    y = centered / scale

    def dx(g):
        return (g - g.mean(axis=1, keepdims=True) - y * (g * y).mean(axis=1, keepdims=True)) / scale

    return y, dx


@tinygen.op
def weight_normed_linear(x, v, gain):
    norm = np.sqrt((v * v).sum(axis=1, keepdims=True))
    direction = v / norm
    w = gain[:, None] * direction

    def dv(g):
        dw = g.T @ x
        return gain[:, None] * dw / norm

    def dgain(g):
        return (g.T @ x * direction).sum(axis=1)

    return x @ w.T, lambda g: g @ w, dv, dgain


@wrong_function("weight_norm", Kind.TERM, rng.normal(size=(4, 5)), culprit="weight_normed_linear")
class WeightNormWithoutItsProjection(nn.Module):
    """The norm of a row is taken for a constant."""

    def __init__(self):
        self.v = Parameter(rng.normal(size=(3, 5)))
        self.gain = Parameter(rng.uniform(0.5, 2, size=3))

    def forward(self, x):
        return weight_normed_linear(x, self.v, self.gain)


@wrong_op(
    "layer_norm",
    Kind.SLOPE,
    3 * rng.normal(size=(2, 3, 6)),
    rng.uniform(0.5, 1.5, size=6),
)
def layer_norm_that_saves_memory(x, weight):
    """`centered` is normalized in place, and the rule takes it for what it was before."""
    centered = x - x.mean(axis=-1, keepdims=True)
    inv = 1 / np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + 1e-5)
    xhat = centered
    xhat *= inv
    y = xhat * weight

    def dx(g):
        gx = g * weight
        dvar = -(gx * centered).mean(axis=-1, keepdims=True) * inv**3
        d = inv * gx + dvar * centered
        return d - d.mean(axis=-1, keepdims=True)

    return y, dx, lambda g: (g * xhat).sum(axis=(0, 1))

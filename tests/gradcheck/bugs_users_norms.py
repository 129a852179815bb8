"""Mistakes in norms: statistics that depend on the input and are taken for constants, axes, eps."""

import numpy as np
from users_planting import normal, positive, right_function, standardized, wrong_function, wrong_op

from tinygen import nn, ops
from tinygen.gradcheck import Kind


@wrong_op("batch_norm", (Kind.DETACHED, Kind.TERM), normal(5, 3), positive(3))
def batch_norm_with_its_mean_a_constant(x, weight):
    xhat, inv = standardized(x, 0)

    def dx(g):
        g = g * weight
        return inv * (g - xhat * (g * xhat).mean(axis=0))

    return xhat * weight, dx, lambda g: (g * xhat).sum(axis=0)


@wrong_op("instance_norm", (Kind.DETACHED, Kind.TERM), normal(2, 3, 5))
def instance_norm_with_its_variance_a_constant(x):
    xhat, inv = standardized(x, -1)
    return xhat, lambda g: inv * (g - g.mean(axis=-1, keepdims=True))


@wrong_function("group_norm", (Kind.DETACHED, Kind.TERM), normal(2, 4, 3))
def group_norm_with_statistics_off_the_tape(x):
    grouped = x.reshape(2, 2, 6)
    seen = grouped.detach()
    mean, var = seen.mean(axis=-1, keepdims=True), seen.var(axis=-1, keepdims=True)
    return ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(2, 4, 3)


@wrong_op("layer_norm", Kind.SLOPE, normal(3, 5))
def layer_norm_whose_backward_has_its_eps_in_the_root(x):
    """Forward divides by the deviation + eps, backward by the root of the variance + eps."""
    centered = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centered * centered).mean(axis=-1, keepdims=True))
    xhat, inv = standardized(x, -1, 1e-2)

    def dx(g):
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return centered / (deviation + 1e-2), dx


@wrong_op("normalize", (Kind.SUM, Kind.TERM), normal(3, 4))
def unit_vectors_projected_all_at_once(x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    y = x / length
    return y, lambda g: (g - y * (g * y).sum()) / length


@wrong_op("std", Kind.SLOPE, 2 * normal(3, 5))
def std_with_the_gradient_of_half_the_variance(x):
    centered = x - x.mean(axis=1, keepdims=True)
    return x.std(axis=1), lambda g: g[:, None] * centered / x.shape[1]


@right_function("layer_norm", normal(3, 5), normal(5), normal(5), 1e-5)
def layer_norm_with_eps_among_its_arguments(x, weight, bias, eps):
    return ops.layer_norm(x, weight, bias, eps)


@right_function("RoPE", normal(2, 4, 6))
class RotationsFromARenewedCache(nn.Module):
    """Its buffers are filled in each forward, and then used."""

    def __init__(self):
        self.register_buffer("cos", np.zeros((4, 3), dtype=np.float32))
        self.register_buffer("sin", np.zeros((4, 3), dtype=np.float32))

    def forward(self, x):
        angle = np.arange(x.shape[1])[:, None] * np.array([1.0, 0.1, 0.01])
        self.cos.data[...] = np.cos(angle)
        self.sin.data[...] = np.sin(angle)
        a, b = x[..., :3], x[..., 3:]
        return np.concatenate([a * self.cos - b * self.sin, a * self.sin + b * self.cos], axis=-1)

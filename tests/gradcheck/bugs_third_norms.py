"""Mistakes in norms: statistics that depend on the input and are taken for constants, axes, eps."""

import numpy as np
from users_planting import normal, standardized, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("layer_norm", (Kind.SUM, Kind.PLACE), normal(4, 4))
def layer_norm_without_keepdims(x):
    xhat, inv = standardized(x, -1)
    return xhat, lambda g: inv * (g - g.mean(axis=-1) - xhat * (g * xhat).mean(axis=-1))


@wrong_op("layer_norm", (Kind.SUM, Kind.PLACE), normal(4, 4), normal(4))
def norm_weight_summed_over_channels(x, weight):
    xhat, inv = standardized(x, -1)

    def dx(g):
        g = g * weight
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight, dx, lambda g: (g * xhat).sum(axis=1)


@wrong_op("standardize", (Kind.TERM, Kind.SLOPE), normal(3, 5))
def standardize_unbiased_with_the_biased_rule(x):
    """Divides by n - 1 in its variance, by n in the rule."""
    centered = x - x.mean(axis=-1, keepdims=True)
    inv = 1 / np.sqrt((centered * centered).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))
    xhat = centered * inv

    def dx(g):
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat, dx


@wrong_op("rms_norm", (Kind.SLOPE, Kind.TERM), 2 * normal(3, 5))
def rms_norm_with_its_projection_not_scaled(x):
    """The second term has the third power of the root, here the first."""
    inv = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    return x * inv, lambda g: inv * (g - x * (g * x).mean(axis=-1, keepdims=True))

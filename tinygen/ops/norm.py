"""Normalisation: layer, RMS, group and batch norm.

All but RMS norm take mean and (biased) variance over some axes and differ only in which.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygen.ops.reduce import at_least_float32
from tinygen.rows import batch_mean
from tinygen.summation import sum_over
from tinygen.tape import op
from tinygen.tensor import Array
from tinygen.types import Axis, ValueAndRules

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]


def standardize(
    x: Array, axis: Axis, eps: float, mean: Callable[..., Array] = np.mean
) -> tuple[Array, Callable[[Array], Array]]:
    """x̂ = (x - mean) / sqrt(var + eps) over the axes, and the rule for its gradient (Ioffe & Szegedy 2015,
    section 3, simplified): (g - mean(g) - x̂ mean(g x̂)) / sqrt(var + eps)."""
    x = at_least_float32(x)
    centered = x - mean(x, axis=axis, keepdims=True)
    inv = 1 / np.sqrt(mean(centered * centered, axis=axis, keepdims=True) + eps)
    xhat = centered * inv

    def dx(g: Array) -> Array:
        along = mean(g * xhat, axis=axis, keepdims=True)
        return inv * (g - mean(g, axis=axis, keepdims=True) - xhat * along)

    return xhat, dx


@op
def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> ValueAndRules:
    """Over the last axis (Ba et al. 2016, arXiv:1607.06450): x (..., C), weight and bias (C).

    Eq.: y = (x - mean) / √(variance + eps) · weight + bias  (Ba et al. 2016, eq. 4)
    Held by: tests/ops/test_norm.py::test_each_normalizes_over_its_axes
    """
    xhat, dx = standardize(x, -1, eps)
    y = xhat * weight if bias is None else xhat * weight + bias
    return y, lambda g: dx(g * weight), lambda g: g * xhat, lambda g: g


@op
def rms_norm(x: Array, weight: Array, eps: float = 1e-6) -> ValueAndRules:
    """x / sqrt(mean(x²) + eps) over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467): x (..., C).

    Eq.: y = x / √(mean(x²) + eps) · weight  (Zhang & Sennrich 2019, eq. 4)
    Held by: tests/ops/test_norm.py::test_each_normalizes_over_its_axes
    """
    x = at_least_float32(x)
    inv = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    xhat = x * inv

    def dx(g: Array) -> Array:
        g = g * weight
        return inv * (g - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight, dx, lambda g: g * xhat


@op
def group_norm(x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5) -> ValueAndRules:
    """Over `groups` groups of channels and all positions (Wu & He 2018, arXiv:1803.08494):
    x (N, C, ...), weight and bias (C)."""
    n, channels = x.shape[:2]
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be split into {groups} equal groups")
    shape, per_channel = x.shape, (channels,) + (1,) * (x.ndim - 2)
    grouped = (n, groups, math.prod(shape[1:]) // groups)
    flat, dx = standardize(x.reshape(grouped), -1, eps)
    xhat = flat.reshape(shape)
    weight = weight.reshape(per_channel)
    over = (0, *range(2, x.ndim))
    return (
        xhat * weight + bias.reshape(per_channel),
        lambda g: dx((g * weight).reshape(grouped)).reshape(shape),
        None,
        lambda g: sum_over(g * xhat, over),
        lambda g: sum_over(g, over),
    )


@op
def batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> ValueAndRules:
    """Over the batch and all positions (Ioffe & Szegedy 2015, arXiv:1502.03167), with this batch's
    statistics: x (N, C, ...), weight and bias (C)."""
    over = (0, *range(2, x.ndim))
    per_channel = (weight.shape[0],) + (1,) * (x.ndim - 2)
    xhat, dx = standardize(x, over, eps, batch_mean())
    weight = weight.reshape(per_channel)
    return (
        xhat * weight + bias.reshape(per_channel),
        lambda g: dx(g * weight),
        lambda g: sum_over(g * xhat, over),
        lambda g: sum_over(g, over),
    )

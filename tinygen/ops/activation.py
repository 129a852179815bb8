"""Activations, softmax and dropout."""

from __future__ import annotations

import math

import numpy as np

from tinygen.ops.elementwise import sigmoid
from tinygen.ops.error_function import erf
from tinygen.ops.random import dropout_mask, new_seed, require_dropout
from tinygen.tape import detach, in_replay, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike, ValueAndRules

__all__ = [
    "dropout",
    "gelu",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "relu",
    "silu",
    "softmax",
    "softplus",
]

# -- one number in, one number out -----------------------------------------------------------------


@op
def relu(x: Array) -> ValueAndRules:
    """max(x, 0). The slope at 0 is defined as 0."""
    y = np.maximum(x, 0.0)
    return y, lambda g: np.where(y > 0, g, 0.0)


@op
def leaky_relu(x: Array, slope: float = 0.01) -> ValueAndRules:
    """x where x > 0, else slope·x (Maas et al. 2013)."""
    steepness = np.where(detach(x) > 0, np.ones_like(x), slope)  # in x's dtype
    return x * steepness, lambda g: g * steepness


@op
def gelu(x: Array, approximate: str = "none") -> ValueAndRules:
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    `approximate="tanh"` is their formula with tanh, which GPT-2 uses; it differs by up to 5e-4.

    Eq.: gelu(x) = x Φ(x), or x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))  (Hendrycks & Gimpel 2016, section 2)
    Held by: tests/ops/test_elementwise.py::test_gelu_and_silu_are_x_times_a_distribution_function,
        tests/ops/test_elementwise.py::test_the_two_gelus_differ_by_at_most_5e_4
    """
    if approximate == "none":
        cdf = 0.5 * (1 + erf(x * math.sqrt(0.5)))
        return x * cdf, lambda g: g * (cdf + x * (np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)))
    if approximate != "tanh":
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    c, a = math.sqrt(2 / math.pi), 0.044715
    t = np.tanh(c * (x + a * (x * x * x)))

    def dx(g: Array) -> Array:
        slope = c * (1 + 3 * a * (x * x))  # of the argument of tanh
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)

    return 0.5 * x * (1 + t), dx


@op
def silu(x: Array) -> ValueAndRules:
    """x σ(x), also called swish (Elfwing et al. 2017, arXiv:1702.03118)."""
    s = sigmoid(x)
    return x * s, lambda g: g * (s * (1 + x * (1 - s)))


@op
def softplus(x: Array) -> ValueAndRules:
    """log(1 + exp(x)), without overflow; its derivative is sigmoid(x)."""
    y = softplus(x) if in_replay(x) else np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return y, lambda g: g * sigmoid(x)


@op
def log_sigmoid(x: Array) -> ValueAndRules:
    """log σ(x) = -softplus(-x), without overflow; its derivative is σ(-x). -log_sigmoid(h) is the loss of a
    preference of log-odds h (Bradley & Terry 1952)."""
    y = log_sigmoid(x) if in_replay(x) else np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))
    return y, lambda g: g * sigmoid(-x)


# -- distributions along an axis -------------------------------------------------------------------


@op
def softmax(x: Array, axis: int = -1) -> ValueAndRules:
    """exp(x) / Σ exp(x) along an axis. The maximum is subtracted first, so that nothing overflows and a large
    common offset costs no precision. If all entries are -inf the result is 0; with a +inf it is NaN."""
    e = np.exp(minus_max(x, axis))
    total = e.sum(axis=axis, keepdims=True)
    y = e / np.where(total == 0, 1.0, total)
    return y, lambda g: y * (g - (g * y).sum(axis=axis, keepdims=True))


@op
def log_softmax(x: Array, axis: int = -1) -> ValueAndRules:
    """log of softmax, as (x - max x) - log Σ exp(x - max x): precise where softmax underflows, and with a
    large common offset. If all entries are -inf the result is -inf; with a +inf it is NaN."""
    z = minus_max(x, axis)
    total = np.exp(z).sum(axis=axis, keepdims=True)
    y = z - np.log(np.where(total == 0, 1.0, total))
    return y, lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True)


def minus_max(x: Array, axis: int) -> Array:
    """x minus its maximum along an axis; x itself if the maximum is -inf, since -inf - -inf is NaN."""
    top = detach(x).max(axis=axis, keepdims=True)
    return x - np.where(top == -np.inf, 0.0, top).astype(x.dtype)


# -- noise -----------------------------------------------------------------------------------------


@show_as("dropout")
@op
def apply_dropout(x: Array, p: float, seed: int) -> ValueAndRules:
    mask = dropout_mask(x, x.shape, p, seed)
    return x * mask, lambda g: g * mask


def dropout(x: TensorLike, p: float, rng: np.random.Generator) -> Tensor:
    """x with each entry set to 0 with probability p, and the others scaled by 1/(1 - p), which keeps the mean
    (Srivastava et al. 2014). Raises ValueError unless 0 <= p < 1."""
    require_dropout(p)
    return apply_dropout(x, p, new_seed(rng)) if p > 0 else x

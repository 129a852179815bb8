"""Losses and divergences.

`reduction` is "mean" (over everything that counts), "sum" or "none".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.activation import beside, log_softmax, softplus
from tinygen.ops.elementwise import sigmoid
from tinygen.tape import op, shown_as
from tinygen.tensor import Array, Tensor, device_of
from tinygen.types import TensorLike, ValueAndRules

__all__ = [
    "bce_with_logits",
    "cross_entropy",
    "entropy",
    "huber",
    "kl_categorical",
    "kl_gaussian",
    "l1",
    "mse",
]


def reduced(loss: Any, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    return np.mean(loss) if reduction == "mean" else np.sum(loss)


def same_shape(x: TensorLike, y: TensorLike) -> None:
    if np.shape(x) != np.shape(y):
        raise ValueError(f"prediction {np.shape(x)} and target {np.shape(y)} must have one shape")


# -- classes ---------------------------------------------------------------------------------------


@shown_as("cross_entropy")
@op
def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> ValueAndRules:
    """-Σ_v q_v log softmax(logits)_v per row; q is (1 - smoothing) on the target plus smoothing/V on all.
    Rows whose target is `ignore_index` get 0. The gradient by the logits is softmax - q."""
    logp = log_softmax(logits)
    counted = targets != ignore_index
    onehot = np.equal(np.arange(logits.shape[-1], like=targets), np.where(counted, targets, -1)[..., None])
    onehot, kept = (x.astype(logits.dtype) for x in (onehot, counted[..., None]))
    q = onehot * (1 - smoothing) + kept * (smoothing / logits.shape[-1])
    losses = -(q * np.where(q > 0, logp, 0.0)).sum(axis=-1)  # no 0 · -inf for classes ruled out by -inf
    return losses, lambda g: g[..., None] * (np.exp(logp) * kept - q)


def cross_entropy(
    logits: TensorLike,
    targets: TensorLike,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of integer `targets` (...) under softmax of `logits` (..., V), in nats.

    The mean is over the targets that are not `ignore_index`. Label smoothing: Szegedy et al. 2015,
    arXiv:1512.00567, section 7. Targets may be NumPy's where logits are on a card. Raises IndexError for a
    target outside [0, V), ValueError when the shapes do not match or nothing is left to count, TypeError for
    targets on a card where logits are not. Of targets on a card nothing is looked at, as that would wait for
    it: one outside [0, V) has the loss NaN, and so has a mean of nothing."""
    ids = targets._data if isinstance(targets, Tensor) else targets
    ids = ids if hasattr(ids, "__array_function__") else np.asarray(ids)
    array = logits._data if isinstance(logits, Tensor) else logits
    if device_of(array) == "cpu" != device_of(ids):
        raise TypeError("targets are on cuda, logits on cpu: move one with .to(device)")
    if ids.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets {ids.shape} must have the shape of logits {logits.shape} without the last axis"
        )
    if ids.dtype.kind not in "iu":
        raise TypeError(f"targets must be integer class numbers, got {ids.dtype}")
    counted = ids != ignore_index
    wrong = counted & ((ids < 0) | (ids >= logits.shape[-1]))
    if device_of(ids) == "cuda":
        known = np.where(wrong, ignore_index, ids)
        losses: Any = token_losses(logits, known, ignore_index, label_smoothing)
        losses = np.where(wrong, np.nan, losses)
        total = counted.sum().astype(array.dtype)
        return np.sum(losses) / total if reduction == "mean" else reduced(losses, reduction)
    if wrong.any():
        raise IndexError(
            f"target {int(ids[wrong][0])} is outside [0, {logits.shape[-1]}) "
            f"and not ignore_index={ignore_index}"
        )
    here = targets if isinstance(targets, Tensor) and device_of(array) == "cpu" else beside(array, ids)
    losses = token_losses(logits, here, ignore_index, label_smoothing)
    if reduction != "mean":
        return reduced(losses, reduction)
    if not counted.any():
        raise ValueError(f"every target is ignore_index={ignore_index}: there is nothing to average")
    return np.sum(losses) / int(counted.sum())


@shown_as("bce_with_logits")
@op
def binary_losses(logits: Array, targets: Array) -> ValueAndRules:
    """-[y log σ(x) + (1 - y) log(1 - σ(x))], as softplus(x) - x y."""
    losses = softplus(logits) - logits * targets
    return losses, lambda g: g * (sigmoid(logits) - targets), lambda g: -g * logits


def bce_with_logits(logits: TensorLike, targets: TensorLike, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy: the negative log-likelihood of targets y in [0, 1] under σ(logits), in nats."""
    same_shape(logits, targets)
    return reduced(binary_losses(logits, targets), reduction)


# -- numbers ---------------------------------------------------------------------------------------


def mse(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    """(x - y)²."""
    same_shape(x, y)
    return reduced(np.square(x - y), reduction)


def l1(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    """|x - y|."""
    same_shape(x, y)
    return reduced(np.abs(x - y), reduction)


def huber(x: TensorLike, y: TensorLike, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d²/2 for |d| <= delta, beyond it the tangent delta (|d| - delta/2), d = x - y (Huber 1964)."""
    same_shape(x, y)
    d = np.abs(x - y)
    near = np.minimum(d, delta)
    return reduced(near * (d - 0.5 * near), reduction)


# -- divergences -----------------------------------------------------------------------------------


def kl_categorical(log_p: TensorLike, log_q: TensorLike, reduction: str = "mean") -> Tensor:
    """KL(p ‖ q) = Σ p (log p - log q) over the last axis, from log-probabilities (..., V).

    0 log 0 is 0, its limit: a term with p = 0 (log p = -inf) counts nothing, whatever q is, and has no
    gradient. The divergence is inf where p > 0 and q = 0."""
    same_shape(log_p, log_q)
    p = np.exp(log_p)
    log_ratio = np.where(p > 0, log_p, 0.0) - np.where(p > 0, log_q, 0.0)
    return reduced(np.sum(p * log_ratio, axis=-1), reduction)


def entropy(log_p: TensorLike, reduction: str = "mean") -> Tensor:
    """-Σ p log p over the last axis, from log-probabilities (..., V), in nats; 0 log 0 is 0."""
    p = np.exp(log_p)
    return reduced(-np.sum(p * np.where(p > 0, log_p, 0.0), axis=-1), reduction)


@shown_as("kl_gaussian")
@op
def gaussian_divergences(mean: Array, logvar: Array) -> ValueAndRules:
    """(μ² + σ² - 1 - log σ²)/2."""
    variance = np.exp(logvar)
    divergences = 0.5 * (mean * mean + variance - 1 - logvar)
    return divergences, lambda g: g * mean, lambda g: 0.5 * g * (variance - 1)


def kl_gaussian(mean: TensorLike, logvar: TensorLike, reduction: str = "mean") -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - 1 - ln σ²)/2 per entry, with μ = mean and ln σ² = logvar
    (Kingma & Welling 2013, arXiv:1312.6114, appendix B)."""
    same_shape(mean, logvar)
    return reduced(gaussian_divergences(mean, logvar), reduction)


def log_normal(x: TensorLike, mean: TensorLike, logvar: TensorLike) -> Any:
    """ln N(x; mean, exp(logvar)), the logarithm of the normal density, entry by entry."""
    return -0.5 * (np.square(x - mean) * np.exp(-logvar) + logvar + math.log(2 * math.pi))

"""Losses and divergences.

`reduction` is "mean" (over all entries, or over the targets that count), "sum" or "none".
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.arrays import device_of
from tinygen.ops.activation import log_softmax, softplus
from tinygen.ops.compose import arrays_in, on_device_of
from tinygen.ops.elementwise import sigmoid
from tinygen.ops.index import checked_ids, nan_where
from tinygen.rows import batch_count
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
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


def reduce_loss(losses: TensorLike, reduction: str) -> Tensor:
    """The mean or the sum of all losses, or all of them for "none"."""
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    return np.mean(losses) if reduction == "mean" else np.sum(losses)  # type: ignore[return-value]


def require_same_shape(x: TensorLike, y: TensorLike) -> None:
    """Raises ValueError where a loss would be broadcast."""
    if np.shape(x) != np.shape(y):
        raise ValueError(f"prediction {np.shape(x)} and target {np.shape(y)} must have one shape")


# -- classes ---------------------------------------------------------------------------------------


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
    arXiv:1512.00567, section 7. `targets` may be a NumPy array where logits are on a GPU.

    Raises IndexError for a target outside [0, V), ValueError when the shapes do not match or no target
    counts, TypeError for targets that are not integers. Targets on a GPU are not checked, since that would
    synchronize: there a target outside [0, V), or a mean over no targets, gives NaN.

    Eq.: L = -ln softmax(x)_target = ln Σ_j exp(x_j) - x_target  (Bishop 2006, eq. 4.108)
    Held by: tests/ops/test_loss.py::test_equal_logits_cost_ln_v,
        tests/ops/test_loss.py::test_the_gradient_is_softmax_minus_one_hot
    """
    ids = class_ids(logits, targets)  # (...)
    ids, invalid = checked_ids("targets", ids, logits.shape[-1], ignore_index)
    losses = token_losses(logits, on_device_of(logits, ids), ignore_index, label_smoothing)  # (...)
    losses = nan_where(invalid, losses)
    if reduction != "mean":
        return reduce_loss(losses, reduction)
    count = batch_count((arrays_in(ids) != ignore_index).sum())
    if invalid is None and count == 0:
        raise ValueError(f"every target is ignore_index={ignore_index}: there is nothing to average")
    return np.sum(losses) / count.astype(losses.dtype)


@show_as("cross_entropy")
@op
def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> ValueAndRules:
    """-Σ_v q_v log softmax(logits)_v per row; q is (1 - smoothing) on the target plus smoothing/V on every
    class. Rows whose target is `ignore_index` get 0. The gradient by the logits is softmax - q."""
    classes = logits.shape[-1]
    counted = (targets != ignore_index)[..., None]  # (..., 1)
    onehot = np.equal(np.arange(classes, like=targets), targets[..., None]) & counted  # (..., V)
    onehot, counted = onehot.astype(logits.dtype), counted.astype(logits.dtype)
    q = onehot * (1 - smoothing) + counted * (smoothing / classes)
    log_p = log_softmax(logits)
    losses = -(q * np.where(q > 0, log_p, 0.0)).sum(axis=-1)  # no 0 · -inf for classes ruled out by -inf
    return losses, lambda g: g[..., None] * (np.exp(log_p) * counted - q)


def class_ids(logits: TensorLike, targets: TensorLike) -> TensorLike:
    """`targets`, also from a list; raises an error unless they fit the logits."""
    ids = targets if hasattr(targets, "__array_function__") else np.asarray(targets)
    if device_of(arrays_in(logits)) == "cpu" != device_of(arrays_in(ids)):
        raise TypeError("targets are on cuda, logits on cpu: move one with .to(device)")
    if ids.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets {ids.shape} must have the shape of logits {logits.shape} without the last axis"
        )
    return ids


@show_as("bce_with_logits")
@op
def binary_losses(logits: Array, targets: Array) -> ValueAndRules:
    """-[y log σ(x) + (1 - y) log(1 - σ(x))], as softplus(x) - x y."""
    losses = softplus(logits) - logits * targets
    return losses, lambda g: g * (sigmoid(logits) - targets), lambda g: -g * logits


def bce_with_logits(logits: TensorLike, targets: TensorLike, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy: the negative log-likelihood of targets y in [0, 1] under σ(logits), in nats."""
    require_same_shape(logits, targets)
    return reduce_loss(binary_losses(logits, targets), reduction)


# -- numbers ---------------------------------------------------------------------------------------


def mse(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    """(x - y)²."""
    require_same_shape(x, y)
    return reduce_loss(np.square(x - y), reduction)


def l1(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    """|x - y|."""
    require_same_shape(x, y)
    return reduce_loss(np.abs(x - y), reduction)


def huber(x: TensorLike, y: TensorLike, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d²/2 for |d| <= delta, beyond it the tangent delta (|d| - delta/2), d = x - y (Huber 1964).

    Eq.: x²/2 for |x| ≤ δ, δ (|x| - δ/2) beyond  (Huber 1964)
    Held by: tests/ops/test_loss.py::test_huber_is_a_parabola_within_delta_and_a_line_beyond
    """
    require_same_shape(x, y)
    d = np.abs(x - y)
    near = np.minimum(d, delta)
    return reduce_loss(near * (d - 0.5 * near), reduction)


# -- divergences -----------------------------------------------------------------------------------


def kl_categorical(log_p: TensorLike, log_q: TensorLike, reduction: str = "mean") -> Tensor:
    """KL(p ‖ q) = Σ p (log p - log q) over the last axis, from log-probabilities (..., V).

    0 log 0 is 0, its limit: a term with p = 0 (log p = -inf) counts nothing, whatever q is, and has no
    gradient. The divergence is inf where p > 0 and q = 0."""
    require_same_shape(log_p, log_q)
    p = np.exp(log_p)
    log_ratio = np.where(p > 0, log_p, 0.0) - np.where(p > 0, log_q, 0.0)
    return reduce_loss(np.sum(p * log_ratio, axis=-1), reduction)


def entropy(log_p: TensorLike, reduction: str = "mean") -> Tensor:
    """-Σ p log p over the last axis, from log-probabilities (..., V), in nats; 0 log 0 is 0."""
    p = np.exp(log_p)
    return reduce_loss(-np.sum(p * np.where(p > 0, log_p, 0.0), axis=-1), reduction)


@show_as("kl_gaussian")
@op
def gaussian_divergences(mean: Array, logvar: Array) -> ValueAndRules:
    """(μ² + σ² - 1 - log σ²)/2."""
    variance = np.exp(logvar)
    divergences = 0.5 * (mean * mean + variance - 1 - logvar)
    return divergences, lambda g: g * mean, lambda g: 0.5 * g * (variance - 1)


def kl_gaussian(mean: TensorLike, logvar: TensorLike, reduction: str = "mean") -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - 1 - ln σ²)/2 per entry, with μ = mean and ln σ² = logvar
    (Kingma & Welling 2013, arXiv:1312.6114, appendix B).

    Eq.: KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - 1 - ln σ²) / 2  (Kingma & Welling 2014, appendix B)
    Held by: tests/ops/test_loss.py::test_kl_gaussian,
        tests/ops/test_loss.py::test_kl_gaussian_is_the_mean_of_the_log_ratio
    """
    require_same_shape(mean, logvar)
    return reduce_loss(gaussian_divergences(mean, logvar), reduction)


def log_normal(x: TensorLike, mean: TensorLike, logvar: TensorLike) -> TensorLike:
    """ln N(x; mean, exp(logvar)), the logarithm of the normal density, entry by entry."""
    return -0.5 * (np.square(x - mean) * np.exp(-logvar) + logvar + math.log(2 * math.pi))

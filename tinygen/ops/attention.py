"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1)."""

from __future__ import annotations

import math

import numpy as np

from tinygen.ops.activation import softmax
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import dropout_mask
from tinygen.tape import op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules

__all__ = ["attention"]


@op
def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> ValueAndRules:
    """softmax(q kᵀ / sqrt(d)) v: each query's average of the values, weighted by how well the keys fit.

    q (..., T, d), k (..., S, d), v (..., S, e) -> (..., T, e). `mask` is True where a query may look,
    broadcastable to (..., T, S); it may be a NumPy array where q is on a GPU. `causal` is the causal mask:
    query i of T may look at keys up to S - T + i, so that the last query sees all keys (as with a KV cache).
    A query that may look at no key gets 0. `dropout` is the probability of dropping a weight, drawn from
    `seed`.

    Raises TypeError for a mask of another dtype than bool: some libraries add the mask to the scores, 0 where
    a query may look and -inf elsewhere, which would mean the opposite here.

    Eq.: Attention(q, k, v) = softmax(q kᵀ / √d) v  (Vaswani et al. 2017, eq. 1)
    Held by: tests/nn/test_attention.py::test_self_attention_by_hand,
        tests/ops/test_attention.py::test_no_gradient_reaches_the_future
    """
    require_bools(mask)
    scale = 1 / math.sqrt(q.shape[-1])
    scores = (q @ k.swapaxes(-1, -2)) * scale  # (..., T, S)
    t, s = scores.shape[-2:]
    if causal:
        seen = np.tril(np.ones_like(scores, dtype=bool, shape=(t, s)), s - t)
        scores = np.where(seen, scores, -np.inf)
    if mask is not None:
        scores = np.where(on_device_of(scores, mask), scores, -np.inf)
    p = softmax(scores)
    keep = dropout_mask(p, p.shape, dropout, seed) if dropout else 1.0
    dropped = p * keep if dropout else p

    def backward(g: Array) -> tuple[Array | None, ...]:
        dv = dropped.swapaxes(-1, -2) @ g
        dp = (g @ v.swapaxes(-1, -2)) * keep
        dscores = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
        return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv, None

    return dropped @ v, backward


def require_bools(mask: Array | None) -> None:
    """Raises TypeError for a mask of another dtype than bool."""
    kind = getattr(mask, "dtype", type(mask).__name__)
    if mask is not None and kind != np.dtype(bool):
        raise TypeError(
            f"the mask has dtype {kind}: bools are needed, True where a query may look. For a mask that is "
            "added to the scores, take mask == 0; for ones and zeros, mask.astype(bool)"
        )

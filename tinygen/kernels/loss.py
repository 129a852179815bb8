"""Cross-entropy without a one-hot target: softmax in place, and indexing instead of a product with
one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.registry import kernels
from tinygen.ops.loss import token_losses as definition
from tinygen.tensor import Array


@kernels.register(definition)
def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> Any:
    if smoothing:
        return NotImplemented
    shape, classes = logits.shape, logits.shape[-1]
    flat = logits.reshape(-1, classes)
    ids = targets.reshape(-1)
    counted = ids != ignore_index
    picked = (np.arange(len(ids)), np.where(counted, ids, 0))
    top = flat.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        return NotImplemented  # the definition handles infinities
    p = flat - top
    at_target = p[picked]
    np.exp(p, out=p)
    total = p.sum(axis=-1)
    losses = np.where(counted, np.log(total) - at_target, np.float32(0))

    def dlogits(g: Array) -> Array:
        weight = np.where(counted, g.reshape(-1), np.float32(0))
        d = p * (weight / total)[:, None]
        d[picked] -= weight
        return d.reshape(shape)

    return losses.reshape(shape[:-1]), dlogits

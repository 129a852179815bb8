"""Attention as two matrix products and the causal softmax of `softmax.py`; if there are too many scores,
`flash.py` takes over.

cuBLAS multiplies matrices far faster than a kernel in Python can. Only passes over the scores can be saved:
this file applies scale, mask and softmax in one kernel, where the definition launches a dozen.

    bytes moved   per head, 4·T·S six times forward (product, softmax, product), ten times backward
    operations    4·T·S·d forward, 8·T·S·d backward
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.random import Seed
from tinygen.tensor import Array
from tinygen_cuda.flash import WIDEST, flash
from tinygen_cuda.philox import apply_dropout
from tinygen_cuda.simt import contiguous, supports
from tinygen_cuda.softmax import causal_softmax, softmax_backward

MOST = 2**29
"""The largest number of scores, over all heads, stored for backward (2 GB per layer). Above it, `flash`
computes them tile by tile."""


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    """As `tinygen.ops.attention`, without a mask; heads of one shape; dropout by a `Seed` only."""
    (*heads, t, width), s = q.shape, k.shape[-2]
    if dropout and not isinstance(seed, Seed):
        return NotImplemented
    if mask is not None or not supports(q, k, v) or not k.size or (causal and t > s):
        return NotImplemented  # a mask may hide all keys from a query; the definition handles that
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or k.shape != v.shape:
        return NotImplemented
    shapes, count = (q.shape, k.shape, v.shape), math.prod(heads)
    q, k, v = (contiguous(x).reshape(count, -1, width) for x in (q, k, v))
    if count * t * s > MOST and width <= WIDEST and not dropout:
        y, rule = flash(q, k, v, causal)
    else:
        y, rule = attention_by_products(q, k, v, causal, dropout, seed)

    def backward(g: Array) -> tuple[Array | None, ...]:
        gradients = rule(contiguous(g).reshape(q.shape))
        return *(d.reshape(shape) for d, shape in zip(gradients, shapes, strict=True)), None

    return y.reshape(shapes[0]), backward


def attention_by_products(q: Array, k: Array, v: Array, causal: bool, dropout: float, seed: int) -> Any:
    """As `flash`, with dropout."""
    t, s = q.shape[1], k.shape[1]
    scale = np.float32(1 / math.sqrt(q.shape[2]))
    q = q * scale
    scores = q @ k.swapaxes(-1, -2)  # (B, T, S)
    p = causal_softmax(scores, t, s - t + 1) if causal else causal_softmax(scores, 1, s)
    kept, again = apply_dropout(p, dropout, seed) if dropout else (p, lambda g: g)

    def backward(g: Array) -> tuple[Array, Array, Array]:
        dscores = softmax_backward(p, again(g @ v.swapaxes(-1, -2)))
        return (dscores @ k) * scale, dscores.swapaxes(-1, -2) @ q, kept.swapaxes(-1, -2) @ g

    return kept @ v, backward

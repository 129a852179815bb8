"""Attention as two matrix products and the causal softmax of `softmax.py`; `flash.py` where the scores are
too many.

cuBLAS multiplies far faster than a kernel in Python can. What is left to save is the walks over the scores:
scale, mask and softmax are one kernel here, of which the definition makes a dozen.

    bytes moved   4·T·S a head six times forward (product, softmax, product), ten times backward
    operations    4·T·S·d forward, 8·T·S·d backward
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.random import Seed
from tinygen.tensor import Array
from tinygen_cuda.flash import WIDEST, flash
from tinygen_cuda.philox import dropped
from tinygen_cuda.simt import contiguous, taken
from tinygen_cuda.softmax import seen_softmax, softmax_backward

MOST = 2**29
"""Scores, of all heads, that are kept: 2 GB a layer. With more, they are computed tile by tile."""


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
    if mask is not None or not taken(q, k, v) or not k.size or (causal and t > s):
        return NotImplemented  # with a mask, a query may have nothing to look at: the definition sees to it
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or k.shape != v.shape:
        return NotImplemented
    shapes, count = (q.shape, k.shape, v.shape), math.prod(heads)
    q, k, v = (contiguous(x).reshape(count, -1, width) for x in (q, k, v))
    if count * t * s > MOST and width <= WIDEST and not dropout:
        y, rule = flash(q, k, v, causal)
    else:
        y, rule = by_products(q, k, v, causal, dropout, seed)

    def backward(g: Array) -> tuple[Array | None, ...]:
        gradients = rule(contiguous(g).reshape(q.shape))
        return *(d.reshape(shape) for d, shape in zip(gradients, shapes, strict=True)), None

    return y.reshape(shapes[0]), backward


def by_products(q: Array, k: Array, v: Array, causal: bool, dropout: float, seed: int) -> Any:
    """As `flash`, with dropout."""
    t, s = q.shape[1], k.shape[1]
    scale = np.float32(1 / math.sqrt(q.shape[2]))
    q = q * scale
    scores = q @ k.swapaxes(-1, -2)  # (B, T, S)
    p = seen_softmax(scores, t, s - t + 1) if causal else seen_softmax(scores, 1, s)
    kept, again = dropped(p, dropout, seed) if dropout else (p, lambda g: g)

    def backward(g: Array) -> tuple[Array, Array, Array]:
        dscores = softmax_backward(p, again(g @ v.swapaxes(-1, -2)))
        return (dscores @ k) * scale, dscores.swapaxes(-1, -2) @ q, kept.swapaxes(-1, -2) @ g

    return kept @ v, backward

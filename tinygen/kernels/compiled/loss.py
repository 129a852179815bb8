"""Cross-entropy with classes: two passes over each row forward, one backward; two numbers per row are stored.
Binary cross-entropy: one pass forward and one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, inner, inner_sum, number_of_parts, parallel, share
from tinygen.kernels.compiled.math import ZERO, exp, largest_entry, log, log1p, sigmoid
from tinygen.kernels.registry import are_float32
from tinygen.tensor import Array


@inner_sum
def sum_exp(row, top):
    total = ZERO
    for i in range(row.size):
        total += exp(row[i] - top)
    return total


@inner
def minus_log_softmax(x, top, total):
    """-log softmax of an entry, in this order: if top is large, top + log(total) would lose digits of the
    logarithm."""
    return log(total) - (x - top)


@parallel
def value(r, logits, ids, ignored, tops, totals, losses):
    tops[r] = largest_entry(logits[r])
    totals[r] = sum_exp(logits[r], tops[r])
    losses[r] = ZERO if ids[r] == ignored else minus_log_softmax(logits[r, ids[r]], tops[r], totals[r])


@parallel
def slope(r, logits, ids, ignored, tops, totals, g, d):
    row, out, top = logits[r], d[r], tops[r]
    weight = ZERO if ids[r] == ignored else g[r]
    factor = weight / totals[r]
    for i in range(row.size):
        out[i] = factor * exp(row[i] - top)
    if ids[r] != ignored:
        out[ids[r]] -= weight


def token_losses(logits: Array, targets: Array, ignore_index: int, smoothing: float) -> Any:
    if smoothing:
        return NotImplemented
    shape = logits.shape
    rows = as_contiguous(logits).reshape(-1, shape[-1])
    ids = as_contiguous(targets.reshape(-1).astype(np.int64))
    tops, totals, losses = np.empty((3, len(ids)), np.float32)
    value(len(ids), rows, ids, ignore_index, tops, totals, losses)
    if not (np.isfinite(tops).all() and np.isfinite(totals).all()):
        return NotImplemented  # the definition handles infinities

    def dlogits(g: Array) -> Array:
        d = np.empty(shape, np.float32)
        into = d.reshape(rows.shape)
        slope(len(ids), rows, ids, ignore_index, tops, totals, as_contiguous(g).reshape(-1), into)
        return d

    return losses.reshape(shape[:-1]), dlogits


@parallel
def binary_value(part, logits, targets, losses):
    xs, ys, out = share(logits, part), share(targets, part), share(losses, part)
    for i in range(xs.size):
        out[i] = (ZERO if xs[i] < ZERO else xs[i]) + log1p(exp(-abs(xs[i]))) - xs[i] * ys[i]


@parallel
def binary_slope(part, logits, targets, g, d):
    """The gradient of the logits. g has one number for all entries, as the gradient of a sum, or one for
    each."""
    xs, ys, out = share(logits, part), share(targets, part), share(d, part)
    if g.size == 1:
        weight = g[0]
        for i in range(xs.size):
            out[i] = weight * (sigmoid(xs[i]) - ys[i])
    else:
        gs = share(g, part)
        for i in range(xs.size):
            out[i] = gs[i] * (sigmoid(xs[i]) - ys[i])


def binary_losses(logits: Array, targets: Array) -> Any:
    if not are_float32(targets) or logits.shape != targets.shape:
        return NotImplemented
    xs, ys = (as_contiguous(a).reshape(-1) for a in (logits, targets))
    losses = np.empty_like(xs)
    binary_value(number_of_parts(xs), xs, ys, losses)

    def dlogits(g: Array) -> Array:
        d = np.empty(logits.shape, np.float32)
        weights = g if any(g.strides) else g.reshape(-1)[:1]
        binary_slope(number_of_parts(xs), xs, ys, as_contiguous(weights).reshape(-1), d.reshape(-1))
        return d

    return losses.reshape(logits.shape), dlogits, lambda g: -g * logits

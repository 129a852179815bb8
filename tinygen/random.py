"""Draws from a categorical distribution, in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.types import Ids


def categorical(probs: Any, *, rng: np.random.Generator | int) -> Ids:
    """Draw an index from each row of probabilities (..., V): (...), by inverting the cumulative distribution.

    Each row must have a sum above 0; it is divided by its sum. An index of probability 0 is never drawn."""
    probs = np.asarray(probs, np.float64)
    possible = np.flatnonzero(probs.any(axis=tuple(range(probs.ndim - 1))))  # few, of all V
    cdf = probs[..., possible].cumsum(axis=-1)
    cdf /= cdf[..., -1:]  # exactly 1 at the end, so that every u < 1 lies below some step
    u = np.random.default_rng(rng).random((*cdf.shape[:-1], 1))
    # The first step above u; `<=`, so that an index of probability 0 never comes, even at u = 0.
    drawn: Ids = possible[np.count_nonzero(cdf <= u, axis=-1)]
    return drawn

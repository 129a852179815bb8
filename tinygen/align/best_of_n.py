"""Best of n: draw n responses, keep the one with the highest score. Nothing is trained; what others cost in
training, this costs at each use. The baseline for everything else here.

Its distribution can be written down, and so can its distance from the policy that it draws from: at most
ln n - (n - 1)/n nats, and exactly that where no two responses have the same score (a formula much used since
Stiennon et al. 2020, arXiv:2009.01325; for the bound see Beirami et al. 2024, arXiv:2401.01879).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygen.tensor import Array

Floats = NDArray[np.float64]


def pick_best(candidates: Array, scores: Array) -> Array:
    """The first of the best: candidates (B, n, ...), scores (B, n) -> (B, ...)."""
    return candidates[np.arange(len(scores)), np.argmax(scores, axis=1)]


def kl_bound(n: int) -> float:
    """ln n - (n - 1)/n: the divergence of best-of-n from its policy, or more."""
    return math.log(n) - (n - 1) / n


def best_of_n_log_probs(log_p: Any, scores: Any, n: int) -> Floats:
    """The logarithm of best-of-n's probability of each of R responses, from that of the policy: log_p and
    scores (N, R), each row all responses to one prompt -> (N, R).

    The best of n draws has the score s with probability F(s)^n - F(s-)^n, where F(s) is the probability of
    one draw to have at most s, and F(s-) to have less; among equal scores it is distributed as the policy."""
    result = np.empty(np.shape(log_p))
    for i, (row, score) in enumerate(zip(np.asarray(log_p, np.float64), scores, strict=True)):
        _, level = np.unique(score, return_inverse=True)
        mass = np.bincount(level, np.exp(row))
        upto = np.minimum(np.cumsum(mass) / mass.sum(), 1.0)
        best = np.diff(upto**n, prepend=0.0)
        result[i] = row + np.log(best / mass)[level]
    return result

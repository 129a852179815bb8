"""Best of n: draw n responses, keep the one with the highest score. Nothing is trained; the cost comes at
each use. It is the baseline for all other methods here.

Its distribution is known, and so is its KL divergence from the policy that it draws from: at most
ln n - (n - 1)/n nats (a formula much used since Stiennon et al. 2020, arXiv:2009.01325; Beirami et al. 2024,
arXiv:2401.01879, prove the bound). The bound is reached where scores are continuous. It is loose where single
responses are probable: with two responses of probability 1/2 and n = 64 the divergence is ln 2 = 0.693 at
most, and the bound is 3.175.
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.tensor import Array
from tinygen.types import Floats, TensorLike


def pick_best(candidates: Array, scores: Array) -> Array:
    """The first of the best: candidates (B, n, ...), scores (B, n) -> (B, ...)."""
    return candidates[np.arange(len(scores)), np.argmax(scores, axis=1)]


def kl_bound(n: int) -> float:
    """ln n - (n - 1)/n: an upper bound of KL(best of n ‖ policy), in nats.

    Eq.: KL ≤ ln n - (n - 1)/n  (Stiennon et al. 2020, appendix G.3)
    Held by: tests/align/test_world.py::test_the_divergence_of_best_of_n
    """
    return math.log(n) - (n - 1) / n


def best_of_n_log_probs(log_probs: TensorLike, scores: TensorLike, n: int) -> Floats:
    """The log-probabilities of best-of-n from the policy's: log_probs and scores (N, R), each row all R
    responses to one prompt -> (N, R).

    The best of n draws has the score s with probability F(s)^n - F(s-)^n, where F(s) is the probability that
    one draw has at most s, and F(s-) that it has less; among equal scores it is distributed as the policy.
    It is computed in logarithms, as n ln F + ln(1 - (F(s-)/F(s))^n), since F^n soon underflows in float64. A
    response of probability 0 keeps it. Raises ValueError for n below 1."""
    if n < 1:
        raise ValueError(f"best of n draws needs n of at least 1, got {n}")
    result = np.empty(np.shape(log_probs))
    for i, (row, score) in enumerate(zip(np.asarray(log_probs, np.float64), scores, strict=True)):
        possible = row > -np.inf
        values, level = np.unique(np.asarray(score)[possible], return_inverse=True)
        mass = np.full(len(values), -np.inf)  # ln of the probability of each score
        np.logaddexp.at(mass, level, row[possible])
        upto = np.logaddexp.accumulate(mass)  # ln F(s), up to a constant
        with np.errstate(divide="ignore"):
            below = np.log1p(-np.exp(mass - upto))  # ln F(s-)/F(s)
        best = n * (upto - upto[-1]) + np.log(-np.expm1(n * below))
        result[i] = -np.inf
        result[i, possible] = row[possible] + (best - mass)[level]
    return result

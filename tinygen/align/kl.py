"""How far a policy is from the one it started at, and what that costs.

Estimators of KL(p ‖ q) from draws of p: J. Schulman, *Approximating KL divergence* (2020). The penalty on
each token and its adaptive coefficient: Ziegler et al. 2019, arXiv:1909.08593.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.align.rollouts import last
from tinygen.tensor import Array
from tinygen.types import Mask


def k1(log_p: Any, log_q: Any) -> Any:
    """ln p/q: right in the mean, but negative for about half of the draws."""
    return log_p - log_q


def k2(log_p: Any, log_q: Any) -> Any:
    """(ln p/q)² / 2: never negative, and off by third order in the difference. The mean of its gradient is
    the gradient of KL(p ‖ q), which those of k1 and k3 are not."""
    return 0.5 * np.square(log_p - log_q)


def k3(log_p: Any, log_q: Any) -> Any:
    """q/p - 1 - ln q/p: right in the mean, and never negative. The mean of its gradient by p's parameters is
    that of KL(q ‖ p), the divergence the other way round."""
    log_ratio = log_q - log_p
    return np.expm1(log_ratio) - log_ratio


def kl_rewards(scores: Array, log_p: Array, log_ref: Array, mask: Mask, beta: float) -> Array:
    """The reward of each token: -β (ln π - ln π_ref), and the score (B,) of the whole response on its last
    one. The divergence is a price: what is maximised is E[score] - β KL (Ouyang et al. 2022, eq. 2). Some
    slides have + β, which would pay the policy for leaving the reference.

    log_p, log_ref and mask are (B, T), and so is the result; it is 0 outside the mask.

    The sum over a row is a draw of score - β KL(π ‖ π_ref)."""
    rewards = np.where(mask, -beta * k1(log_p, log_ref), 0.0)
    rewards[np.arange(len(rewards)), last(mask)] += scores
    return rewards


class AdaptiveKL:
    """The coefficient β, moved after each batch so that the divergence comes to `target` nats a response.

    It is multiplied by 1 + e·n/horizon, where e = KL/target - 1, cut to ±0.2, and n is how many responses
    were seen. The defaults are the settings of Ziegler et al.'s experiments, as the script that launches
    them has them; another policy wants another target."""

    def __init__(self, beta: float = 0.15, target: float = 6.0, horizon: float = 10_000) -> None:
        self.beta = beta
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """After n responses whose mean divergence was `kl`. ValueError for one that is not a finite number: β
        would be NaN from then on."""
        if not math.isfinite(kl):
            raise ValueError(f"the divergence of {n} responses is {kl}: β stays {self.beta:g}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * n / self.horizon

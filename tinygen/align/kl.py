"""The KL divergence of a policy from its reference: estimates of it, and the penalty for it.

Estimators of KL(p ‖ q) from draws of p: J. Schulman, *Approximating KL divergence* (2020). The penalty on
each token and its adaptive coefficient: Ziegler et al. 2019, arXiv:1909.08593.
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.align.rollouts import last_true, zeros_outside
from tinygen.tensor import Array
from tinygen.types import Mask, TensorLike


def k1(log_p: TensorLike, log_q: TensorLike) -> TensorLike:
    """ln p/q: unbiased, but negative for about half of the draws."""
    return log_p - log_q


def k2(log_p: TensorLike, log_q: TensorLike) -> TensorLike:
    """(ln p/q)² / 2: never negative; its bias is of third order in the difference of p and q. Its mean
    gradient is the gradient of KL(p ‖ q); that does not hold for k1 and k3."""
    return 0.5 * np.square(log_p - log_q)


def k3(log_p: TensorLike, log_q: TensorLike) -> TensorLike:
    """q/p - 1 - ln q/p: unbiased, and never negative. Its mean gradient by p's parameters is the gradient of
    KL(q ‖ p), the divergence the other way round.

    Eq.: k3 = (r - 1) - ln r,  r = π_ref/π  (Schulman 2020, Approximating KL divergence)
    Held by: tests/align/test_policy_gradient.py::test_means_of_the_estimators
    """
    log_ratio = log_q - log_p
    return np.expm1(log_ratio) - log_ratio


def kl_rewards(
    scores: Array, log_probs: Array, ref_log_probs: Array, action_mask: Mask, beta: float
) -> Array:
    """The reward of each token: -β (ln π - ln π_ref), plus the score (B,) of the response at its last token.
    The divergence is a cost: PPO maximizes E[score] - β KL (Ouyang et al. 2022, eq. 2). Some slides have + β,
    which would reward the policy for leaving the reference.

    The arguments but the scores are (B, T), and so is the result, which is 0 outside the mask. The mean of a
    row's sum is E[score] - β KL(π ‖ π_ref).

    Eq.: R = r(x, y) - β ln π(y|x)/π_ref(y|x)  (Ouyang et al. 2022, eq. 2)
    Held by: tests/align/test_policy_gradient.py::test_the_penalty_in_the_reward_is_the_divergence
    """
    rewards: Array = zeros_outside(-beta * k1(log_probs, ref_log_probs), action_mask)
    rewards[np.arange(len(rewards)), last_true(action_mask)] += scores
    return rewards


class AdaptiveKL:
    """The coefficient β, adapted after each batch so that the divergence approaches `target` nats a response.

    It is multiplied by 1 + e·n/horizon, where e = KL/target - 1, clipped to ±0.2, and n is the number of
    responses. The defaults are from the script that launches Ziegler et al.'s experiments; another policy
    needs another target."""

    def __init__(self, beta: float = 0.15, target: float = 6.0, horizon: float = 10_000) -> None:
        self.beta = beta
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """Adapt β after n responses whose mean divergence was `kl`. ValueError unless it is finite: β would
        stay NaN for ever."""
        if not math.isfinite(kl):
            raise ValueError(f"the divergence of {n} responses is {kl}: β stays {self.beta:g}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * n / self.horizon

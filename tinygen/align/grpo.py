"""GRPO: PPO without a critic (Shao et al. 2024, *DeepSeekMath*, arXiv:2402.03300, section 4.1).

Several responses to one prompt are compared with each other: their mean reward replaces the value function.
All tokens of a response get the same advantage, and the KL penalty is part of the loss, not of the reward.
"""

from __future__ import annotations

import numpy as np

from tinygen.align.kl import k3
from tinygen.align.ppo import surrogate
from tinygen.align.rollouts import lengths, zeros_outside
from tinygen.tensor import Array
from tinygen.types import Mask, TensorLike


def group_advantages(rewards: Array) -> Array:
    """(r - mean) / (std + 1e-4) within each prompt's group of G responses: (B, G) -> (B, G). A group that
    agrees teaches nothing: its advantages are exactly 0.

    The standard deviation divides by G; trl's is the unbiased one, which divides by G - 1. The 1e-4, as in
    trl, is not in the paper: without it, a group that almost agrees would get huge advantages.

    Eq.: A_i = (r_i - mean(r)) / std(r)  (Shao et al. 2024, section 4.1.2)
    Held by: tests/align/test_policy_gradient.py::test_group_advantages
    """
    rewards = rewards - rewards[:, :1]  # equal rewards are 0 now, where r - mean(r) need not be
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    return centered / (rewards.std(axis=1, keepdims=True) + 1e-4)


def grpo_loss(
    log_probs: TensorLike,
    old_log_probs: Array,
    ref_log_probs: Array,
    advantages: Array,
    action_mask: Mask,
    clip: float = 0.2,
    beta: float = 0.04,
) -> TensorLike:
    """Minus PPO's clipped surrogate, plus β times the k3 estimate of KL(π ‖ π_ref): the mean over the tokens
    of each response, then over responses, so that each counts the same whatever its length (eq. 3).

    advantages (B,) has one for each response, all others are (B, T). ValueError for a response without a
    token.

    Eq.: J = mean over responses and tokens of min(ρ A, clip(ρ, 1-ε, 1+ε) A) - β KL
        (Shao et al. 2024, eq. 3)
    Held by: tests/align/test_policy_gradient.py::test_grpo_by_hand
    """
    log_ratio = zeros_outside(log_probs - old_log_probs, action_mask)
    objective = surrogate(log_ratio, advantages[:, None], clip)
    penalty = k3(zeros_outside(log_probs, action_mask), zeros_outside(ref_log_probs, action_mask))
    losses = zeros_outside(beta * penalty - objective, action_mask)
    return np.mean(losses.sum(axis=1) / lengths(action_mask))

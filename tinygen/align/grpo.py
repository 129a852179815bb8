"""GRPO: PPO without a critic (Shao et al. 2024, *DeepSeekMath*, arXiv:2402.03300, section 4.1).

Several responses to one prompt are compared with each other: what the value function would have expected is
their mean reward. All tokens of a response get the same advantage, and the penalty for leaving the reference
is part of the loss, not of the reward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.align.kl import k3
from tinygen.align.ppo import surrogate
from tinygen.align.rollouts import lengths
from tinygen.tensor import Array
from tinygen.types import Mask


def group_advantages(rewards: Array) -> Array:
    """(r - mean) / (std + 1e-4) within each prompt's group of G responses: (B, G) -> (B, G). A group that
    agrees teaches nothing: its advantages are exactly 0.

    std is that of the group itself, which divides by G; trl takes the unbiased one, which divides by G - 1.
    The 1e-4, trl's too, is not in the paper: it keeps a group that almost agrees from being blown up."""
    rewards = rewards - rewards[:, :1]  # equal rewards are 0 now, where r - mean(r) need not be
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    return centered / (rewards.std(axis=1, keepdims=True) + 1e-4)


def grpo_loss(
    log_probs: Any,
    old: Array,
    ref: Array,
    advantages: Array,
    mask: Mask,
    clip: float = 0.2,
    beta: float = 0.04,
) -> Any:
    """PPO's clipped surrogate plus β times the k3 estimate of KL(π ‖ π_ref); the mean over the tokens of each
    response, then over responses, so that each counts the same whatever its length (eq. 3).

    log_probs, old, ref and mask are (B, T), advantages (B,), one for each response. ValueError for a
    response without a token."""
    gain = surrogate(np.where(mask, log_probs - old, 0.0), advantages[:, None], clip)
    penalty = k3(np.where(mask, log_probs, 0.0), np.where(mask, ref, 0.0))
    per_response = np.where(mask, beta * penalty - gain, 0.0).sum(axis=1) / lengths(mask)
    return np.mean(per_response)

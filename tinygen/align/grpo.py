"""GRPO: PPO without a critic (Shao et al. 2024, *DeepSeekMath*, arXiv:2402.03300, section 4.1).

Several responses to one prompt are compared with each other: what the value function would have expected is
their mean reward. All tokens of a response get the same advantage, and the penalty for leaving the reference
is part of the loss, not of the reward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.align.kl import k3
from tinygen.align.rollouts import Mask
from tinygen.tensor import Array


def group_advantages(rewards: Array) -> Array:
    """(r - mean) / std within each prompt's group of G responses: (B, G) -> (B, G). A group that agrees
    teaches nothing: its advantages are 0."""
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return centred / (rewards.std(axis=1, keepdims=True) + 1e-4)


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

    log_probs, old, ref and mask are (B, T), advantages (B,), one for each response."""
    ratio = np.exp(np.where(mask, log_probs - old, 0.0))
    gain = np.minimum(advantages[:, None] * ratio, advantages[:, None] * np.clip(ratio, 1 - clip, 1 + clip))
    penalty = k3(np.where(mask, log_probs, 0.0), np.where(mask, ref, 0.0))
    per_response = np.where(mask, beta * penalty - gain, 0.0).sum(axis=1) / mask.sum(axis=1, dtype=np.float32)
    return np.mean(per_response)

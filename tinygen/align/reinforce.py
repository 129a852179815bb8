"""REINFORCE: make what was rewarded more probable (Williams 1992, *Simple statistical gradient-following
algorithms for connectionist reinforcement learning*).

The gradient of E_π[R] is E_π[(R - b) ∇ ln π], for every baseline b that the response has no part in. A good
one takes away most of the noise; here the mean reward of the other responses to the same prompt (Kool et al.
2019, *Buy 4 REINFORCE samples, get a baseline for free!*; for language models Ahmadian et al. 2024,
arXiv:2402.14740).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.align.rollouts import require_bools
from tinygen.tensor import Array
from tinygen.types import Mask


def leave_one_out(rewards: Array) -> Array:
    """The advantages R - b of K responses to each prompt: rewards (B, K) -> (B, K).

    Raises ValueError for K = 1, where nobody else is there to compare with."""
    k = rewards.shape[1]
    if k < 2:
        raise ValueError("leave_one_out compares a response with others to its prompt: rewards need K >= 2")
    rewards = rewards - rewards[:, :1]  # the same advantages; of equal rewards they are exactly 0
    return rewards - (rewards.sum(axis=1, keepdims=True) - rewards) / (k - 1)


def reinforce_loss(log_probs: Any, advantages: Array, mask: Mask) -> Any:
    """-A Σ_t ln π(token t), the mean over responses: log_probs and mask (B, T), advantages (B,).

    Its gradient is minus an estimate of that of E_π[R]; its value means nothing. For the objective with the
    penalty, R = score - β ln(π / π_ref), taken as a number: the part of the gradient that goes through the
    logarithm is 0 in the mean."""
    require_bools(mask)
    return -np.mean(advantages * np.where(mask, log_probs, 0.0).sum(axis=1))

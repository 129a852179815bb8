"""REINFORCE: make responses with a high reward more probable (Williams 1992, *Simple statistical
gradient-following algorithms for connectionist reinforcement learning*).

The gradient of E_π[R] is E_π[(R - b) ∇ ln π], for every baseline b that does not depend on the response. A
good baseline reduces the variance; here it is the mean reward of the other responses to the same prompt (Kool
et al. 2019, *Buy 4 REINFORCE samples, get a baseline for free!*; for language models Ahmadian et al. 2024,
arXiv:2402.14740).
"""

from __future__ import annotations

import numpy as np

from tinygen.align.rollouts import require_bools, zeros_outside
from tinygen.tensor import Array
from tinygen.types import Mask, TensorLike


def leave_one_out(rewards: Array) -> Array:
    """The advantages R - b of K responses to each prompt: rewards (B, K) -> (B, K).

    Raises ValueError for K = 1: there is no other response to compare with.

    Eq.: b_i = Σ_{j ≠ i} r_j / (k - 1)  (Kool et al. 2019, section 3)
    Held by: tests/align/test_policy_gradient.py::test_leave_one_out_by_hand,
        tests/align/test_policy_gradient.py::test_the_mean_with_leave_one_out_is_the_gradient
    """
    k = rewards.shape[1]
    if k < 2:
        raise ValueError("leave_one_out compares a response with others to its prompt: rewards need K >= 2")
    rewards = rewards - rewards[:, :1]  # the same advantages; of equal rewards they are exactly 0
    return rewards - (rewards.sum(axis=1, keepdims=True) - rewards) / (k - 1)


def reinforce_loss(log_probs: TensorLike, advantages: Array, action_mask: Mask) -> TensorLike:
    """-A Σ_t ln π(token t), the mean over responses: log_probs and action_mask (B, T), advantages (B,).

    Minus its gradient is an unbiased estimate of the gradient of E_π[R]; its value has no meaning. For the
    objective with a KL penalty, R = score - β ln(π/π_ref) is a constant here: the gradient through its
    logarithm has mean 0.

    Eq.: ∇J = E[(r - b) ∇ ln π(y|x)]  (Williams 1992, theorem 1)
    Held by: tests/align/test_policy_gradient.py::test_the_mean_of_reinforce_is_the_gradient
    """
    require_bools(action_mask)
    return -np.mean(advantages * zeros_outside(log_probs, action_mask).sum(axis=1))

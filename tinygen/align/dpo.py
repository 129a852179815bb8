"""DPO: preferences without a reward model or sampling (Rafailov et al. 2023, arXiv:2305.18290).

The policy that maximizes E[r] - β KL(π ‖ π_ref) is π* ∝ π_ref exp(r/β). Solved for r: a policy π is optimal
for the reward β ln(π/π_ref), up to a constant for each prompt. In Bradley and Terry's probability of a
preference, σ(r(chosen) - r(rejected)), the constant cancels; so the likelihood of preferences is a loss for
the policy itself, with no reward model.

All functions take ln π(response | prompt), summed over tokens by `response_log_probs`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.align.rollouts import lengths, require_bools, zeros_outside
from tinygen.tensor import Array
from tinygen.types import Mask, TensorLike


def response_log_probs(
    log_probs: TensorLike, action_mask: Mask, length_normalize: bool = False
) -> TensorLike:
    """ln π of whole responses: the sum of the tokens' log_probs (B, T - 1) -> (B,), as in DPO's derivation.
    With `length_normalize` it is the mean over the response's tokens, which is common for IPO: its loss has
    one target for the margin, whatever the length."""
    require_bools(action_mask)
    total = zeros_outside(log_probs, action_mask).sum(axis=1)
    return total / lengths(action_mask) if length_normalize else total


def margins(
    chosen_log_probs: Any,
    rejected_log_probs: Any,
    ref_chosen_log_probs: Array,
    ref_rejected_log_probs: Array,
) -> TensorLike:
    """h = ln π(chosen)/π_ref(chosen) - ln π(rejected)/π_ref(rejected): all (B,), 0 where the policy is the
    reference. β h is the difference of the implicit rewards."""
    return (chosen_log_probs - rejected_log_probs) - (ref_chosen_log_probs - ref_rejected_log_probs)


def dpo_loss(h: TensorLike, beta: float = 0.1, smoothing: Any = 0.0) -> TensorLike:
    """-ln σ(βh), the mean over pairs with margins h (eq. 7). At h = 0 it is ln 2, with the slope -β/2.

    `smoothing` ε (a number, or one for each pair) is the probability that a label is wrong. It gives the
    conservative loss -(1 - ε) ln σ(βh) - ε ln σ(-βh) (E. Mitchell, *A note on DPO with noisy preferences*,
    2023).

    Eq.: L = -E ln σ(β h),  h = ln π(y_w|x)/π_ref(y_w|x) - ln π(y_l|x)/π_ref(y_l|x)
        (Rafailov et al. 2023, eq. 7)
    Held by: tests/align/test_preferences.py::test_losses_by_hand,
        tests/align/test_preferences.py::test_the_optimum_of_dpo_is_the_optimum
    """
    right, wrong = ops.log_sigmoid(beta * h), ops.log_sigmoid(-beta * h)
    return -np.mean((1 - smoothing) * right + smoothing * wrong)


def ipo_loss(h: TensorLike, tau: float = 0.1) -> TensorLike:
    """IPO's (h - 1/(2τ))², the mean over pairs. It has a finite target for the margin; DPO's loss grows the
    margin without end when a preference is certain (Azar et al. 2023, arXiv:2310.12036).

    Eq.: L = E (h - 1/(2β))²  (Azar et al. 2023, eq. 17)
    Held by: tests/align/test_preferences.py::test_losses_by_hand,
        tests/align/test_preferences.py::test_where_each_loss_is_smallest
    """
    return np.mean(np.square(h - 1 / (2 * tau)))


def implicit_rewards(log_probs: TensorLike, ref_log_probs: Any, beta: float) -> TensorLike:
    """β ln(π/π_ref): the rewards for which the policy is optimal, up to a constant for each prompt (eq.
    5).

    Eq.: r(x, y) = β ln π(y|x)/π_ref(y|x)  (Rafailov et al. 2023, section 4)
    Held by: tests/align/test_preferences.py::test_the_optimum_of_dpo_is_the_optimum
    """
    return beta * (log_probs - ref_log_probs)

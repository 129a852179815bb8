"""DPO: preferences without a reward model or sampling (Rafailov et al. 2023, arXiv:2305.18290).

The policy that is best for E[r] - β KL(π ‖ π_ref) is π* ∝ π_ref exp(r/β). Solved for r, a policy says what
rewards it is the best for: β ln(π/π_ref), up to a constant for each prompt. Put into the probability of a
preference, the constant falls out, and the likelihood of preferences becomes a loss for the policy itself.

All functions are of ln π(response | prompt), summed over tokens by `response_log_probs`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.align.rollouts import lengths, require_bools
from tinygen.tensor import Array
from tinygen.types import Mask


def response_log_probs(log_probs: Any, mask: Mask, length_normalise: bool = False) -> Any:
    """ln π of whole responses: the sum over the mask (B, T) -> (B,). DPO's derivation asks for the sum;
    with `length_normalise` it is the mean over the tokens, with which IPO is often trained, since its loss
    sets a number for the margin whatever the length."""
    require_bools(mask)
    total = np.where(mask, log_probs, 0.0).sum(axis=1)
    return total / lengths(mask) if length_normalise else total


def margins(chosen: Any, rejected: Any, ref_chosen: Array, ref_rejected: Array) -> Any:
    """h = ln π/π_ref of the chosen response minus that of the rejected one: all (B,). 0 where the policy is
    the reference. β h is the difference of their implicit rewards."""
    return (chosen - rejected) - (ref_chosen - ref_rejected)


def dpo_loss(h: Any, beta: float = 0.1, smoothing: Any = 0.0) -> Any:
    """-ln σ(βh), the mean over pairs with margins h; ln 2 where h = 0, with the slope -β/2.

    `smoothing` (a number, or one for each pair) is the probability that a label is wrong: the conservative
    loss of E. Mitchell, *A note on DPO with noisy preferences* (2023),
    -(1 - ε) ln σ(βh) - ε ln σ(-βh)."""
    return np.mean((1 - smoothing) * ops.softplus(-beta * h) + smoothing * ops.softplus(beta * h))


def ipo_loss(h: Any, tau: float = 0.1) -> Any:
    """(h - 1/(2τ))², the mean over pairs: IPO, which stops at a margin where DPO's loss pushes on for ever
    when a preference is certain (Azar et al. 2023, arXiv:2310.12036)."""
    return np.mean(np.square(h - 1 / (2 * tau)))


def implicit_rewards(log_pi: Any, log_ref: Any, beta: float) -> Any:
    """β ln(π/π_ref): the rewards that the policy is the best for, up to a constant for each prompt."""
    return beta * (log_pi - log_ref)

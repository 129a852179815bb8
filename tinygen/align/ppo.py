"""PPO: several steps on the same rollouts, near the policy that made them (Schulman et al. 2017,
arXiv:1707.06347).

For games and for language: rows are episodes or pieces of them, columns are steps. A response is an episode
whose actions are tokens; its rewards are `kl.kl_rewards`. Details for language are from Huang et al. 2024,
*The N implementation details of RLHF with PPO*.

One round of PPO for language: `rollout`; log_probs of the policy and of the reference, values of the critic,
scores of the reward model; `kl_rewards`, `gae`, `whiten`; then a few steps on `ppo_loss`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.align.rollouts import Responses, masked_mean, require_bools, zeros_outside
from tinygen.rows import batch_entries
from tinygen.tensor import Array
from tinygen.types import Mask, TensorLike


def gae(
    rewards: Array, values: Array, ends: Any, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Array, Array]:
    """Generalized advantage estimation (Schulman et al. 2015, arXiv:1506.02438): advantages and returns.

    rewards[:, t] is for action t; values[:, t] is V of the state before it, values[:, T] of the state after
    the last action: rewards (B, T), values (B, T + 1). ends (B, T) is True where an action was the last of
    its episode; later columns, padding or the next episode, do not count for it. Both results are (B, T).

        δ_t = r_t + γ V_{t+1} - V_t,    A_t = Σ_k (γλ)^k δ_{t+k},    the return is A_t + V_t

    With λ = 1, A_t is the discounted sum of all rewards from r_t on, minus V_t; with λ = 0, it is δ_t.

    Eq.: A_t = Σ_l (γλ)^l δ_{t+l},  δ_t = r_t + γ V_{t+1} - V_t  (Schulman et al. 2016, eq. 16)
    Held by: tests/align/test_policy_gradient.py::test_gae_is_its_definition,
        tests/align/test_policy_gradient.py::test_the_two_ends_of_lambda
    """
    delta = rewards + gamma * np.where(ends, 0.0, values[:, 1:]) - values[:, :-1]
    advantages = np.zeros_like(delta)
    advantage = np.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        advantage = delta[:, t] + gamma * lam * np.where(ends[:, t], 0.0, advantage)
        advantages[:, t] = advantage
    return advantages, advantages + values[:, :-1]


def whiten(x: Array, mask: Mask, shift_mean: bool = True) -> Array:
    """x (B, T) with variance 1 and mean 0 over the mask; 0 outside of it. Without `shift_mean`, as for
    rewards, x keeps its mean. Entries that are all equal become exactly 0 (or their mean). ValueError for a
    mask without a True."""
    require_bools(mask)
    entries = batch_entries(x[mask])
    if not len(entries):
        raise ValueError(f"the mask {mask.shape} is False everywhere: there is nothing to whiten")
    first = entries[0]  # subtracted first, so that equal entries become exactly 0
    mean, var = np.mean(entries - first), np.var(entries - first)
    white = ((x - first) - mean) / np.sqrt(var + 1e-8)
    whitened: Array = zeros_outside(white if shift_mean else white + (first + mean), mask)
    return whitened


def surrogate(log_ratio: TensorLike, advantages: Array, clip: float) -> TensorLike:
    """min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) for each action: PPO's eq. 7 with ρ = π/π_old and ε = `clip`. It is
    A min(ρ, 1 + ε) where A >= 0, and A max(ρ, 1 - ε) where A < 0.

    The bounds apply to ln ρ: ρ itself may exceed float32's range, and where it is clipped its gradient must
    be 0, not inf · 0 = NaN.

    Eq.: L_CLIP = min(ρ A, clip(ρ, 1 - ε, 1 + ε) A),  ρ = π/π_old  (Schulman et al. 2017, eq. 7)
    Held by: tests/align/test_edges.py::test_surrogate_is_the_papers,
        tests/align/test_policy_gradient.py::test_the_clip_by_hand
    """
    low = math.log1p(-clip) if clip < 1 else -math.inf
    upper, lower = np.minimum(log_ratio, math.log1p(clip)), np.maximum(log_ratio, low)
    return advantages * np.exp(np.where(advantages >= 0, upper, lower))


def policy_loss(
    log_probs: TensorLike, old_log_probs: Array, advantages: Array, action_mask: Mask, clip: float = 0.2
) -> TensorLike:
    """Minus the clipped surrogate, eq. 7, the mean over the mask (all B, T). `old_log_probs` are of the
    policy that made the rollout. Beyond 1 ± clip, a change of the ratio π/π_old gains nothing."""
    log_ratio = zeros_outside(log_probs - old_log_probs, action_mask)
    return -masked_mean(surrogate(log_ratio, advantages, clip), action_mask)


def value_loss(
    values: TensorLike, old_values: Array, returns: Array, action_mask: Mask, clip: float | None = 0.2
) -> TensorLike:
    """(V - return)² / 2, the mean over the mask (all B, T). With `clip`, the larger of two errors counts: of
    V, and of V clipped to its old value ± clip. So moving further gains nothing. This is not in the paper,
    but in its authors' code."""
    error = np.square(values - returns)
    if clip is not None:
        clipped = np.clip(values, old_values - clip, old_values + clip)
        error = np.maximum(error, np.square(clipped - returns))
    return 0.5 * masked_mean(error, action_mask)


def ppo_loss(
    policy: Any, value: Any, pretraining: Any = 0.0, value_weight: float = 0.1, ptx: float = 0.0
) -> TensorLike:
    """policy + value_weight · value + ptx · pretraining, the loss that PPO for language minimizes. The loss
    on texts of pretraining, with the weight γ = `ptx`, keeps the model from forgetting them: InstructGPT's
    PPO-ptx (Ouyang et al. 2022, arXiv:2203.02155, eq. 2). There is no entropy bonus."""
    return policy + value_weight * value + ptx * pretraining


def clip_fraction(log_probs: Array, old_log_probs: Array, action_mask: Mask, clip: float = 0.2) -> float:
    """The fraction of actions whose ratio is outside 1 ± clip: 0 before the first step. Above about a third,
    the steps are too large."""
    require_bools(action_mask)
    return float(np.mean(np.abs(np.expm1((log_probs - old_log_probs)[action_mask])) > clip))


def penalize_missing_end(scores: Array, responses: Responses, end: int, penalty: float = 1.0) -> Array:
    """The scores (B,), less the penalty for each response that was cut off before its token `end`."""
    tokens, mask = responses
    require_bools(mask)
    ended = ((np.asarray(tokens) == end) & mask).any(axis=1)
    return np.where(ended, scores, scores - penalty)

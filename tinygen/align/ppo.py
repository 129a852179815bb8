"""PPO: several steps on the same rollouts, none of them far (Schulman et al. 2017, arXiv:1707.06347).

For games and for language: rows are episodes, or pieces of them, columns are steps. A response is an episode
whose actions are tokens; its reward is `kl.kl_rewards`, or what the game gives. The details that matter in
language are those of Huang et al. 2024, *The N implementation details of RLHF with PPO*.

One round of PPO for language: `rollout`; `log_probs` of the policy and the reference, values of the critic,
scores of the reward model; `kl_rewards`, `gae`, `whiten`; then a few times the three losses below, together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.align.rollouts import masked_mean, require_bools
from tinygen.tensor import Array
from tinygen.types import Mask


def gae(
    rewards: Array, values: Array, ends: Any, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Array, Array]:
    """Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438): advantages and returns.

    rewards (B, T) follow the actions, values (B, T + 1) precede them, and the last one is that of the state
    after all; ends (B, T) is True where an action was the last of its episode: nothing that comes later
    counts for it, padding or the next episode. Both results are (B, T).

        δ_t = r_t + γ V_{t+1} - V_t,    A_t = Σ_k (γλ)^k δ_{t+k},    the return is A_t + V_t

    With λ = 1, A is the sum of all rewards to come, each discounted by γ for every step until it comes, minus
    V; λ = 0 believes the next value."""
    delta = rewards + gamma * np.where(ends, 0.0, values[:, 1:]) - values[:, :-1]
    advantages = np.zeros_like(delta)
    after = np.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        after = delta[:, t] + gamma * lam * np.where(ends[:, t], 0.0, after)
        advantages[:, t] = after
    return advantages, advantages + values[:, :-1]


def whiten(x: Array, mask: Mask, shift_mean: bool = True) -> Array:
    """x (B, T) with variance 1, and mean 0 or, for rewards, the mean it had; both over the mask, outside of
    which the result is 0. Entries that are all equal become exactly 0 (or their mean). ValueError for a mask
    without a True."""
    require_bools(mask)
    if not mask.any():
        raise ValueError(f"the mask {mask.shape} is False everywhere: there is nothing to whiten")
    first = x[mask][0]  # a common offset is taken off first: the mean would leave its rounding error
    mean, var = np.mean(x[mask] - first), np.var(x[mask] - first)
    white = ((x - first) - mean) / np.sqrt(var + 1e-8)
    return np.where(mask, white if shift_mean else white + (first + mean), 0.0)


def surrogate(log_ratio: Any, advantages: Array, clip: float) -> Any:
    """min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) for each action: PPO's eq. 7 with ρ = π/π_old and ε = `clip`. It is
    A min(ρ, 1 + ε) where A >= 0, and A max(ρ, 1 - ε) where A < 0.

    The bounds are put on ln ρ: ρ may be beyond float32's range, and where it does not count its gradient must
    be 0, not inf · 0 = NaN."""
    low = math.log1p(-clip) if clip < 1 else -math.inf
    gains = advantages >= 0
    bounded = np.where(gains, np.minimum(log_ratio, math.log1p(clip)), np.maximum(log_ratio, low))
    return advantages * np.exp(bounded)


def policy_loss(log_probs: Any, old: Array, advantages: Array, mask: Mask, clip: float = 0.2) -> Any:
    """Minus the clipped surrogate, eq. 7, the mean over the mask (all B, T): `old` are the log-probabilities
    at the time of the rollout. The gain of a ratio π/π_old beyond 1 ± clip does not count, its loss does."""
    return -masked_mean(surrogate(np.where(mask, log_probs - old, 0.0), advantages, clip), mask)


def value_loss(values: Any, old: Array, returns: Array, mask: Mask, clip: float | None = 0.2) -> Any:
    """(V - return)² / 2, the mean over the mask (all B, T). With `clip`, V within ± clip of its old value is
    looked at too, and the larger error counts: no gain from moving further. This is not in the paper, but in
    its authors' code."""
    error = np.square(values - returns)
    if clip is not None:
        error = np.maximum(error, np.square(np.clip(values, old - clip, old + clip) - returns))
    return 0.5 * masked_mean(error, mask)


def objective(
    policy: Any, value: Any, pretraining: Any = 0.0, value_weight: float = 0.1, ptx: float = 0.0
) -> Any:
    """All that is minimised: the two losses above, and γ = `ptx` times the loss on texts of pretraining, so
    that the model forgets less of them: InstructGPT's PPO-ptx (Ouyang et al. 2022, arXiv:2203.02155, eq. 2).
    No bonus for entropy."""
    return policy + value_weight * value + ptx * pretraining


def clip_fraction(log_probs: Array, old: Array, mask: Mask, clip: float = 0.2) -> float:
    """The part of the actions whose ratio is outside 1 ± clip: 0 before the first step, and more than a third
    or so says that the steps are too long."""
    require_bools(mask)
    return float(np.mean(np.abs(np.expm1((log_probs - old)[mask])) > clip))


def penalise_missing_end(scores: Array, tokens: Any, mask: Mask, end: int, penalty: float = 1.0) -> Array:
    """Scores (B,) of responses, less the penalty for those that were cut off before they said `end`. tokens
    and mask (B, T)."""
    require_bools(mask)
    ended = ((np.asarray(tokens) == end) & mask).any(axis=1)
    return np.where(ended, scores, scores - penalty)

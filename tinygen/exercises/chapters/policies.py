"""Exercises on policy gradients: advantages, and the losses that follow them."""

from __future__ import annotations

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

GAE = Exercise(
    "gae",
    "tinygen.align.ppo:gae",
    "generalized advantage estimation",
    hints=(
        "How much better was an action than expected? Its reward and the next state's value say it "
        "after one step, later rewards more exactly.",
        "δ_t = r_t + γ V_{t+1} - V_t, and A_t = δ_t + γλ A_{t+1}, from the end. After an episode's "
        "last action, neither V_{t+1} nor A_{t+1} counts.",
        "for t in reversed(range(T)): advantage = delta[:, t] + gamma * lam * np.where(ends[:, t], "
        "0.0, advantage). The returns are advantages + values[:, :-1].",
    ),
    given=lambda: {
        "rewards": numbers(2, 4),
        "values": numbers(2, 5),
        "ends": np.array([[False, False, False, True], [False, True, False, True]]),
        "never": np.zeros((2, 4), bool),
    },
    checks=(
        Values("gae(rewards, values, never, 0.9, 0.5)"),
        Values("gae(rewards, values, ends, 0.9, 0.5)"),
        Values("gae(rewards, values, ends, 0.9, 0.0)"),
        Values("gae(rewards, values, ends)"),
    ),
    mistakes=(
        Mistake("gamma * lam *", "lam *", "", "later advantages are discounted by λ only, not by γλ"),
        Mistake(
            "np.where(ends, 0.0, values[:, 1:])",
            "values[:, 1:]",
            "",
            "the value of the next state counts after the end of an episode",
        ),
        Mistake(
            "advantages + values[:, :-1]",
            "advantages + values[:, 1:]",
            "",
            "the return is the advantage plus the value of the next state, not of the state itself",
        ),
    ),
)

WHITEN = Exercise(
    "whiten",
    "tinygen.align.ppo:whiten",
    "advantages with mean 0 and variance 1",
    hints=(
        "Only entries inside of the mask count for the mean and the variance.",
        "(x - mean)/√(var + 1e-8) inside, 0 outside. Without shift_mean the mean is added again.",
        "x[mask] has the entries that count. The source subtracts x[mask][0] first, so that equal "
        "entries become exactly 0.",
    ),
    given=lambda: {
        "x": numbers(2, 3) + 5,
        "mask": np.array([[True, True, False], [True, True, True]]),
        "same": np.full((2, 3), 0.1),
    },
    checks=(
        Values("whiten(x, mask)"),
        Values("whiten(x, mask, shift_mean=False)"),
        Values("whiten(same, mask)"),
    ),
    mistakes=(
        Mistake(
            "batch_entries(x[mask])",
            "batch_entries(x.ravel())",
            "",
            "entries outside of the mask count for the mean and the variance",
        ),
        Mistake(
            "/ np.sqrt(var + 1e-8)",
            "/ (var + 1e-8)",
            "every entry has the factor 1.43815",
            "it is divided by the variance instead of its root",
        ),
        Mistake("white + (first + mean)", "white", "", "without shift_mean the mean must stay"),
    ),
)

SURROGATE = Exercise(
    "surrogate",
    "tinygen.align.ppo:surrogate",
    "PPO's clipped surrogate",
    hints=(
        "A good action should become more probable, but only up to a bound: beyond it, nothing is "
        "gained. For a bad action the bound is on the other side.",
        "min(ρ A, clip(ρ, 1 - ε, 1 + ε) A): for A ≥ 0 it is A min(ρ, 1 + ε), for A < 0 it is A max(ρ, "
        "1 - ε).",
        "Bound ln ρ, so that exp cannot overflow: np.minimum(log_ratio, math.log1p(clip)) or "
        "np.maximum(log_ratio, math.log1p(-clip)), by the sign of A; then A * exp.",
    ),
    given=lambda: {
        "log_ratio": np.array([-0.5, 0.5, -0.5, 0.5, 0.05, -0.05]),
        "advantages": np.array([2.0, 2.0, -1.0, -1.0, 3.0, -3.0]),
        "huge": np.array([2000.0]),
        "good": np.array([1.0]),
    },
    checks=(
        Values("surrogate(log_ratio, advantages, 0.2)"),
        Values("surrogate(huge, good, 0.2)"),
        Gradient("surrogate(log_ratio, advantages, 0.2)", by="log_ratio"),
    ),
    mistakes=(
        Mistake(
            "np.exp(np.where(advantages >= 0, upper, lower))",
            "np.clip(np.exp(log_ratio), 1 - clip, 1 + clip)",
            "",
            "the ratio is clipped on both sides: bad steps have no gradient to undo them",
        ),
        Mistake(
            "np.where(advantages >= 0, upper, lower)",
            "np.where(advantages >= 0, lower, upper)",
            "",
            "the bounds are on the wrong sides",
        ),
        Mistake(
            "np.exp(np.where(advantages >= 0, upper, lower))",
            "np.exp(log_ratio)",
            "",
            "the ratio is not clipped",
        ),
    ),
)

GRPO = Exercise(
    "grpo",
    "tinygen.align.grpo:group_advantages",
    "advantages from a group of responses",
    hints=(
        "Without a value function, what is a response compared with? With the others to the same prompt.",
        "(r - mean)/(std + 1e-4) within each row; std divides by G.",
        "Subtract rewards[:, :1] first, so that a group that agrees gives exactly 0; then the row's "
        "mean, then divide.",
    ),
    given=lambda: {"rewards": numbers(3, 4) * np.array([[1.0], [5.0], [0.1]]), "same": np.full((2, 3), 0.1)},
    checks=(Values("group_advantages(rewards)"), Values("group_advantages(same)")),
    mistakes=(
        Mistake(
            "centered / (rewards.std(axis=1, keepdims=True) + 1e-4)",
            "centered",
            "the factor is the same: look at what is summed along an axis",
            "the rewards are not divided by their standard deviation",
        ),
        Mistake(
            "rewards.mean(axis=1, keepdims=True)",
            "rewards.mean()",
            "the sums along axis 1 should all be 0",
            "the mean is over all prompts, not over each group",
        ),
        Mistake(
            "rewards.std(axis=1, keepdims=True)",
            "rewards.std(axis=1, keepdims=True, ddof=1)",
            "the factor is the same: look at what is summed along an axis",
            "the standard deviation divides by G - 1 (as in trl), not by G",
        ),
    ),
)

VALUE_LOSS = Exercise(
    "value_loss",
    "tinygen.align.ppo:value_loss",
    "the critic's loss, clipped",
    hints=(
        "The critic should not move far in one round either. Of two errors, the larger one counts.",
        "½ of the mean over the mask of max((V - R)², (clip(V, V_old ± ε) - R)²).",
        "error = np.square(values - returns); clipped = np.clip(values, old_values - clip, old_values "
        "+ clip); np.maximum of both squares; 0.5 * masked_mean.",
    ),
    given=lambda: {
        "values": numbers(2, 6),
        "old_values": numbers(2, 6, seed=1),
        "returns": numbers(2, 6, seed=2),
        "mask": np.array([[True] * 4 + [False] * 2, [True, False] * 3]),
    },
    checks=(
        Values("value_loss(values, old_values, returns, mask, None)"),
        Values("value_loss(values, old_values, returns, mask, 0.2)"),
        Gradient("value_loss(values, old_values, returns, mask, 0.2)", by="values"),
    ),
    mistakes=(
        Mistake(
            "0.5 * masked_mean(error, action_mask)",
            "masked_mean(error, action_mask)",
            "the factor is 2",
            "the factor 1/2 is missing",
        ),
        Mistake(
            "np.maximum(error, np.square(clipped - returns))",
            "np.minimum(error, np.square(clipped - returns))",
            "",
            "the smaller of the two errors counts",
        ),
        Mistake(
            "old_values - clip, old_values + clip",
            "returns - clip, returns + clip",
            "",
            "the value is clipped to the return instead of its old value",
        ),
    ),
)

CHAPTER = Chapter(
    "Policy gradients",
    (
        GAE,
        WHITEN,
        SURROGATE,
        VALUE_LOSS,
        GRPO,
    ),
)

"""Exercises on preferences: rewards, divergences, DPO."""

from __future__ import annotations

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

PAIRWISE = Exercise(
    "reward_loss",
    "tinygen.align.reward:pairwise_loss",
    "the reward model's loss of a comparison",
    hints=(
        "Bradley and Terry: the probability that a is preferred to b depends on the difference of "
        "their rewards only.",
        "P(a ≻ b) = σ(r(a) - r(b)). The loss is minus the logarithm, averaged over the pairs.",
        "-np.mean(ops.log_sigmoid(chosen - rejected)).",
    ),
    given=lambda: {"chosen": numbers(4), "rejected": numbers(4, seed=1)},
    checks=(
        Values("pairwise_loss(chosen, rejected)"),
        Values("pairwise_loss(chosen, chosen - 1000)"),
        Gradient("pairwise_loss(chosen, rejected)", by="chosen rejected"),
    ),
    mistakes=(
        Mistake(
            "chosen - rejected",
            "rejected - chosen",
            "",
            "the rejected response is taught to be the better one",
        ),
        Mistake(
            "-np.mean(",
            "-np.sum(",
            "the factor is 4",
            "the losses are summed over the pairs instead of averaged",
        ),
        Mistake(
            "ops.log_sigmoid(chosen - rejected)",
            "ops.sigmoid(chosen - rejected)",
            "",
            "the probability itself is the loss, not its logarithm",
        ),
    ),
)

KL_REWARDS = Exercise(
    "kl_rewards",
    "tinygen.align.kl:kl_rewards",
    "a penalty for each token, the score at the last",
    hints=(
        "The policy must not run away from its reference to please the reward model. Each token that "
        "it likes more than the reference costs.",
        "-β (ln π - ln π_ref) at each token of the response, 0 outside of the mask, plus the score at "
        "its last token.",
        "rewards = zeros_outside(-beta * k1(log_probs, ref_log_probs), action_mask); "
        "rewards[np.arange(B), last_true(action_mask)] += scores.",
    ),
    given=lambda: {
        "scores": numbers(2),
        "log_probs": numbers(2, 4),
        "ref_log_probs": numbers(2, 4, seed=1),
        "action_mask": np.array([[False, True, True, False], [True, True, True, True]]),
    },
    checks=(Values("kl_rewards(scores, log_probs, ref_log_probs, action_mask, 0.2)"),),
    mistakes=(
        Mistake(
            "-beta * k1",
            "beta * k1",
            "",
            "the policy is rewarded for leaving the reference (as on some slides)",
        ),
        Mistake(
            "last_true(action_mask)]",
            "-1]",
            "all of them at index 0 of axis 0",
            "the score is in the last column, which may be padding, not at the last token of the response",
        ),
        Mistake(
            "zeros_outside(-beta * k1(log_probs, ref_log_probs), action_mask)",
            "-beta * k1(log_probs, ref_log_probs)",
            "wrong only where 0 is expected",
            "tokens outside of the response are penalized, too",
        ),
    ),
)

K3 = Exercise(
    "k3",
    "tinygen.align.kl:k3",
    "an estimate of the divergence that is never negative",
    hints=(
        "ln p/q is unbiased, but negative for many draws. Add something whose mean is 0.",
        "The mean of q/p - 1 under p is 0. So q/p - 1 - ln q/p is unbiased, and never negative.",
        "log_ratio = log_q - log_p; np.expm1(log_ratio) - log_ratio.",
    ),
    given=lambda: {"log_p": numbers(4), "log_q": numbers(4, seed=1)},
    checks=(
        Values("k3(log_p, log_q)"),
        Values("k3(log_p, log_p + 1e-6)"),
        Gradient("k3(log_p, log_q)", by="log_p log_q"),
    ),
    mistakes=(
        Mistake(
            "log_q - log_p",
            "log_p - log_q",
            "",
            "the ratio is upside down: the mean of p/q under p is not 1",
        ),
        Mistake(
            "np.expm1(log_ratio)",
            "np.exp(log_ratio)",
            "every entry is too large by 1",
            "1 is not subtracted: equal policies have the divergence 1",
        ),
        Mistake(
            "np.expm1(log_ratio) - log_ratio",
            "-log_ratio",
            "",
            "it is k1, which may be negative",
        ),
    ),
)

DPO = Exercise(
    "dpo",
    "tinygen.align.dpo:dpo_loss",
    "DPO's loss, with smoothed labels",
    hints=(
        "β h is the difference of two implicit rewards. A preference is then Bradley and Terry's, as "
        "for a reward model.",
        "-ln σ(β h). With the probability ε that a label is wrong: -(1 - ε) ln σ(β h) - ε ln σ(-β h).",
        "ops.log_sigmoid(beta * h) and ops.log_sigmoid(-beta * h); minus the mean of their mixture.",
    ),
    given=lambda: {"h": numbers(4)},
    checks=(
        Values("dpo_loss(h, 0.5)"),
        Values("dpo_loss(h, 0.5, 0.1)"),
        Values("dpo_loss(1000 * h, 5.0)"),
        Gradient("dpo_loss(h, 0.5, 0.1)", by="h"),
    ),
    mistakes=(
        Mistake(
            "ops.log_sigmoid(beta * h), ops.log_sigmoid(-beta * h)",
            "ops.log_sigmoid(h), ops.log_sigmoid(-h)",
            "",
            "β is left out",
        ),
        Mistake(
            "ops.log_sigmoid(beta * h), ",
            "beta * ops.log_sigmoid(h), ",
            "",
            "β multiplies the loss instead of the margin",
        ),
        Mistake(
            "(1 - smoothing) * right + smoothing * wrong",
            "right - smoothing * wrong",
            "",
            "the smoothed labels do not sum to 1",
        ),
    ),
)

CHAPTER = Chapter(
    "Preferences",
    (
        PAIRWISE,
        KL_REWARDS,
        K3,
        DPO,
    ),
)

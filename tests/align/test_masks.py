"""Masks of numbers are refused: as an index, under ~, or added to scores they mean something else."""

import numpy as np
import pytest

from tinygen.align import dpo, grpo, kl, ppo, reinforce, rollouts, sft

MASK = np.array([[False, True, True], [False, True, False]])
X, ROW = np.linspace(-1, 1, 6).reshape(2, 3), np.ones(2)
IDS = np.arange(6).reshape(2, 3)

CALLS = {
    "last_true": lambda m: rollouts.last_true(m),
    "lengths": lambda m: rollouts.lengths(m),
    "masked_mean": lambda m: rollouts.masked_mean(X, m),
    "whiten": lambda m: ppo.whiten(X, m),
    "policy_loss": lambda m: ppo.policy_loss(X, X, X, m),
    "value_loss": lambda m: ppo.value_loss(X, X, X, m),
    "clip_fraction": lambda m: ppo.clip_fraction(X, X, m),
    "penalize_missing_end": lambda m: ppo.penalize_missing_end(ROW, rollouts.Responses(IDS, m), 2),
    "kl_rewards": lambda m: kl.kl_rewards(ROW, X, X, m, 0.1),
    "response_log_probs": lambda m: dpo.response_log_probs(X, m),
    "grpo_loss": lambda m: grpo.grpo_loss(X, X, X, ROW, m, 0.1),
    "reinforce_loss": lambda m: reinforce.reinforce_loss(X, ROW[:, None], m),
    "sft_targets": lambda m: sft.sft_targets(rollouts.Responses(IDS, m)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_mask_of_numbers_is_refused(name):
    CALLS[name](MASK)
    for mask in (MASK.astype(np.int64), MASK.astype(np.float32), np.where(MASK, 0.0, -np.inf), MASK.tolist()):
        with pytest.raises(TypeError, match=r"bools are needed, True where a token counts; .*astype\(bool\)"):
            CALLS[name](mask)

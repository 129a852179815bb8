"""Alignment: a language model is taught what people want of it. Every method is a file with its losses, as
functions of log-probabilities, rewards and masks; `world.py` has the exact answers to hold them against."""

from tinygen.align.best_of_n import best_of_n_log_probs, kl_bound, pick_best
from tinygen.align.dpo import dpo_loss, implicit_rewards, ipo_loss, margins, response_log_probs
from tinygen.align.grpo import group_advantages, grpo_loss
from tinygen.align.kl import AdaptiveKL, k1, k2, k3, kl_rewards
from tinygen.align.lora import (
    LoRALinear,
    add_lora,
    load_lora_state,
    lora_state,
    merge,
    plain_state,
    unload,
    unmerge,
    without_adapters,
)
from tinygen.align.ppo import (
    clip_fraction,
    gae,
    objective,
    penalise_missing_end,
    policy_loss,
    value_loss,
    whiten,
)
from tinygen.align.reinforce import leave_one_out, reinforce_loss
from tinygen.align.reward import RewardModel, pairwise_loss, ranking_loss
from tinygen.align.rollouts import last, log_probs, response_mask, rollout
from tinygen.align.sft import sft_loss, sft_targets
from tinygen.align.world import World

__all__ = [
    "AdaptiveKL",
    "LoRALinear",
    "RewardModel",
    "World",
    "add_lora",
    "best_of_n_log_probs",
    "clip_fraction",
    "dpo_loss",
    "gae",
    "group_advantages",
    "grpo_loss",
    "implicit_rewards",
    "ipo_loss",
    "k1",
    "k2",
    "k3",
    "kl_bound",
    "kl_rewards",
    "last",
    "leave_one_out",
    "load_lora_state",
    "log_probs",
    "lora_state",
    "margins",
    "merge",
    "objective",
    "pairwise_loss",
    "penalise_missing_end",
    "pick_best",
    "plain_state",
    "policy_loss",
    "ranking_loss",
    "reinforce_loss",
    "response_log_probs",
    "response_mask",
    "rollout",
    "sft_loss",
    "sft_targets",
    "unload",
    "unmerge",
    "value_loss",
    "whiten",
    "without_adapters",
]

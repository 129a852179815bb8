"""Alignment: a language model learns from demonstrations and human preferences. Every method is a file with
its losses, which are functions of log-probabilities, rewards and masks; `world.py` has exact optima to
compare with."""

from tinygen.align.best_of_n import best_of_n_log_probs, kl_bound, pick_best
from tinygen.align.dpo import dpo_loss, implicit_rewards, ipo_loss, margins, response_log_probs
from tinygen.align.grpo import group_advantages, grpo_loss
from tinygen.align.kl import AdaptiveKL, k1, k2, k3, kl_rewards
from tinygen.align.lora import (
    LoRALinear,
    add_lora,
    load_lora_state,
    lora_state,
    merge_lora,
    merged_state,
    unload_lora,
    unmerge_lora,
    without_adapters,
)
from tinygen.align.ppo import (
    clip_fraction,
    gae,
    penalize_missing_end,
    policy_loss,
    ppo_loss,
    value_loss,
    whiten,
)
from tinygen.align.reinforce import leave_one_out, reinforce_loss
from tinygen.align.reward import RewardModel, pairwise_loss, ranking_loss
from tinygen.align.rollouts import Responses, response_mask, rollout, token_log_probs
from tinygen.align.sft import sft_loss, sft_targets
from tinygen.align.world import World

__all__ = [
    "AdaptiveKL",
    "LoRALinear",
    "Responses",
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
    "leave_one_out",
    "load_lora_state",
    "lora_state",
    "margins",
    "merge_lora",
    "merged_state",
    "pairwise_loss",
    "penalize_missing_end",
    "pick_best",
    "policy_loss",
    "ppo_loss",
    "ranking_loss",
    "reinforce_loss",
    "response_log_probs",
    "response_mask",
    "rollout",
    "sft_loss",
    "sft_targets",
    "token_log_probs",
    "unload_lora",
    "unmerge_lora",
    "value_loss",
    "whiten",
    "without_adapters",
]

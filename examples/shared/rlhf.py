"""One training step for each method of alignment, on any GPT and any task, for the rlhf examples.

Each step draws its data, updates the weights once (PPO and GRPO: `epochs` times), and returns its loss.
The models may be on a GPU. Their outputs for new responses are copied to the CPU, where rewards and
advantages are computed; `put_on_device` copies the inputs of the losses back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen import no_grad
from tinygen.align import dpo, grpo, kl, ppo, reinforce, reward, rollouts, sft
from tinygen.align.rollouts import Responses
from tinygen.arrays import to_device
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import Adam, clip_grad_norm


def split_pairs(x: Any) -> tuple[Any, Any]:
    return x[: len(x) // 2], x[len(x) // 2 :]


def find_stage(step: int, lengths: Sequence[int]) -> tuple[int, int, int]:
    """For a step of a run that repeats stages of these lengths: repetition, stage, and step within it."""
    repetition, rest = divmod(step, sum(lengths))
    ends = np.cumsum(lengths)
    stage = int(np.searchsorted(ends, rest, side="right"))
    return repetition, stage, rest - int(ends[stage]) + lengths[stage]


def is_evaluation_step(here: int, every: int, last: int) -> bool:
    """Whether to evaluate a policy after this number of steps of a stage: often at first, when it changes
    most."""
    return here in (1, 2, 4, 8, 16) or here % every == 0 or here == last


class Task(NamedTuple):
    """The task of the policy: `prompts(n, rng)` draws (n, P); a response has up to `length` tokens, or ends
    with the token `end`."""

    prompts: Callable[[int, np.random.Generator], Any]
    length: int
    end: int | None = None


class Steps:
    """The policy and the models around it: the reference from which it started, the reward model, the critic.

    A step draws `batch` responses. Methods that compare responses draw groups of `group` for one prompt.
    `beta` is the price of a nat of divergence from the reference, in units of the reward model before it
    was normalized; DPO has the same units."""

    def __init__(
        self,
        config: GPTConfig,
        task: Task,
        rng: np.random.Generator,
        *,
        batch: int,
        beta: float,
        group: int = 8,
        epochs: int = 4,
        device: str = "cpu",
    ) -> None:
        self.task, self.rng, self.device = task, rng, device
        self.batch, self.beta, self.group, self.epochs = batch, beta, group, epochs
        self.policy, self.reference = GPT(config, rng=rng).to(device), GPT(config, rng=rng).to(device)
        self.reward = reward.RewardModel(self.policy, rng=rng).to(device)
        self.critic = self.reward.critic()
        models = {"policy": self.policy, "reward": self.reward, "critic": self.critic}
        self.optimizer = Adam([p for model in models.values() for p in model.parameters()], eps=1e-5)
        self.things = {**models, "reference": self.reference, "optimizer": self.optimizer, "rng": rng}

    # -- before a stage ----------------------------------------------------------------------------

    def start_anew(self, seed: int) -> None:
        """Initialize new weights for SFT. From here on all random numbers depend on the seed only."""
        self.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.policy.load_state_dict(GPT(self.policy.config, rng=self.rng).state_dict())
        self.optimizer.state.clear()

    def keep_reference(self) -> None:
        """Copy the present policy into the reference, and into the reward model as its start."""
        self.reference.load_state_dict(self.policy.state_dict())
        self.reward.load_state_dict(reward.RewardModel(self.policy, rng=self.rng).state_dict())
        self.optimizer.state.clear()

    def back_to_reference(self) -> None:
        """Before each method: copy the reference into the policy, and the reward model into the critic."""
        self.policy.load_state_dict(self.reference.state_dict())
        self.critic.load_state_dict(self.reward.state_dict())
        self.optimizer.state.clear()

    # -- learning from texts -----------------------------------------------------------------------

    def sft(self, demonstrations: Responses) -> float:
        return self.descend(sft.sft_loss(self.policy, demonstrations))

    def rank(self, pairs: Responses) -> float:
        """The reward model learns from pairs: first all chosen responses, then the rejected ones."""
        chosen, rejected = split_pairs(self.reward.score(pairs))
        return self.descend(reward.pairwise_loss(chosen, rejected))

    def dpo(self, pairs: Responses) -> float:
        """The policy learns from the same pairs."""
        (action_mask,) = self.put_on_device(pairs.action_mask)
        with no_grad():
            ref_log_probs = dpo.response_log_probs(pairs.log_probs(self.reference), action_mask)
        log_probs = dpo.response_log_probs(pairs.log_probs(self.policy), action_mask)
        h = dpo.margins(*split_pairs(log_probs), *split_pairs(ref_log_probs))
        return self.descend(dpo.dpo_loss(h, self.beta))

    # -- learning from the policy's own responses --------------------------------------------------

    def respond(self, each: int) -> tuple[Responses, Any, Any, Any]:
        """Responses of the policy, `each` responses to a prompt; their log_probs under the policy and under
        the reference; and their scores."""
        prompts = self.task.prompts(self.batch // each, self.rng).repeat(each, axis=0)
        length, end = self.task.length, self.task.end
        responses = rollouts.rollout(self.policy, prompts, length, end=end, rng=self.rng)
        with no_grad():
            log_probs, ref_log_probs = (responses.log_probs(m).numpy() for m in (self.policy, self.reference))
            scores = self.reward.score(responses).numpy()
        if end is not None:
            scores = ppo.penalize_missing_end(scores, responses, end)
        return responses, log_probs, ref_log_probs, scores

    @property
    def price(self) -> float:
        """β in the units of the normalized reward model."""
        return float(self.beta * self.reward.scale.numpy())

    def reinforce(self) -> float:
        responses, log_probs, ref_log_probs, scores = self.respond(self.group)
        rewards = kl.kl_rewards(scores, log_probs, ref_log_probs, responses.action_mask, self.price)
        advantages = reinforce.leave_one_out(self.group_by_prompt(rewards.sum(axis=1))).ravel()
        advantages, action_mask = self.put_on_device(advantages, responses.action_mask)
        log_probs = responses.log_probs(self.policy)
        return self.descend(reinforce.reinforce_loss(log_probs, advantages, action_mask))

    def ppo(self, ptx: float = 0.0, texts: Any = None) -> float:
        """A step of PPO. If `ptx` is above 0 it is PPO-ptx, and `texts` (Responses) are a batch of
        pretraining texts."""
        responses, old_log_probs, ref_log_probs, scores = self.respond(1)
        action_mask = responses.action_mask
        with no_grad():
            old_values = self.critic(responses.tokens).numpy()  # (B, T): of each state, and of the last
        rewards = kl.kl_rewards(scores, old_log_probs, ref_log_probs, action_mask, self.price)
        ends = np.arange(action_mask.shape[1]) == rollouts.last_true(action_mask)[:, None]
        advantages, returns = ppo.gae(rewards, old_values, ends)
        advantages = ppo.whiten(advantages, action_mask)
        old_log_probs, old_values, advantages, returns, action_mask = self.put_on_device(
            old_log_probs, old_values[:, :-1], advantages, returns, action_mask
        )
        for _ in range(self.epochs):
            log_probs, values = responses.log_probs(self.policy), self.critic(responses.tokens)[:, :-1]
            policy_loss = ppo.policy_loss(log_probs, old_log_probs, advantages, action_mask)
            value_loss = ppo.value_loss(values, old_values, returns, action_mask)
            pretraining = ptx and sft.sft_loss(self.policy, texts)  # 0 without a weight
            loss = self.descend(ppo.ppo_loss(policy_loss, value_loss, pretraining, ptx=ptx))
        return loss

    def grpo(self) -> float:
        responses, old_log_probs, ref_log_probs, scores = self.respond(self.group)
        advantages = grpo.group_advantages(self.group_by_prompt(scores)).ravel()
        old_log_probs, ref_log_probs, advantages, action_mask = self.put_on_device(
            old_log_probs, ref_log_probs, advantages, responses.action_mask
        )
        for _ in range(self.epochs):
            log_probs = responses.log_probs(self.policy)
            loss = self.descend(
                grpo.grpo_loss(
                    log_probs, old_log_probs, ref_log_probs, advantages, action_mask, beta=self.price
                )
            )
        return loss

    def group_by_prompt(self, numbers: Any) -> Any:
        """The numbers (B,) of responses, one row for each prompt, (B / group, group)."""
        return numbers.reshape(self.batch // self.group, self.group)

    def put_on_device(self, *arrays: Any) -> tuple[Any, ...]:
        """NumPy arrays on the device of the models."""
        return tuple(to_device(array, self.device) for array in arrays)

    def descend(self, loss: Any) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(self.optimizer.params, 1.0)
        self.optimizer.step()
        return float(loss.item())

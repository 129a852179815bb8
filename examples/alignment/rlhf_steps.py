"""One step of every method of alignment, on any GPT and any task: what the rlhf examples share.

Texts come as tokens (B, T) with a mask (B, T) of the responses, as everywhere in tinygen/align. Each step
draws what it needs, moves the weights once (PPO and GRPO: `epochs` times), and returns its loss.

The models may be on a card. What they say of new texts is fetched once, for rewards and advantages, which are
worked out on the CPU; then `beside` puts what the losses need there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygen import no_grad
from tinygen.align import dpo, grpo, kl, ppo, reinforce, reward, rollouts, sft
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import Adam, clip_grad_norm
from tinygen.tensor import to_device


def halves(x: Any) -> tuple[Any, Any]:
    return x[: len(x) // 2], x[len(x) // 2 :]


def due(here: int, every: int, last: int) -> bool:
    """Whether to look at a policy after so many steps of a stage: often at first, when it moves most."""
    return here in (1, 2, 4, 8, 16) or here % every == 0 or here == last


class Task(NamedTuple):
    """What the policy is asked: `prompts(n, rng)` draws (n, P), and answers have up to `length` tokens, or
    end with the token `end`."""

    prompts: Callable[[int, np.random.Generator], Any]
    length: int
    end: int | None = None


class Steps:
    """The policy, and the models around it: the reference that it started as, the reward model, the critic.

    `batch` responses are drawn for a step, in groups of `group` to a prompt where they are compared; `beta`
    is the price of a nat of divergence from the reference, in units of the reward model before it was
    normalised, which are those of DPO too."""

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
        self.policy, self.reference = GPT(config, rng).to(device), GPT(config, rng).to(device)
        self.reward = reward.RewardModel(self.policy, rng).to(device)
        self.critic = self.reward.critic()
        models = {"policy": self.policy, "reward": self.reward, "critic": self.critic}
        self.optimizer = Adam([p for model in models.values() for p in model.parameters()], eps=1e-5)
        self.things = {**models, "reference": self.reference, "optimizer": self.optimizer, "rng": rng}

    # -- before a stage ----------------------------------------------------------------------------

    def start_anew(self, seed: int) -> None:
        """New weights for SFT; everything that is drawn from here on follows from the seed."""
        self.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.policy.load_state_dict(GPT(self.policy.config, self.rng).state_dict())
        self.optimizer.state.clear()

    def keep_reference(self) -> None:
        """What the policy is now becomes the reference, and what the reward model starts from."""
        self.reference.load_state_dict(self.policy.state_dict())
        self.reward.load_state_dict(reward.RewardModel(self.policy, self.rng).state_dict())
        self.optimizer.state.clear()

    def back_to_reference(self) -> None:
        """Before each method: the policy is the reference again, the critic the reward model."""
        self.policy.load_state_dict(self.reference.state_dict())
        self.critic.load_state_dict(self.reward.state_dict())
        self.optimizer.state.clear()

    # -- learning from texts -----------------------------------------------------------------------

    def sft(self, tokens: Any, mask: Any) -> float:
        """On demonstrations."""
        return self.descend(sft.sft_loss(self.policy, tokens, mask))

    def rank(self, tokens: Any, mask: Any) -> float:
        """The reward model, on pairs: the winners, then the losers."""
        winners, losers = halves(self.reward.score(tokens, mask))
        return self.descend(reward.pairwise_loss(winners, losers))

    def dpo(self, tokens: Any, mask: Any) -> float:
        """The policy, on the same."""
        (mask,) = self.beside(mask[:, 1:])
        with no_grad():
            ref = dpo.response_log_probs(rollouts.log_probs(self.reference, tokens), mask)
        new = dpo.response_log_probs(rollouts.log_probs(self.policy, tokens), mask)
        return self.descend(dpo.dpo_loss(dpo.margins(*halves(new), *halves(ref)), self.beta))

    # -- learning from the policy's own texts ------------------------------------------------------

    def respond(self, each: int) -> tuple[Any, ...]:
        """Responses of the policy, `each` to a prompt, with what all models say about them."""
        prompts = self.task.prompts(self.batch // each, self.rng).repeat(each, axis=0)
        tokens, mask = rollouts.rollout(self.policy, prompts, self.task.length, self.rng, end=self.task.end)
        with no_grad():
            old, ref = (rollouts.log_probs(m, tokens).numpy() for m in (self.policy, self.reference))
            scores = self.reward.score(tokens, mask).numpy()
        if self.task.end is not None:
            scores = ppo.penalise_missing_end(scores, tokens, mask, self.task.end)
        return tokens, mask[:, 1:], old, ref, scores

    @property
    def price(self) -> float:
        """β in the units of the normalised reward model."""
        return float(self.beta * self.reward.gain.numpy())

    def reinforce(self) -> float:
        tokens, mask, old, ref, scores = self.respond(self.group)
        total = kl.kl_rewards(scores, old, ref, mask, self.price).sum(axis=1)
        advantages = reinforce.leave_one_out(total.reshape(-1, self.group)).ravel()
        advantages, mask = self.beside(advantages, mask)
        new = rollouts.log_probs(self.policy, tokens)
        return self.descend(reinforce.reinforce_loss(new, advantages, mask))

    def ppo(self, ptx: float = 0.0, texts: Any = None) -> float:
        """With `ptx` above 0 it is PPO-ptx: texts are the tokens and mask of a batch of pretraining."""
        tokens, mask, old, ref, scores = self.respond(1)
        with no_grad():
            values = self.critic(tokens).numpy()  # (B, T): before each token but the first, and after all
        ends = np.arange(mask.shape[1]) == rollouts.last(mask)[:, None]
        advantages, returns = ppo.gae(kl.kl_rewards(scores, old, ref, mask, self.price), values, ends)
        advantages = ppo.whiten(advantages, mask)
        old, values, advantages, returns, mask = self.beside(old, values[:, :-1], advantages, returns, mask)
        for _ in range(self.epochs):
            new = rollouts.log_probs(self.policy, tokens)
            policy = ppo.policy_loss(new, old, advantages, mask)
            value = ppo.value_loss(self.critic(tokens)[:, :-1], values, returns, mask)
            pretraining = sft.sft_loss(self.policy, *texts) if ptx else 0.0
            loss = self.descend(ppo.objective(policy, value, pretraining, ptx=ptx))
        return loss

    def grpo(self) -> float:
        tokens, mask, old, ref, scores = self.respond(self.group)
        advantages = grpo.group_advantages(scores.reshape(-1, self.group)).ravel()
        old, ref, advantages, mask = self.beside(old, ref, advantages, mask)
        for _ in range(self.epochs):
            new = rollouts.log_probs(self.policy, tokens)
            loss = self.descend(grpo.grpo_loss(new, old, ref, advantages, mask, beta=self.price))
        return loss

    def beside(self, *arrays: Any) -> tuple[Any, ...]:
        """NumPy's arrays where the models are."""
        return tuple(to_device(array, self.device) for array in arrays)

    def descend(self, loss: Any) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(self.optimizer.params, 1.0)
        self.optimizer.step()
        return float(loss.item())

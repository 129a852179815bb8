"""The small world of rlhf_exact.py: its reward, its texts, people who compare responses, and exact
measurements of policies."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from shared.rlhf import Steps, Task

from tinygen import no_grad
from tinygen.align import Responses, best_of_n_log_probs, world
from tinygen.models.language.gpt import GPT, GPTConfig

VOCAB, LENGTH, GROUP = 6, 5, 8  # tokens; tokens of a response; responses to one prompt that are compared


def reward_program(prompt: Any, responses: Any) -> Any:
    """The reward (n,) of responses (n, L): the number of prompt tokens minus the number of repetitions."""
    before = np.concatenate([np.full((len(responses), 1), prompt), responses[:, :-1]], axis=1)
    return (responses == prompt).sum(axis=1) - (responses == before).sum(axis=1)


def demonstrations(n: int, rng: np.random.Generator) -> Any:
    """Texts (n, 1 + LENGTH): each token repeats the one before it with probability 0.4, else it is
    uniform."""
    tokens = rng.integers(VOCAB, size=(n, 1 + LENGTH))
    again = rng.random(tokens.shape) < 0.4
    for t in range(1, 1 + LENGTH):
        tokens[:, t] = np.where(again[:, t], tokens[:, t - 1], tokens[:, t])
    return tokens


class Lab:
    """The world, people who compare responses in it, and exact measurements of policies."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.asked: int | None = None  # the seed with which people were asked
        self.world = world.World(np.arange(VOCAB)[:, None], VOCAB, LENGTH, reward_program)
        task = Task(lambda n, rng: rng.integers(VOCAB, size=(n, 1)), LENGTH)
        config = GPTConfig(VOCAB, 1 + LENGTH, args.layers, 4, args.width)
        options = {"batch": args.batch, "beta": args.beta, "group": GROUP, "epochs": args.epochs}
        self.steps = Steps(config, task, np.random.default_rng(0), device=args.device, **options)

    def ask(self, seed: int) -> None:
        """Let people compare responses of the reference: the numbers of prompts, winners and losers."""
        self.asked, self.ref_log_probs = seed, self.exact_log_probs(self.steps.reference)
        self.pairs = self.world.preferences(self.ref_log_probs, self.args.pairs, rng=seed)
        self.frontier = world.frontier(self.ref_log_probs, self.world.rewards, np.geomspace(100, 0.01, 120))

    def sample_pairs(self) -> Responses:
        """A batch of pairs: first the winners, then the losers."""
        some = self.steps.rng.integers(self.args.pairs, size=self.args.batch // 2)
        prompt, winner, loser = (numbers[some] for numbers in self.pairs)
        texts = self.world.tokens(np.tile(prompt, 2), np.concatenate([winner, loser]))
        return Responses.from_tokens(texts, 1)

    @no_grad()
    def exact_log_probs(self, policy: GPT) -> Any:
        """ln π of all responses, in float64."""
        log_probs = self.world.log_probs(policy).numpy().astype(np.float64)
        if np.isnan(log_probs).any():
            raise FloatingPointError("the policy's probabilities are NaN")
        return world.log_normalize(log_probs)

    def measure(self, log_probs: Any) -> dict[str, float]:
        """A policy's divergence and reward, the frontier's reward at this divergence, and the gain in
        reward over the reference as a share of the frontier's gain."""
        divergence, rewards = world.kl(log_probs, self.ref_log_probs), self.world.rewards
        mean, start = (world.expectation(p, rewards) for p in (log_probs, self.ref_log_probs))
        best = np.interp(divergence, *self.frontier)
        return {"kl": divergence, "reward": mean, "frontier": best, "gain": (mean - start) / (best - start)}

    @no_grad()
    def judge_reward_model(self) -> tuple[float, float, dict[int, dict[str, float]]]:
        """The reward model's accuracy, the best possible one, and the measurements of best-of-n by its scores
        for several n. The reward model is normalized at the end."""
        model, rewards = self.steps.reward, self.world.rewards
        numbers = np.arange(rewards.shape[1])
        every = [self.world.tokens(np.full_like(numbers, n), numbers) for n in range(VOCAB)]
        scores = np.stack([model(texts)[:, -1].numpy() for texts in every])
        right, bayes = (world.accuracy(self.ref_log_probs, rewards, x) for x in (scores, rewards))
        best_of = {n: best_of_n_log_probs(self.ref_log_probs, scores, n) for n in (2, 4, 8, 16, 32, 64)}
        prompts = np.arange(VOCAB).repeat(200)
        drawn = world.draw_responses(self.ref_log_probs, prompts, rng=self.steps.rng)
        model.normalize(scores[prompts, drawn])
        return right, bayes, {n: self.measure(log_probs) for n, log_probs in best_of.items()}

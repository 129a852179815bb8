"""Film reviews for rlhf_sentiment.py: texts, people who compare them, and measurements of a policy."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from shared.rlhf import Steps, Task

from tinygen import no_grad
from tinygen.align import Responses, kl, rollouts, world
from tinygen.data.reviews import END, NUMBER, PROMPT, WORDS, Reviews, sentiment, text
from tinygen.models.language.gpt import GPT, GPTConfig

LENGTH, STOP = 24, NUMBER[END]  # the greatest number of words of a text, and the word that ends it


def reward_program(texts: Any) -> Any:
    """The reward: 2 for praise, -2 for blame, 0 for neither."""
    return 2.0 * np.sign(sentiment(texts))


def least_kl(q: float, p: float) -> float:
    """KL(q ‖ p) of two Bernoulli distributions, in nats: the least divergence of a policy that praises with
    probability q from one that praises with probability p. Infinite when p is 0 and q is not."""
    return float(sum(a * np.log(a / b) if b > 0 else np.inf for a, b in ((q, p), (1 - q, 1 - p)) if a > 0))


class Lab:
    """The texts, the people, and the measurements."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.reviews, self.asked = args, Reviews(), False
        rng = np.random.default_rng(args.seed)
        self.texts, self.held_out = (self.reviews.write(n, LENGTH, rng) for n in (40_000, 1000))
        self.short = self.texts[(self.texts != NUMBER["i"]).all(axis=1)]  # one sentence
        task = Task(lambda n, rng: self.reviews.write(n, PROMPT, rng), LENGTH - PROMPT, STOP)
        config = GPTConfig(len(WORDS), LENGTH, 2, 2, args.width)
        options = {"batch": 2 * args.batch, "beta": args.beta, "device": args.device}
        self.steps = Steps(config, task, np.random.default_rng(0), **options)

    def sample_texts(self, texts: Any, prompt: int) -> Responses:
        """A batch of texts; the first `prompt` words are prompts."""
        tokens = texts[self.steps.rng.integers(len(texts), size=self.args.batch)]
        return Responses.from_tokens(tokens, prompt, STOP)

    def write(self, model: GPT, prompts: Any, rng: np.random.Generator) -> Responses:
        return rollouts.rollout(model, prompts, LENGTH - PROMPT, end=STOP, rng=rng)

    def ask(self) -> None:
        """Let people compare reviews by the SFT model, two of each film."""
        rng = np.random.default_rng(self.args.seed + 1)
        prompts = self.steps.task.prompts(self.args.pairs, rng)
        a, b = (self.write(self.steps.reference, prompts, rng).tokens for _ in range(2))
        first = (rng.random(len(a)) < world.preference(reward_program(a), reward_program(b)))[:, None]
        self.pairs = np.where(first, a, b), np.where(first, b, a)
        self.praise_before = float(np.mean(sentiment(np.concatenate([a, b])) > 0))
        self.asked = True

    def sample_pairs(self) -> Responses:
        """A batch of pairs: first the winners, then the losers."""
        some = self.steps.rng.integers(self.args.pairs, size=self.args.batch)
        texts = np.concatenate([x[some] for x in self.pairs])
        return Responses.from_tokens(texts, PROMPT, STOP)

    def normalize(self) -> float:
        """Normalize the reward model on the compared reviews; returns how often it agrees with people."""
        texts = np.concatenate(self.pairs)
        with no_grad():
            scores = self.steps.reward.score(Responses.from_tokens(texts, PROMPT, STOP)).numpy()
        self.steps.reward.normalize(scores)
        return float(np.mean(scores[: self.args.pairs] > scores[self.args.pairs :]))

    @no_grad()
    def evaluate(self) -> tuple[dict[str, float], list[str]]:
        """Measurements of the policy's reviews: the share that praises, the divergence, the least divergence
        for this share, the share that is grammatical, the perplexity on held-out texts; and four reviews."""
        s, rng = self.steps, np.random.default_rng(1)
        prompts = s.task.prompts(self.args.samples, rng)
        responses = self.write(s.policy, prompts, rng)
        tokens, action_mask = responses.tokens, responses.action_mask
        log_probs, ref_log_probs = (responses.log_probs(model).numpy() for model in (s.policy, s.reference))
        praise = float(np.mean(sentiment(tokens) > 0))
        counted = rollouts.response_mask(self.held_out, 1, STOP)
        loss = -float(rollouts.token_log_probs(s.policy, self.held_out).numpy()[counted[:, 1:]].mean())
        return {
            "positive": praise,
            "kl": float(np.where(action_mask, kl.k1(log_probs, ref_log_probs), 0).sum(axis=1).mean()),
            "cheapest": least_kl(praise, self.praise_before),
            "grammatical": float(np.isfinite(self.reviews.log_probs(tokens)).all(axis=1).mean()),
            "perplexity": float(np.exp(loss)),
        }, [text(row) for row in tokens[:4]]

    def floor(self) -> float:
        """The perplexity of the grammar itself on the held-out texts."""
        counted = rollouts.response_mask(self.held_out, 1, STOP)
        return float(np.exp(-self.reviews.log_probs(self.held_out)[counted].mean()))

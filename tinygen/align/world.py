"""A world small enough to list every response, so that alignment has an exact answer to be held against.

With V tokens and responses of L there are R = V^L responses to each prompt; 6 tokens and length 5 make 7,776.
A small GPT scores all of them in one pass, and every mean over a policy is a sum. With the rewards known, the
policy that is best for E[r] - β KL(π ‖ π_ref) is

    π*(y|x) = π_ref(y|x) exp(r(x, y)/β) / Z(x)          (Rafailov et al. 2023, arXiv:2305.18290, eq. 4)

and over all β these are the frontier: no policy has more reward at the same divergence.

Distributions are log-probabilities (N, R) in float64: N prompts, which are equally likely, and R responses in
the order of `responses`. Divergences are in nats a response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.nn import Module
from tinygen.types import Floats, Ids


class World:
    """Prompts (N, P), all responses (R, L), and the reward of each to each, (N, R).

    `reward` is a program: prompt (P,) and responses (R, L) -> (R,)."""

    def __init__(self, prompts: Any, vocab_size: int, length: int, reward: Callable[[Ids, Ids], Any]) -> None:
        self.prompts: Ids = np.asarray(prompts)
        self.vocab_size = vocab_size
        self.responses = every_sequence(vocab_size, length)
        self.rewards: Floats = np.array([reward(x, self.responses) for x in self.prompts], np.float64)

    def tokens(self, prompt: Any, response: Any) -> Ids:
        """Texts (B, P + L) of the numbers (B,) of prompts and of responses."""
        return np.concatenate([self.prompts[prompt], self.responses[response]], axis=1)

    def number(self, responses: Any) -> Ids:
        """The places of responses (B, L) among all of them, (B,)."""
        length = self.responses.shape[1]
        numbers: Ids = np.asarray(responses) @ self.vocab_size ** np.arange(length - 1, -1, -1)
        return numbers

    def log_probs(self, policy: Module, temperature: float = 1.0) -> Any:
        """ln π of every response to every prompt: a Tensor (N, R), through which gradients flow, of the
        policy's dtype. Without dropout.

        The policy reads only the V^(L-1) responses without their last token: that one's probabilities stand
        side by side in one row of its logits."""
        n, length = len(self.prompts), self.responses.shape[1]
        stems = self.responses[:: self.vocab_size, :-1]  # (S, L - 1)
        prompts = np.repeat(self.prompts, len(stems), axis=0)
        tokens = np.concatenate([prompts, np.tile(stems, (n, 1))], axis=1)  # (N S, P + L - 1)
        with policy.evaluating():
            logits, _ = policy(tokens)
        logp = ops.log_softmax(logits[:, -length:] / temperature)  # (N S, L, V)
        before = ops.take_along_axis(logp[:, :-1], np.tile(stems, (n, 1))[..., None], axis=-1)
        return (before.sum(axis=(1, 2))[:, None] + logp[:, -1]).reshape(n, len(self.responses))

    def preferences(
        self, log_p: Floats, n: int, rng: np.random.Generator, temperature: float = 1.0
    ) -> tuple[Ids, Ids, Ids]:
        """n comparisons of two independent draws from log_p: the numbers (n,) of prompts, of the responses
        that won, and of those that lost, by the coin of `preference` at this temperature."""
        prompt = rng.integers(len(self.prompts), size=n)
        a, b = draw(log_p, prompt, rng), draw(log_p, prompt, rng)
        first = rng.random(n) < preference(self.rewards[prompt, a], self.rewards[prompt, b], temperature)
        return prompt, np.where(first, a, b), np.where(first, b, a)


def every_sequence(vocab_size: int, length: int) -> Ids:
    """All V^L sequences, the last token changing fastest: (V^L, L)."""
    return np.indices((vocab_size,) * length).reshape(length, -1).T


def draw(log_p: Floats, prompt: Ids, rng: np.random.Generator) -> Ids:
    """One response's number from log_p (N, R) for each of the prompts' numbers (B,): (B,)."""
    cdf = np.cumsum(np.exp(log_p), axis=1)
    u = rng.random(len(prompt)) * cdf[prompt, -1]
    drawn = np.empty(len(prompt), np.int64)
    for i in range(len(log_p)):
        drawn[prompt == i] = np.searchsorted(cdf[i], u[prompt == i], side="right")
    return drawn


def preference(a: Any, b: Any, temperature: float = 1.0) -> Any:
    """Bradley & Terry's probability that rewards a win over b: σ((a - b)/temperature)."""
    return 1 / (1 + np.exp((np.asarray(b) - a) / temperature))


# -- what a policy is worth ------------------------------------------------------------------------


def expected(log_p: Any, values: Any) -> Any:
    """E_p[values], the mean over prompts; both (N, R). The value of a response of probability 0 does not
    count, be it infinite."""
    p = np.exp(log_p)
    return (p * np.where(p > 0, values, 0.0)).sum(axis=1).mean()


def kl(log_p: Any, log_q: Any) -> Any:
    """KL(p ‖ q), the mean over prompts; both (N, R)."""
    return ops.kl_categorical(log_p, log_q)


def total_variation(log_p: Any, log_q: Any) -> float:
    """Half the sum of |p - q|, from 0 to 1, the mean over prompts."""
    return float(0.5 * np.abs(np.exp(log_p) - np.exp(log_q)).sum(axis=1).mean())


# -- the best there is -----------------------------------------------------------------------------


def optimum(log_ref: Any, rewards: Any, beta: float) -> Floats:
    """ln π*, the best policy for E[r] - β KL(π ‖ π_ref): (N, R). It is also where DPO's loss is smallest,
    when preferences follow these rewards and every pair is compared often enough."""
    return normalised(np.asarray(log_ref, np.float64) + np.asarray(rewards) / beta)


def optimum_at(log_ref: Any, rewards: Any, divergence: float) -> tuple[float, Floats]:
    """(β, ln π*) with KL(π* ‖ π_ref) = divergence, by bisection: the divergence falls as β grows.

    Raises ValueError for one that is not above 0, or that even the policy which gives only the best responses
    does not have."""
    low, high = -12.0, 12.0  # of ln β
    most = float(kl(optimum(log_ref, rewards, np.exp(low)), log_ref))
    if not 0 < divergence < most:
        raise ValueError(f"divergence must be above 0 and below {most:.4g} nats, got {divergence}")
    for _ in range(60):
        middle = (low + high) / 2
        if kl(optimum(log_ref, rewards, np.exp(middle)), log_ref) > divergence:
            low = middle
        else:
            high = middle
    beta = float(np.exp(high))
    return beta, optimum(log_ref, rewards, beta)


def frontier(log_ref: Any, rewards: Any, betas: Any) -> tuple[Floats, Floats]:
    """The divergences and rewards of π* at each of the betas (K,): (K,) both, to draw."""
    best = [optimum(log_ref, rewards, beta) for beta in betas]
    return np.array([kl(p, log_ref) for p in best]), np.array([expected(p, rewards) for p in best])


def normalised(log_weights: Floats) -> Floats:
    """The logarithms of weights (N, R), shifted so that each row is a distribution."""
    shifted = log_weights - log_weights.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def accuracy(log_p: Any, rewards: Floats, scores: Any, temperature: float = 1.0) -> float:
    """How often the response with the higher score is the one preferred, over all pairs of independent draws
    from log_p, preferred by `rewards`. Equal scores are right half of the time. All (N, R).

    `accuracy(log_p, rewards, rewards, temperature)` is the Bayes accuracy: no reward model has more, since
    preferences are coins, and it knows the odds."""
    total = 0.0
    for p, reward, score in zip(np.exp(np.asarray(log_p, np.float64)), rewards, scores, strict=True):
        order = np.argsort(score, kind="stable")
        p, reward, score = p[order], reward[order], score[order]
        for level in np.unique(reward):  # p(i wins over j) is the same for all j of one level
            mass = np.append(0.0, np.cumsum(np.where(reward == level, p, 0.0)))
            below = mass[np.searchsorted(score, score, side="left")]
            upto = mass[np.searchsorted(score, score, side="right")]
            # a pair counts in both orders, with the same probability of being judged right
            total += 2 * float(np.sum(p * preference(reward, level, temperature) * (below + upto) / 2))
    return total / len(rewards)

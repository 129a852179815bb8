"""A world small enough to list every response, so that the best possible policy is known exactly.

With V tokens, there are R = V^L responses of length L to each prompt; 6 tokens and length 5 make 7,776. A
small GPT scores all of them in one pass, so an expectation over a policy is a sum. With known rewards, the
policy that maximizes E[r] - β KL(π ‖ π_ref) is

    π*(y|x) = π_ref(y|x) exp(r(x, y)/β) / Z(x)          (Rafailov et al. 2023, arXiv:2305.18290, eq. 4)

and over all β these policies are the frontier: no policy has more reward at the same divergence.

Distributions are log-probabilities (N, R) in float64: N prompts, which are equally likely, and R responses in
the order of `responses`. Divergences are in nats a response.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.nn import Module
from tinygen.ops.random import RNGLike, as_generator
from tinygen.types import Floats, Ids, TensorLike


class World:
    """Prompts (N, P), all responses (R, L), and the reward of each to each, (N, R).

    `reward` is a program: prompt (P,) and responses (R, L) -> (R,)."""

    def __init__(self, prompts: Ids, vocab_size: int, length: int, reward: Callable[[Ids, Ids], Any]) -> None:
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

    def log_probs(self, policy: Module, temperature: float = 1.0) -> TensorLike:
        """ln π of every response to every prompt: a Tensor (N, R) of the policy's dtype, with gradients,
        without dropout.

        The policy reads only the V^(L-1) responses without their last token: one row of its logits has the
        probabilities of all last tokens."""
        n, length = len(self.prompts), self.responses.shape[1]
        stems = self.responses[:: self.vocab_size, :-1]  # (S, L - 1)
        prompts = np.repeat(self.prompts, len(stems), axis=0)
        tokens = np.concatenate([prompts, np.tile(stems, (n, 1))], axis=1)  # (N S, P + L - 1)
        with policy.eval_mode():
            logits, _ = policy(tokens)
        logp = ops.log_softmax(logits[:, -length:] / temperature)  # (N S, L, V)
        before = ops.take_along_axis(logp[:, :-1], np.tile(stems, (n, 1))[..., None])
        return (before.sum(axis=(1, 2))[:, None] + logp[:, -1]).reshape(n, len(self.responses))

    def preferences(
        self, log_probs: Floats, n: int, temperature: float = 1.0, *, rng: RNGLike
    ) -> tuple[Ids, Ids, Ids]:
        """n comparisons of two independent draws from the policy: the numbers (n,) of prompts, of the
        responses that won, and of the responses that lost. The winner is drawn by `preference`."""
        rng = as_generator(rng)
        prompt = rng.integers(len(self.prompts), size=n)
        a, b = (draw_responses(log_probs, prompt, rng=rng) for _ in range(2))
        first = rng.random(n) < preference(self.rewards[prompt, a], self.rewards[prompt, b], temperature)
        return prompt, np.where(first, a, b), np.where(first, b, a)


def every_sequence(vocab_size: int, length: int) -> Ids:
    """All V^L sequences, the last token changing fastest: (V^L, L)."""
    return np.array(list(product(range(vocab_size), repeat=length)))


def draw_responses(log_probs: Floats, prompt: Ids, *, rng: RNGLike) -> Ids:
    """The number of a response, drawn from log_probs (N, R), for each of the prompts' numbers (B,): (B,)."""
    cdf = np.cumsum(np.exp(log_probs), axis=1)
    u = as_generator(rng).random(len(prompt)) * cdf[prompt, -1]
    drawn = np.empty(len(prompt), np.int64)
    for i in range(len(log_probs)):
        drawn[prompt == i] = np.searchsorted(cdf[i], u[prompt == i], side="right")
    return drawn


def preference(a: Any, b: Any, temperature: float = 1.0) -> TensorLike:
    """Bradley & Terry's probability that a response of reward a is preferred to one of reward b:
    σ((a - b)/temperature).

    Eq.: p(y_w ≻ y_l | x) = σ(r(x, y_w) - r(x, y_l))  (Rafailov et al. 2023, eq. 1)
    Held by: tests/align/test_world.py::test_preferences_are_bradley_terry
    """
    return 1 / (1 + np.exp((np.asarray(b) - a) / temperature))


# -- expectations and divergences ------------------------------------------------------------------


def expectation(log_probs: TensorLike, values: TensorLike) -> Any:
    """E_π[values], the mean over prompts; both (N, R). The value of a response of probability 0 does not
    count, even if it is infinite."""
    p = np.exp(log_probs)
    return (p * np.where(p > 0, values, 0.0)).sum(axis=1).mean()


def kl(log_p: TensorLike, log_q: TensorLike) -> Any:
    """KL(p ‖ q), the mean over prompts; both (N, R)."""
    return ops.kl_categorical(log_p, log_q)


def total_variation(log_p: TensorLike, log_q: TensorLike) -> float:
    """Half the sum of |p - q|, from 0 to 1, the mean over prompts."""
    return float(0.5 * np.abs(np.exp(log_p) - np.exp(log_q)).sum(axis=1).mean())


# -- the optimum -----------------------------------------------------------------------------------


def optimum(ref_log_probs: Any, rewards: TensorLike, beta: float) -> Floats:
    """ln π*, the best policy for E[r] - β KL(π ‖ π_ref): (N, R). It also minimizes DPO's loss, if preferences
    follow these rewards and every pair is compared often enough.

    Eq.: π*(y|x) = π_ref(y|x) exp(r(x, y)/β) / Z(x)  (Rafailov et al. 2023, eq. 4)
    Held by: tests/align/test_world.py::test_no_policy_beats_the_optimum
    """
    return log_normalize(np.asarray(ref_log_probs, np.float64) + np.asarray(rewards) / beta)


def optimum_of_divergence(ref_log_probs: Any, rewards: TensorLike, divergence: float) -> tuple[float, Floats]:
    """(β, ln π*) with KL(π* ‖ π_ref) = divergence, by bisection: the divergence falls as β grows.

    β is sought from e^-12 to e^12. Raises ValueError unless the divergence is above 0 and below the
    divergence of the smallest β, whose policy gives the best responses only."""
    low, high = -12.0, 12.0  # of ln β
    most = float(kl(optimum(ref_log_probs, rewards, np.exp(low)), ref_log_probs))
    if not 0 < divergence < most:
        raise ValueError(f"divergence must be above 0 and below {most:.4g} nats, got {divergence}")
    while low < (middle := (low + high) / 2) < high:
        if kl(optimum(ref_log_probs, rewards, np.exp(middle)), ref_log_probs) > divergence:
            low = middle
        else:
            high = middle
    beta = float(np.exp(high))
    return beta, optimum(ref_log_probs, rewards, beta)


def frontier(ref_log_probs: Any, rewards: TensorLike, betas: Any) -> tuple[Floats, Floats]:
    """The divergences and rewards of π* at each of the betas (K,): (K,) both."""
    best = [optimum(ref_log_probs, rewards, beta) for beta in betas]
    return np.array([kl(p, ref_log_probs) for p in best]), np.array([expectation(p, rewards) for p in best])


def log_normalize(log_weights: Floats) -> Floats:
    """The logarithms of weights (N, R), shifted so that each row is a distribution."""
    shifted = log_weights - log_weights.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def accuracy(log_probs: TensorLike, rewards: Floats, scores: TensorLike, temperature: float = 1.0) -> float:
    """The probability that the response with the higher score is the preferred one, for two independent draws
    from a policy, with `preference` of their rewards. Equal scores are right half of the time. All (N, R).

    `accuracy(log_probs, rewards, rewards, temperature)` is the Bayes accuracy. No reward model is better,
    since preferences are random."""
    total = 0.0
    for p, reward, score in zip(np.exp(np.asarray(log_probs, np.float64)), rewards, scores, strict=True):
        order = np.argsort(score)
        p, reward, score = p[order], reward[order], score[order]
        for level in np.unique(reward):  # p(i wins over j) is the same for all j of one level
            mass = np.append(0.0, np.cumsum(np.where(reward == level, p, 0.0)))
            below, upto = (mass[np.searchsorted(score, score, side=side)] for side in ("left", "right"))
            # a pair counts in both orders, with the same probability of being judged right
            total += 2 * float(np.sum(p * preference(reward, level, temperature) * (below + upto) / 2))
    return total / len(rewards)

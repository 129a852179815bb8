"""The reward model: a language model with one number in place of the next token, learned from comparisons.

Which of two responses is better is taken to follow Bradley & Terry (1952): P(a ≻ b) = σ(r(a) - r(b)). With
K responses ranked, all pairs of a ranking count together (Ouyang et al. 2022, arXiv:2203.02155, eq. 1).
"""

from __future__ import annotations

import copy
import math
from itertools import combinations
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.rollouts import last
from tinygen.tensor import Array
from tinygen.types import Mask

if TYPE_CHECKING:
    from tinygen.models.language.gpt import GPT


class RewardModel(nn.Module):
    """A copy of a GPT with a linear head: `model(tokens)` -> one number at each position.

    The score of a response is the number at its last token, where all of it has been read. The other numbers
    have no meaning in a reward model; a critic is made of the same parts, and there each is the value of what
    was read so far. The head starts as N(0, 1/(C + 1)), the outputs as that of a LayerNorm over C channels:
    a score has a variance of about 1. There is no dropout."""

    def __init__(self, policy: GPT, rng: np.random.Generator) -> None:
        self.body = copy.deepcopy(policy)
        channels = policy.config.n_embd
        self.head = nn.Linear(channels, 1, rng=rng)
        self.head.weight = nn.Parameter(nn.init.normal((1, channels), 1 / math.sqrt(channels + 1), rng=rng))
        self.head.bias = nn.Parameter(nn.init.zeros((1,)))
        self.gain = nn.Buffer(np.ones((), np.float32))
        self.bias = nn.Buffer(np.zeros((), np.float32))

    def forward(self, tokens: Any) -> Any:
        """(B, T) -> (B, T)."""
        with self.body.evaluating():
            features = self.body.features(tokens)  # (B, T, C)
        return self.head(features)[..., 0] * self.gain.data + self.bias.data

    def score(self, tokens: Any, mask: Mask) -> Any:
        """The reward of each response, (B,), for tokens and mask (B, T)."""
        return self(tokens)[np.arange(len(mask)), last(mask)]

    def normalise(self, scores: Array) -> None:
        """Let `scores`, which this model gave to the reference policy's responses, have had mean 0 and
        standard deviation 1. A policy that is no better than the reference is then worth 0."""
        std = float(np.std(scores))
        if not std > 0:
            raise ValueError(f"{np.size(scores)} scores with standard deviation {std} cannot be scaled to 1")
        self.bias.data[...] = (self.bias.data - np.mean(scores)) / std
        self.gain.data[...] /= std

    def critic(self) -> Self:
        """A copy to learn values from: what PPO takes for the value of each prefix. Its scale is this
        model's."""
        return copy.deepcopy(self)


def pairwise_loss(chosen: Any, rejected: Any) -> Any:
    """-ln σ(r(chosen) - r(rejected)), the mean over pairs (B,)."""
    return np.mean(ops.softplus(rejected - chosen))


def ranking_loss(scores: Any) -> Any:
    """The mean of `pairwise_loss` over all K(K - 1)/2 pairs of each ranking: scores (B, K), best first.

    Since the K responses to a prompt stand in one batch, each is read once, for K - 1 pairs."""
    better, worse = np.array(list(combinations(range(scores.shape[1]), 2))).T
    return pairwise_loss(scores[:, better], scores[:, worse])

"""The reward model: a language model with one number in place of the next token, learned from comparisons.

People's preferences are modeled as by Bradley & Terry (1952): P(a ≻ b) = σ(r(a) - r(b)). A ranking of K
responses gives K(K - 1)/2 pairs, which count together (Ouyang et al. 2022, arXiv:2203.02155, eq. 1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.rollouts import Responses, last_true
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array
from tinygen.types import Ids, TensorLike

if TYPE_CHECKING:
    from tinygen.models.language.gpt import GPT

BEFORE = {"gain": "scale", "bias": "shift"}
"""Names of buffers in states that were written before they were renamed, and the names now."""


class RewardModel(nn.Module):
    """A copy of a GPT with a linear head: `model(tokens)` -> one number at each position.

    The score of a response is the number at its last token, where the model has read all of it. The other
    numbers have no meaning. In a critic, which has the same parts, each number is the value of the tokens so
    far. The head's weights start as N(0, 1/(C + 1)); on features that a LayerNorm over C channels has
    normalized, a score then has variance C/(C + 1). There is no dropout."""

    def __init__(self, policy: GPT, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.body = copy.deepcopy(policy)
        channels = policy.config.n_embd
        self.head = nn.Linear(channels, 1, rng=rng)
        self.head.weight = nn.Parameter(nn.init.normal((1, channels), 1 / math.sqrt(channels + 1), rng=rng))
        self.head.bias = nn.Parameter(nn.init.zeros((1,)))
        self.scale = nn.Buffer(np.ones((), np.float32))
        self.shift = nn.Buffer(np.zeros((), np.float32))

    def forward(self, tokens: Ids) -> TensorLike:
        """(B, T) -> (B, T)."""
        with self.body.eval_mode():
            features = self.body.features(tokens)  # (B, T, C)
        return self.head(features).squeeze(-1) * self.scale.data + self.shift.data

    def score(self, responses: Responses) -> TensorLike:
        """The reward of each response, (B,)."""
        tokens, mask = responses
        return self(tokens)[np.arange(len(mask)), last_true(mask)]

    def normalize(self, scores: Array) -> None:
        """Rescale the model so that `scores`, its own for the reference policy's responses, would have mean 0
        and standard deviation 1. The reference's mean reward is then 0. ValueError if all are equal."""
        std = float(np.std(scores))
        if not std > 0:
            raise ValueError(f"{np.size(scores)} scores with standard deviation {std} cannot be scaled to 1")
        self.shift.data[...] = (self.shift.data - np.mean(scores)) / std
        self.scale.data[...] /= std

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """As in every module. A state that calls `scale` and `shift` by their names of before, `gain` and
        `bias`, is read too."""
        return super().load_state_dict({BEFORE.get(name, name): state[name] for name in state}, strict)

    def critic(self) -> Self:
        """A copy from which PPO trains its value function: the value of each prefix, on the same scale."""
        return copy.deepcopy(self)


def pairwise_loss(chosen: TensorLike, rejected: TensorLike) -> TensorLike:
    """-ln σ(r(chosen) - r(rejected)), the mean over pairs (B,).

    Eq.: L = -E ln σ(r(x, y_w) - r(x, y_l))  (Ouyang et al. 2022, eq. 1)
    Held by: tests/align/test_preferences.py::test_the_loss_of_a_pair_by_hand
    """
    return -np.mean(ops.log_sigmoid(chosen - rejected))


def ranking_loss(scores: TensorLike) -> TensorLike:
    """The mean of `pairwise_loss` over all K(K - 1)/2 pairs of each ranking: scores (B, K), best first.

    Each response is scored once, for the K - 1 pairs that it is in."""
    better, worse = np.array(list(combinations(range(scores.shape[1]), 2))).T
    return pairwise_loss(scores[:, better], scores[:, worse])

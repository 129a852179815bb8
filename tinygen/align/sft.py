"""Supervised fine-tuning: a language model learns the responses of demonstrations, not their prompts.

The first step of InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, section 3.5). The loss is the
cross-entropy of pretraining; prompts are input, but not targets.
"""

from __future__ import annotations

import numpy as np

from tinygen.align.rollouts import Responses
from tinygen.nn import Module
from tinygen.types import Ids, TensorLike


def sft_targets(responses: Responses) -> Ids:
    """The targets (B, T - 1) at each token but the last: the next token, or -1 where it is not part of the
    response."""
    targets: Ids = np.where(responses.action_mask, np.asarray(responses.tokens)[:, 1:], -1)
    return targets


def sft_loss(model: Module, responses: Responses) -> TensorLike:
    """The mean of -ln π over the tokens of all responses, in nats."""
    _, loss = model(np.asarray(responses.tokens)[:, :-1], sft_targets(responses))
    return loss

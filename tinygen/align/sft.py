"""Supervised fine-tuning: a language model learns the responses of demonstrations, not their prompts.

The first step of InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, section 3.5). The loss is that of
pretraining; the prompts are read, and don't count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.align.rollouts import require_bools
from tinygen.nn import Module
from tinygen.types import Ids, Mask


def sft_targets(tokens: Any, mask: Mask) -> Ids:
    """What to predict at each token of (B, T) but the last: the next one, or -1 where that is not of the
    response. (B, T - 1)."""
    require_bools(mask)
    targets: Ids = np.where(mask[:, 1:], np.asarray(tokens)[:, 1:], -1)
    return targets


def sft_loss(model: Module, tokens: Any, mask: Mask) -> Any:
    """The mean of -ln π over the tokens of all responses, in nats, for tokens and mask (B, T)."""
    _, loss = model(np.asarray(tokens)[:, :-1], sft_targets(tokens, mask))
    return loss

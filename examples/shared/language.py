"""For examples with language models: a start for narrow encoders, and the loss on a whole text, or on random
batches of it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tinygen import nn, no_grad
from tinygen.data import random_batch
from tinygen.models.language.gpt import GPT


def start_wider(model: nn.Module, channels: int) -> None:
    """Scale the matrices of a BERT or BART from the standard deviation 0.02 to 1/sqrt(channels): 0.02 is for
    768 channels, and with few ones attention would not begin to learn."""
    for p in model.parameters():
        if p.ndim == 2:
            p.data *= 1 / (0.02 * np.sqrt(channels, dtype=np.float32))


def whole_loss(model: GPT, ids: Any, block: int) -> float:
    """The loss over all of `ids`, cut into pieces of `block`; each piece starts without a context."""
    pieces = (len(ids) - 1) // block
    x, y = (ids[start : start + pieces * block].reshape(pieces, block) for start in (0, 1))
    parts = [slice(i, i + 64) for i in range(0, pieces, 64)]
    return float(sum(model(x[part], y[part])[1].item() * len(x[part]) for part in parts)) / pieces


@no_grad()
def evaluate(
    model: GPT, train: Any, val: Any, args: argparse.Namespace, rng: np.random.Generator
) -> list[float]:
    """The losses on training and validation text: either on random batches, which is nanoGPT's estimate, or
    on the whole validation text and on a piece of the training text of the same length."""

    def batch_loss(ids: Any) -> float:
        batches = [random_batch(ids, args.block, args.batch, rng) for _ in range(args.eval_batches)]
        return float(np.mean([model(x, y)[1].item() for x, y in batches]))

    model.eval()
    if args.eval_batches:
        losses = [batch_loss(ids) for ids in (train, val)]
    else:
        losses = [whole_loss(model, ids, args.block) for ids in (train[: len(val)], val)]
    model.train()
    return losses

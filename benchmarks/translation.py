"""One training step of the Transformer that translates, encoder and decoder: 3 layers each, width 128, 32
tokens of the source and 32 of the target, batch 32, forward, backward, Adam.

The model is `tinygen.models.Transformer`, with the norm before each sublayer and without dropout. The source
ends with padding, in each row as much as it happens to be. The peer (`translation_torch.py`) is
`torch.nn.Transformer` with the same embedding: both start from the same weights, and must reach the same
loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.unet import weights

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
LAYERS, HEADS, WIDTH, LENGTH, BATCH, VOCAB = 3, 4, 128, 32, 32, 500
SMOOTHING, LR, BETAS, EPS = 0.1, 1e-3, (0.9, 0.98), 1e-9
CASE = f"{LAYERS} + {LAYERS} layers, width {WIDTH}"
ITEMS = ("tokens", 2 * LENGTH * BATCH)

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "torch":
        from benchmarks import translation_torch

        return {CASE: translation_torch.training_step()}
    return {CASE: tinygen_step()}


def batches() -> list[tuple[Any, Any]]:
    """Sources (B, S), which end with up to S/2 ids of padding, 0, and targets (B, T + 1), which begin with
    1."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(8):
        source = rng.integers(3, VOCAB, (BATCH, LENGTH))
        ends = rng.integers(LENGTH // 2, LENGTH + 1, (BATCH, 1))
        target = rng.integers(3, VOCAB, (BATCH, LENGTH + 1))
        target[:, 0] = 1
        found.append((np.where(np.arange(LENGTH) < ends, source, 0), target))
    return found


def tinygen_step() -> Step:
    from tinygen.models import Transformer, TransformerConfig
    from tinygen.optim import Adam

    sizes = (VOCAB, LAYERS, HEADS, WIDTH, 4 * WIDTH)
    model = Transformer(TransformerConfig(*sizes, 0.0, SMOOTHING, pre_norm=True), rng=0)
    parameters = dict(model.named_parameters())
    for name, array in weights({name: p.shape for name, p in parameters.items()}):
        parameters[name].data = array
    optimizer = Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data = cycle(batches())

    def step() -> Any:
        loss = model.loss(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step

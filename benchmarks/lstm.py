"""One training step of an LSTM: 256 units, 64 time steps, batch 32, forward, backward, AdamW.

There are two cases. In "vectors" the inputs are data, 256 numbers a time step, and the output must predict
the next vector. In "characters" the inputs are rows of an embedding, which gets a gradient, too, and a
linear layer gives the logits of the next character. The peer (`lstm_torch.py`) is `torch.nn.LSTM`: both
start from the same weights, and must reach the same loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
WIDTH, STEPS, BATCH, VOCAB = 256, 64, 32, 65
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.01
ITEMS = ("time steps", STEPS * BATCH)
PRODUCT = 2 * STEPS * BATCH * 4 * WIDTH * WIDTH  # the input, or the state, times its weight
FLOPS = {"vectors": 5 * PRODUCT, "characters": 6 * (PRODUCT + STEPS * BATCH * VOCAB * WIDTH)}

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "tinygen":
        return {case: tinygen_step(case) for case in FLOPS}
    from benchmarks import lstm_torch

    return {case: lstm_torch.training_step(case) for case in FLOPS}


def weights() -> dict[str, Any]:
    """The weights by their names in our model: uniform in ±1/sqrt(WIDTH) for the LSTM and the head, normal
    for the embedding."""
    rng = np.random.default_rng(0)
    shapes = {
        "weight_ih": (4 * WIDTH, WIDTH),
        "weight_hh": (4 * WIDTH, WIDTH),
        "bias_ih": (4 * WIDTH,),
        "bias_hh": (4 * WIDTH,),
    }
    found = {f"lstm.layers.0.{name}": uniform(rng, shape) for name, shape in shapes.items()}
    found["embedding.weight"] = rng.standard_normal((VOCAB, WIDTH), dtype=np.float32)
    found["head.weight"], found["head.bias"] = uniform(rng, (VOCAB, WIDTH)), uniform(rng, (VOCAB,))
    return found


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return ((2 * rng.random(shape) - 1) / WIDTH**0.5).astype(np.float32)


def batches(case: str) -> list[tuple[Any, Any]]:
    """Inputs and their targets, which are the next inputs: vectors (B, T, C) that rotate slowly, or
    characters (B, T)."""
    rng = np.random.default_rng(1)
    if case == "characters":
        text = rng.integers(0, VOCAB, (8, BATCH, STEPS + 1))
        return [(t[:, :-1], t[:, 1:]) for t in text]
    phase, speed = rng.uniform(0, 2 * np.pi, (2, 8, BATCH, 1, WIDTH))
    waves = 0.5 * np.sin(phase + 0.1 * speed * np.arange(STEPS + 1)[:, None]).astype(np.float32)
    return [(w[:, :-1].copy(), w[:, 1:].copy()) for w in waves]


def tinygen_step(case: str) -> Step:
    from tinygen import nn, ops
    from tinygen.optim import AdamW

    rng = np.random.default_rng(0)
    characters = case == "characters"

    class Model(nn.Module):
        def __init__(self) -> None:
            self.lstm = nn.LSTM(WIDTH, WIDTH, rng=rng)
            if characters:
                self.embedding = nn.Embedding(VOCAB, WIDTH, rng=rng)
                self.head = nn.Linear(WIDTH, VOCAB, rng=rng)

        def forward(self, x: Any, target: Any) -> Any:
            y, _ = self.lstm(self.embedding(x) if characters else x)
            return ops.cross_entropy(self.head(y), target) if characters else ops.mse(y, target)

    model = Model()
    first = weights()
    for name, p in model.named_parameters():
        p.data = first[name]
    optimizer = AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    data = cycle(batches(case))

    def step() -> Any:
        loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step

"""Generate one token with a GPT of 124 million weights: batch 1, KV cache.

The weights are random. The context grows token by token from nothing to 256 positions, then starts anew.
Each side samples the next token like nanoGPT's script (top-k 200, temperature 0.8). But all sides get the
same fixed text as input, so that their logits can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks import gpt

UNIT = "ms a token"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
ITEMS = ("tokens", 1)
SIZE = gpt.Size(layers=12, heads=12, width=768, context=1024, batch=1, vocab=50257)
POSITIONS = 256
TEMPERATURE, TOP_K = 0.8, 200

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    case = f"{SIZE}, {POSITIONS} positions"
    if side == "tinygen":
        return {case: tinygen_step()}
    from benchmarks import gpt_torch

    return {case: gpt_torch.generating_step(SIZE, text(), POSITIONS, TEMPERATURE, TOP_K)}


def text() -> Iterator[tuple[int, Any]]:
    """An endless stream of positions, 0 to 255, and the tokens there, (1, 1)."""
    tokens = np.random.default_rng(1).integers(0, SIZE.vocab, (POSITIONS, 1, 1))
    return cycle(enumerate(tokens))


def tinygen_step(device: str = "cpu") -> Step:
    """The work of `GPT.sample` for one token, but the next token is given."""
    from tinygen import nn, no_grad
    from tinygen.text.decoding import sample

    model = gpt.tinygen_model(SIZE, gelu="tanh").to(device).eval()
    tokens, caches, rng = text(), [nn.KVCache(POSITIONS) for _ in model.h], np.random.default_rng(0)

    def step() -> Any:
        position, token = next(tokens)
        for cache in caches:
            cache.length = position
        with no_grad():
            x = model.features(token, caches)
            logits = model.lm_head(x[:, -1]).numpy()  # (1, V)
        sample(logits, rng, TEMPERATURE, TOP_K)
        return logits

    return step

"""Generate one token with a GPT of 124 million weights: batch 1, KV cache.

The weights are random. The context grows token by token from nothing to 256 positions, then starts anew.
Each side samples the next token like nanoGPT's script (top-k 200, temperature 0.8). But all sides get the
same fixed text as input, so that their logits can be compared.

A token reads every weight once, so the memory sets the limit: the second case, the sum of 1 GB of numbers,
measures how fast it can be read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks import gpt

UNIT = "ms a token"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
SIZE = gpt.Size(layers=12, heads=12, width=768, context=1024, batch=1, vocab=50257)
POSITIONS = 256
TEMPERATURE, TOP_K = 0.8, 200
CASE, READING = f"{SIZE}, {POSITIONS} positions", "the sum of 1 GB"

Step = Callable[[], Any]


def bytes_read(size: gpt.Size) -> int:
    """The bytes of the matrices that a token is multiplied by: in a layer 4 of attention, and 2 of the
    perceptron, which are 4 times as large; and the logits'."""
    return 4 * (12 * size.layers * size.width**2 + size.vocab * size.width)


ITEMS = ("GB", {CASE: 1e-9 * bytes_read(SIZE), READING: 1.0})


def build(side: str) -> dict[str, Step]:
    if side == "tinygen":
        return {CASE: tinygen_step(), READING: tinygen_reading()}
    from benchmarks import gpt_torch

    step = gpt_torch.generating_step(SIZE, text(), POSITIONS, TEMPERATURE, TOP_K)
    return {CASE: step, READING: torch_reading()}


def torch_reading() -> Step:
    import torch

    x = functools.cache(lambda: torch.ones(250_000_000))
    return lambda: x().sum()


def tinygen_reading() -> Step:
    from tinygen.kernels.compiled.compile import parallel

    @parallel
    def add(part: Any, x: Any, sums: Any) -> None:
        row, total = x[part], np.float32(0)
        for i in range(row.size):
            total += row[i]
        sums[part] = total

    x, sums = functools.cache(lambda: np.ones((1000, 250_000), np.float32)), np.empty(1000, np.float32)

    def step() -> Any:
        add(len(sums), x(), sums)
        return sums.sum()

    return step


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

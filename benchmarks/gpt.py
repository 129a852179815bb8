"""One training step of a GPT: forward, backward, AdamW. `gpt_small.py` and `gpt_baby.py` have its sizes.

The peers are the same model in PyTorch (`gpt_torch.py`) and JAX (`gpt_jax.py`), written in the usual style
of the library, with the same names of parameters as ours. All start from the same weights, and must reach
the same loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch", "torch-compile", "jax")
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.99), 1e-8, 0.1

Step = Callable[[], Any]


class Size(NamedTuple):
    layers: int
    heads: int
    width: int
    context: int
    batch: int
    vocab: int = 65

    def __str__(self) -> str:
        return f"{self.layers} layers, width {self.width}"

    @property
    def tokens(self) -> int:
        return self.batch * self.context

    @property
    def flops(self) -> float:
        """The operations of a training step, as `GPT.flops_per_token` counts them: 6 N + 12 L C T a token."""
        per_layer = 12 * self.width**2 + 13 * self.width
        weights = self.vocab * self.width + self.layers * per_layer + 2 * self.width
        return self.tokens * (6 * weights + 12 * self.layers * self.width * self.context)


def build(side: str, size: Size) -> dict[str, Step]:
    if side == "tinygen":
        return {str(size): tinygen_step(size)}
    if side == "jax":
        from benchmarks import gpt_jax

        return {str(size): gpt_jax.training_step(size)}
    from benchmarks import gpt_torch

    return {str(size): gpt_torch.training_step(size, compiled=side == "torch-compile")}


def weights(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Initial weights, one by one, the same for the same names and shapes: a standard deviation of 0.02
    around 0, or around 1 in layer norms."""
    rng = np.random.default_rng(0)
    for name in sorted(shapes):
        array = rng.standard_normal(shapes[name], dtype=np.float32)
        array *= 0.02
        array += ".ln" in f".{name}"
        yield name, array


def batches(size: Size) -> list[tuple[Any, Any]]:
    """Characters (B, T), and the characters that follow them."""
    text = np.random.default_rng(1).integers(0, size.vocab, (8, size.batch, size.context + 1))
    return [(t[:, :-1], t[:, 1:]) for t in text]


def tinygen_model(size: Size, **options: Any) -> Any:
    """Our GPT of this size, with `weights`."""
    from tinygen import DeviceGenerator
    from tinygen.models.language.gpt import GPT, GPTConfig

    config = GPTConfig(size.vocab, size.context, size.layers, size.heads, size.width, **options)
    model = GPT(config, rng=DeviceGenerator(0))  # dropout is drawn where the model is
    parameters = dict(model.named_parameters())
    for name, array in weights({name: p.shape for name, p in parameters.items()}):
        parameters[name].data = array
    return model


def tinygen_step(size: Size, device: str = "cpu", dropout: float = 0.0) -> Step:
    from tinygen.optim import AdamW, decay_groups

    model = tinygen_model(size, dropout=dropout).to(device)
    optimizer = AdamW(decay_groups(model, DECAY), lr=LR, betas=BETAS, eps=EPS)
    data = cycle(batches(size))

    def step() -> Any:
        _, loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step

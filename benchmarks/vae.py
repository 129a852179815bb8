"""One training step of the VAE for MNIST: 784-400-20, batch 128, forward, backward, Adam.

The model is PyTorch's example of a VAE, but its loss uses the logits of the pixels. All sides draw their
noise from equal NumPy generators, start from the same weights, and must reach the same loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch", "torch-compile", "jax", "autograd")
DATA, HIDDEN, LATENT, BATCH = 784, 400, 20, 128
LR, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8
CASE = f"{DATA}-{HIDDEN}-{LATENT}"
ITEMS = ("images", BATCH)
LAYERS = {
    "encoder.fc": (HIDDEN, DATA),
    "encoder.mean": (LATENT, HIDDEN),
    "encoder.logvar": (LATENT, HIDDEN),
    "decoder.fc": (HIDDEN, LATENT),
    "decoder.out": (DATA, HIDDEN),
}
"""The linear layers, by their names in our model: (out, in)."""
FIRST = HIDDEN * DATA  # whose input wants no gradient
FLOPS = {CASE: 2 * BATCH * (3 * sum(out * into for out, into in LAYERS.values()) - FIRST)}

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "tinygen":
        return {CASE: tinygen_step()}
    if side == "jax":
        from benchmarks import vae_jax

        return {CASE: vae_jax.training_step()}
    if side == "autograd":
        from benchmarks import vae_autograd

        return {CASE: vae_autograd.training_step()}
    from benchmarks import vae_torch

    return {CASE: vae_torch.training_step(compiled=side == "torch-compile")}


def weights() -> dict[str, Any]:
    """The weights of each layer, uniform in ±1/sqrt(in), by their names in our model."""
    rng = np.random.default_rng(0)
    found = {}
    for name, (out, into) in LAYERS.items():
        for part, shape in (("weight", (out, into)), ("bias", (out,))):
            found[f"{name}.{part}"] = ((2 * rng.random(shape) - 1) / into**0.5).astype(np.float32)
    return found


def batches() -> list[Any]:
    """Pictures (B, 784) in [0, 1]; most of their pixels are black, as in MNIST."""
    draws = np.random.default_rng(1).random((8, BATCH, DATA), dtype=np.float32)
    return list(np.maximum(5 * draws - 4, 0))


def noises() -> np.random.Generator:
    return np.random.default_rng(2)


def draw(rng: np.random.Generator) -> Any:
    """The noise of one step, (B, Z), drawn as in our model."""
    return rng.standard_normal((BATCH, LATENT), dtype=np.float32)


def tinygen_step() -> Step:
    from tinygen.models.pictures.vae import VAE
    from tinygen.optim import Adam

    model = VAE(DATA, HIDDEN, LATENT, rng=np.random.default_rng(0))
    for name, array in weights().items():
        dict(model.named_parameters())[name].data = array
    optimizer = Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data, rng = cycle(batches()), noises()

    def step() -> Any:
        loss = model.loss(next(data), rng=rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step

"""The steps of a conditional GAN: the discriminator without a penalty, the same with R1, and the generator.

The generator and the discriminator are from `tinygen.models.pictures.gan`, for RGB pictures of 16 × 16 in ten
classes, with the projection, 64 channels and a batch of 64; Adam. R1 is a gradient whose gradient is taken,
so that its step runs second derivatives of the convolutions. The peer (`gan_torch.py`) is the same in
PyTorch. Both must reach the same losses.
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
CASES = ("discriminator", "discriminator with R1", "generator")
COLORS, SIDE, CHANNELS, LATENT, CLASSES, BATCH = 3, 16, 64, 32, 10, 64
GAMMA, LR, BETAS, EPS = 0.3, 2e-3, (0.0, 0.99), 1e-8
ITEMS = ("images", BATCH)

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "torch":
        from benchmarks import gan_torch

        return {case: gan_torch.training_step(case) for case in CASES}
    return {case: tinygen_step(case) for case in CASES}


def batches() -> list[tuple[Any, Any, Any, Any]]:
    """Real pictures, others in place of generated ones, both (B, 3, 16, 16); noise (B, 32), labels (B,)."""
    rng, shape = np.random.default_rng(1), (BATCH, COLORS, SIDE, SIDE)
    return [
        (
            rng.uniform(-1, 1, shape).astype(np.float32),
            rng.uniform(-1, 1, shape).astype(np.float32),
            rng.standard_normal((BATCH, LATENT), dtype=np.float32),
            rng.integers(CLASSES, size=BATCH),
        )
        for _ in range(4)
    ]


def tinygen_step(case: str) -> Step:
    from tinygen.models.pictures.gan import ConvDiscriminator, ConvGenerator
    from tinygen.models.pictures.gan_losses import logistic_loss, non_saturating_loss, r1_penalty
    from tinygen.optim import Adam

    generator = ConvGenerator(COLORS, SIDE, CHANNELS, LATENT, CLASSES, rng=0)
    discriminator = ConvDiscriminator(COLORS, SIDE, CHANNELS, CLASSES, rng=0)
    for model in (generator, discriminator):
        parameters = dict(model.named_parameters())
        for name, array in weights({name: p.shape for name, p in parameters.items()}):
            parameters[name].data = array
    trained = generator if case == "generator" else discriminator
    optimizer = Adam(trained.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data = cycle(batches())

    def step() -> Any:
        real, fake, z, labels = next(data)
        if case == "generator":
            loss = non_saturating_loss(discriminator(generator(z, labels), labels))
        else:
            loss = logistic_loss(discriminator(real, labels), discriminator(fake, labels))
        if case == "discriminator with R1":
            loss = loss + GAMMA * r1_penalty(lambda x: discriminator(x, labels), real)
        trained.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step

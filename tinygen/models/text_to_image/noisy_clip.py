"""CLIP of noisy pictures, which leads a diffusion to a caption (Nichol et al. 2021, GLIDE, arXiv:2112.10741,
section 2.4).

A sampler of a diffusion goes through pictures x_t with much noise, then less, then none. A CLIP that leads it
(`tinygen.diffusion.clip_guidance`) must understand them all. So it is trained on pictures with the noise of a
random step t, and its image encoder sees the number of that step. The encoder has the blocks of a UNet's way
down, as the classifiers of Dhariwal & Nichol 2021 (arXiv:2105.05233, section 4.1).

Shapes: B pictures x_t (B, in_channels, side, side) at steps t (B,), N texts as ids (N, S), vectors of D =
`dim` numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.diffusion import Process
from tinygen.diffusion.loss import random_steps
from tinygen.models.pictures.unet import TimestepEmbedding
from tinygen.models.text_to_image.clip import TwoTowers, contrastive_loss, unit_vectors
from tinygen.models.text_to_image.clip_encoders import TextTower, require_pictures
from tinygen.nn.module import widen
from tinygen.nn.residual import make_group_norm
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, IdsLike, TensorLike


class NoisyImageEncoder(nn.Module):
    """`encoder(x, t)` -> vectors (B, D). Each level is a residual block that sees the step, and a convolution
    that halves the side; the last layer sees all positions. The first level has `channels`, each further one
    twice as many.

    Raises ValueError when the side cannot be halved so often."""

    def __init__(
        self, side: int, in_channels: int, channels: int, halvings: int, dim: int, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        if side % 2**halvings:
            raise ValueError(f"a side of {side} cannot be halved {halvings} times")
        self.shape, self.dim = (in_channels, side, side), dim
        widths = [channels, *(channels * 2**i for i in range(halvings))]
        self.steps = TimestepEmbedding(channels, rng=rng)
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1, rng=rng)
        self.blocks = nn.ModuleList(
            nn.ResBlock(a, b, 4 * channels, scale_shift=True, rng=rng) for a, b in pairwise(widths)
        )
        self.downs = nn.ModuleList(nn.Downsample(c, rng=rng) for c in widths[1:])
        self.norm = make_group_norm(widths[-1], None, eps=1e-5)
        self.projection = nn.Linear(widths[-1] * (side // 2**halvings) ** 2, dim, bias=False, rng=rng)

    def forward(self, x: TensorLike, t: IdsLike) -> Tensor:
        """The vectors (B, D) of noisy pictures x (B, in_channels, side, side) at the numbers of steps t (B,).
        Raises ValueError for another shape."""
        require_pictures(x, self.shape)
        if np.shape(t) != np.shape(x)[:1]:
            raise ValueError(f"t has shape {np.shape(t)}: give a number for each of the {len(x)} pictures")
        embedding = self.steps(t)  # (B, 4·channels)
        h: Any = self.conv_in(x)
        for block, down in zip(self.blocks, self.downs, strict=True):
            h = down(block(h, embedding))
        return self.projection(ops.silu(self.norm(h)).reshape(len(x), -1))


class NoisyCLIP(TwoTowers):
    """`model(x, t, ids)` -> logits; `model.loss(pictures, ids, rng=rng)` -> the loss. The noise is that of
    `process`."""

    def __init__(self, image_encoder: NoisyImageEncoder, text_encoder: TextTower, process: Process) -> None:
        super().__init__(image_encoder, text_encoder)
        self.process = process

    def forward(self, x: TensorLike, t: IdsLike, ids: Ids) -> Tensor:
        """Logits (B, N) of noisy pictures x (B, in_channels, side, side) at the numbers of steps t (B,) and
        texts as ids (N, S): the dot products of `image_vectors` and `text_vectors`."""
        return self.image_vectors(x, t) @ self.text_vectors(ids).T

    def image_vectors(self, x: TensorLike, t: IdsLike) -> Tensor:
        """The vectors (B, D) of noisy pictures, all of the length exp(logit_scale)."""
        return unit_vectors(self.image_encoder(x, t)) * np.exp(widen(self.logit_scale))

    def loss(self, pictures: Array, ids: Ids, *, rng: RNGLike) -> Tensor:
        """`contrastive_loss` of B pictures, with the noise of a random step each, and their B texts."""
        rng = as_generator(rng)
        t = random_steps(self.process, len(pictures), rng)
        x = self.process.diffuse(pictures, t, noise_like(pictures, rng))
        return contrastive_loss(self(x, self.process.schedule.timesteps[t], ids))

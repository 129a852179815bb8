"""A trained latent diffusion that a ControlNet steers: pictures from texts and hints (Zhang,
Rao & Agrawala 2023, arXiv:2302.05543).

The latent diffusion is frozen; only the ControlNet (`pictures/controlnet.py`) learns. The loss is the one
that the latent diffusion was trained with. Half of the captions are replaced by the empty one in training, so
that the ControlNet learns to find the content of a picture in its hint (section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygen import nn
from tinygen.diffusion import Sampler, ddim, last_state, simple_loss
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import IdsLike, Mask, TensorLike

DROPPED = 0.5  # the share of captions that are replaced by the empty one in training


class ControlledDiffusion(nn.Module):
    """`model.loss(codes, captions, hints, rng=rng)` -> the loss, whose gradients are of the ControlNet alone;
    `model.sample(captions, hints, rng=rng)` -> pictures.

    `base` is frozen here. The ControlNet is made for its UNet: `ControlNet.copy_of(unet, ...)`."""

    def __init__(self, base: LatentDiffusion, controlnet: ControlNet) -> None:
        self.base = base.freeze()
        self.controlnet = controlnet

    def forward(
        self, codes: TensorLike, t: IdsLike, captions: Sequence[str], hints: TensorLike, strength: float = 1.0
    ) -> Tensor:
        """The prediction (ε, x_0 or v) for noisy codes (B, Z, h, w) at the steps t (B,), with these captions
        and hints (B, ...); `strength` scales what the ControlNet adds."""
        context, mask = self.base.denoiser.text_encoder(captions)
        return self.predict(codes, t, context, mask, hints, strength)

    def predict(
        self, x: TensorLike, t: IdsLike, context: Any, mask: Mask | None, hints: TensorLike, strength: float
    ) -> Tensor:
        """`forward` with the text encoder's output for the captions: context (B, S, C) and mask (B, S)."""
        control = self.controlnet(x, t, hints, context=context, mask=mask, strength=strength)
        return self.base.denoiser.unet(x, t, context=context, mask=mask, control=control)

    def loss(self, codes: Array, captions: Sequence[str], hints: TensorLike, *, rng: RNGLike) -> Tensor:
        """The mean squared error of the prediction for codes with noise, a random step and noise for each."""
        rng = as_generator(rng)
        texts = np.where(rng.random(len(captions)) < DROPPED, "", captions).tolist()
        context, mask = self.base.denoiser.text_encoder(texts)
        predict = lambda x, t: self.predict(x, t, context, mask, hints, 1.0)
        return simple_loss(self.base.process, predict, codes, rng=rng)

    def sample(
        self,
        captions: Sequence[str],
        hints: Array,
        *,
        rng: RNGLike,
        guidance: float = 3.0,
        strength: float = 1.0,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Array:
        """A picture (B, C, H, W) for each caption and its hint. The arguments are those of LatentDiffusion,
        and `strength`, the scale of what the ControlNet adds: with 0 the pictures are the latent diffusion's
        own."""
        states = self.sample_steps(
            captions, hints, rng=rng, guidance=guidance, strength=strength, steps=steps, sampler=sampler
        )
        return self.base.decode(last_state(states))

    def sample_steps(
        self,
        captions: Sequence[str],
        hints: Array,
        *,
        rng: RNGLike,
        guidance: float = 3.0,
        strength: float = 1.0,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Iterator[Array]:
        """The states (B, Z, h, w) of sampling: noise, then the code after each step."""
        predict = lambda x, t, context, mask, hints: self.predict(x, t, context, mask, hints, strength)
        conditions = (on_device_of(self.base.autoencoder.scale, hints),)
        model = self.base.guided(predict, captions, conditions, guidance, 0.0)
        yield from self.base.states(model, len(captions), steps, sampler, rng=rng)

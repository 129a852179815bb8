"""Latent diffusion: pictures from text, by a diffusion of codes (Rombach et al. 2022, arXiv:2112.10752).

Three networks. An autoencoder (`autoencoder.py`) makes small codes of pictures, and pictures of codes; it is
trained first, then frozen. A UNet (`unet.py`) learns to remove noise from codes, and sees the output of a
text encoder (`text_encoder.py`) for the caption by cross-attention; these two are trained together. To sample
a picture, the UNet turns noise into a code, and the decoder turns the code into a picture.

In training some captions are replaced by the empty one, so that the same network also learns codes without a
text. Sampling extrapolates from the prediction for the empty caption beyond the prediction for the caption:
classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598).

Shapes: B pictures (B, C, H, W), their codes (B, Z, h, w) with variance 1, captions a list of B texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen import nn
from tinygen.diffusion import (
    Model,
    Process,
    Sampler,
    classifier_free_guidance,
    ddim,
    evenly_spaced,
    last_state,
    simple_loss,
)
from tinygen.models.pictures.autoencoder import AutoencoderKL
from tinygen.models.pictures.unet import UNet
from tinygen.models.text_to_image.text_encoder import TextEncoder
from tinygen.modes import no_grad
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import IdsLike, Mask, TensorLike

DROPPED = 0.1  # the share of captions that are replaced by the empty one in training


class TextDenoiser(nn.Module):
    """The networks that are trained to remove noise from codes: a UNet, and the text encoder whose output it
    sees.

    Raises ValueError when the UNet's context is not as wide as the text encoder's output."""

    def __init__(self, unet: UNet, text_encoder: TextEncoder) -> None:
        if unet.config.context != text_encoder.config.channels:
            raise ValueError(
                f"the UNet looks at a context of {unet.config.context} channels, and the text encoder makes "
                f"{text_encoder.config.channels}: give both the same number"
            )
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, x: TensorLike, t: IdsLike, context: Any, mask: Mask | None) -> Tensor:
        """The UNet's prediction (ε, x_0 or v) for noisy codes x (B, Z, h, w) at the steps t (B,), with the
        text encoder's output for their captions: context (B, S, C) and mask (B, S)."""
        return self.unet(x, t, context=context, mask=mask)


class LatentDiffusion(nn.Module):
    """`model.encode(pictures)` -> codes; `model.loss(codes, captions, rng=rng)` -> the
    loss; `model.sample(captions, rng=rng)` -> pictures.

    The autoencoder takes no part in the loss, and its `scale` makes the variance of the codes 1
    (`latent_scale`). `process` is the diffusion of codes, `side` the height and width of sampled pictures.

    Raises ValueError when the UNet and the autoencoder's codes have different numbers of channels."""

    def __init__(
        self, autoencoder: AutoencoderKL, denoiser: TextDenoiser, process: Process, side: int
    ) -> None:
        c, u = autoencoder.config, denoiser.unet.config
        if not c.latent == u.in_channels == u.out_channels:
            raise ValueError(
                f"codes have {c.latent} channels, and the UNet makes {u.out_channels} of {u.in_channels}: "
                "all three must be the same"
            )
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.process = process
        self.code_shape = (c.latent, side // c.factor, side // c.factor)

    # -- codes -------------------------------------------------------------------------------------

    def encode(self, pictures: TensorLike) -> Array:
        """The means of the codes of pictures, (B, Z, h, w): computed once, they serve all of the training."""
        with no_grad():
            return self.autoencoder.encode(pictures) * self.autoencoder.scale.data

    def decode(self, codes: Array) -> Array:
        """Pictures (B, C, H, W) of codes (B, Z, h, w), not clipped to [-1, 1]."""
        with no_grad():
            scale = self.autoencoder.scale
            return self.autoencoder.decode(on_device_of(scale, codes) / scale.data)

    # -- training ----------------------------------------------------------------------------------

    def forward(self, codes: TensorLike, t: IdsLike, captions: Sequence[str]) -> Tensor:
        """The prediction (ε, x_0 or v) for noisy codes (B, Z, h, w) at the steps t (B,) with these
        captions."""
        return self.denoiser(codes, t, *self.denoiser.text_encoder(captions))

    def loss(self, codes: Array, captions: Sequence[str], *, rng: RNGLike) -> Tensor:
        """The mean squared error of the UNet's prediction for codes with noise, a random step and noise for
        each; a tenth of the captions is replaced by the empty one."""
        rng = as_generator(rng)
        texts = np.where(rng.random(len(captions)) < DROPPED, "", captions).tolist()
        context, mask = self.denoiser.text_encoder(texts)
        return simple_loss(self.process, lambda x, t: self.denoiser(x, t, context, mask), codes, rng=rng)

    # -- sampling ----------------------------------------------------------------------------------

    def sample(
        self,
        captions: Sequence[str],
        *,
        rng: RNGLike,
        guidance: float = 3.0,
        rescale: float = 0.0,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Array:
        """A picture (B, C, H, W) for each caption, from the noise that `rng` draws.

        With `guidance` 1 the prediction is the model's own, with 0 it ignores the captions, and with more
        than 1 it exaggerates them; `rescale` is the phi of `rescale_guidance`. `sampler` goes from noise to
        codes in so many `steps`: any of `tinygen.diffusion`'s, or a function of (process, model, x) that
        yields its states."""
        states = self.sample_steps(
            captions, rng=rng, guidance=guidance, rescale=rescale, steps=steps, sampler=sampler
        )
        return self.decode(last_state(states))

    def sample_steps(
        self,
        captions: Sequence[str],
        *,
        rng: RNGLike,
        guidance: float = 3.0,
        rescale: float = 0.0,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Iterator[Array]:
        """The states (B, Z, h, w) of sampling: noise, then the code after each step. `sample` decodes the
        last one."""
        model = self.guided(self.denoiser, captions, (), guidance, rescale)
        yield from self.states(model, len(captions), steps, sampler, rng=rng)

    def guided(
        self,
        denoiser: Callable[..., Any],
        captions: Sequence[str],
        conditions: tuple[Array, ...],
        guidance: float,
        rescale: float,
    ) -> Model:
        """`denoiser(x, t, context, mask, *conditions)`, led toward the captions: a function of x and t."""
        with no_grad():
            context, mask = self.denoiser.text_encoder(captions)
            empty, empty_mask = self.denoiser.text_encoder([""])
        condition, nothing = (context.data, mask, *conditions), (empty.data, empty_mask, *conditions)
        return classifier_free_guidance(denoiser, condition, nothing, guidance, rescale)

    def states(
        self, model: Model, count: int, steps: int, sampler: Sampler, *, rng: RNGLike
    ) -> Iterator[Array]:
        """`count` times noise (B, Z, h, w), then the codes after each step of the sampler."""
        process = self.process.respace(evenly_spaced(len(self.process.schedule), steps))
        noise = as_generator(rng).standard_normal((count, *self.code_shape), np.float32)
        x = np.asarray(noise, like=self.autoencoder.scale.data)
        yield x
        yield from sampler(process, model, x)

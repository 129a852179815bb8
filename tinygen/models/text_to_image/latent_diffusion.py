"""Latent diffusion: pictures from text, by a diffusion of codes (Rombach et al. 2022, arXiv:2112.10752).

Three networks. An autoencoder (`autoencoder.py`) makes small codes of pictures, and pictures of codes; it is
trained first, and stays as it is from then on. A UNet (`unet.py`) takes noise out of codes, and looks at what
a text encoder (`text_encoder.py`) made of the caption; these two are trained together. To draw, the UNet
turns noise into a code, and the decoder the code into a picture.

In training some captions are replaced by the empty one, so that the same network also knows what codes look
like if nothing is said. Drawing goes further from that than the caption alone would: classifier-free guidance
(Ho & Salimans 2022, arXiv:2207.12598).

Shapes: B pictures (B, C, H, W), their codes (B, Z, h, w) with variance 1, captions a list of B texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygen import nn
from tinygen.diffusion import Process, classifier_free, ddim_step, simple_loss, spread
from tinygen.models.pictures.autoencoder import AutoencoderKL
from tinygen.models.pictures.unet import UNet
from tinygen.models.text_to_image.text_encoder import TextEncoder
from tinygen.modes import no_grad
from tinygen.tensor import Array, Tensor

DROPPED = 0.1  # of the captions, in training


class TextDenoiser(nn.Module):
    """What is trained to take the noise out of codes: a UNet, and the text encoder that it listens to.

    Raises ValueError when the UNet's context is not as wide as what the text encoder makes."""

    def __init__(self, unet: UNet, text_encoder: TextEncoder) -> None:
        if unet.config.context != text_encoder.config.channels:
            raise ValueError(
                f"the UNet looks at a context of {unet.config.context} channels, and the text encoder makes "
                f"{text_encoder.config.channels}: give both the same number"
            )
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, x: Any, t: Any, context: Any, mask: Any) -> Tensor:
        """What the diffusion wants to know of noisy codes x (B, Z, h, w) at the steps t (B,), from what the
        text encoder made of their captions: (B, S, context) and (B, S)."""
        return self.unet(x, t, context=context, mask=mask)


class LatentDiffusion(nn.Module):
    """`model.encode(pictures)` -> codes; `model(codes, captions, rng)` -> the loss; `model.draw(captions,
    rng)` -> pictures.

    The autoencoder takes no part in the loss, and its `scale` makes the variance of the codes 1
    (`latent_scale`). `process` is a diffusion of codes, `side` the height and width of what is drawn.

    Raises ValueError when the UNet is not made for the autoencoder's codes."""

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
        self.code = (c.latent, side // c.factor, side // c.factor)

    # -- codes -------------------------------------------------------------------------------------

    def encode(self, pictures: Any) -> Array:
        """The means of the codes of pictures: (B, Z, h, w). Made once, they serve all of the training."""
        with no_grad():
            return (self.autoencoder.encode(pictures).mean * self.autoencoder.scale).data

    def decode(self, codes: Any) -> Array:
        """Pictures (B, C, H, W) of codes, of which nothing says that they stay within [-1, 1]."""
        with no_grad():
            return self.autoencoder.decode(codes / self.autoencoder.scale).data

    # -- training ----------------------------------------------------------------------------------

    def forward(self, codes: Array, captions: Sequence[str], rng: np.random.Generator) -> Tensor:
        """The loss: the mean squared error of what the UNet says about codes with noise, a step and noise
        drawn for each; a tenth of the captions is left out."""
        kept = rng.random(len(captions)) >= DROPPED
        texts = [caption if keep else "" for caption, keep in zip(captions, kept, strict=True)]
        context, mask = self.denoiser.text_encoder(texts)
        return simple_loss(self.process, lambda x, t: self.denoiser(x, t, context, mask), codes, rng)

    # -- drawing -----------------------------------------------------------------------------------

    def draw(
        self, captions: Sequence[str], rng: np.random.Generator, guidance: float = 3.0, steps: int = 20
    ) -> Array:
        """A picture for each caption, as far as the noise from `rng` and the training allow. `guidance` 1 is
        the model as it was trained, 0 takes no notice of the captions, and more than 1 exaggerates."""
        *_, codes = self.denoise(captions, rng, guidance, steps)
        return self.decode(codes)

    def denoise(
        self, captions: Sequence[str], rng: np.random.Generator, guidance: float = 3.0, steps: int = 20
    ) -> Iterator[Array]:
        """The codes from which `draw` decodes, as DDIM makes them: noise, then what each step leaves."""
        kept = self.process.respaced(spread(len(self.process.schedule), steps))
        with no_grad():
            context, mask = self.denoiser.text_encoder(captions)
            no_context, no_mask = self.denoiser.text_encoder([""])
        model = classifier_free(self.denoiser, (context.data, mask), (no_context.data, no_mask), guidance)
        x = np.asarray(rng.standard_normal((len(captions), *self.code), np.float32), like=context.data)
        yield x
        for t in reversed(range(steps)):
            x = ddim_step(kept, model, x, t)
            yield x

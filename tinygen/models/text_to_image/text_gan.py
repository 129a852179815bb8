"""Adversarial networks that are given a text (Reed et al. 2016, *Generative adversarial text to image
synthesis*, arXiv:1605.05396).

The generator makes a picture from noise and a caption. The discriminator gets a picture and a caption, and
puts out the logit of its probability that the picture is real and that the caption is this picture's. So it
has two things to refuse: pictures that are not real, and real pictures with the caption of another one. In
`matching_aware_loss` it sees both.

The paper's discriminator repeats the caption's vector at each place of its last feature maps, and joins both
by a convolution. Here it compares its features with the vector, as `gan.py` does for classes (Miyato & Koyama
2018): the example `gan_shapes.py` learns more in the same time so. Each network has an encoder of its own for
captions, which is trained with it; the paper's encoder was trained before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.pictures.gan import SMALLEST, ConvDiscriminator, ConvGenerator, widths_of
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


class CaptionEncoder(nn.Module):
    """Captions, a list of B texts -> one vector each, (B, dim): the mean of the text encoder's vectors of the
    words, and a linear layer.

    With `config.layers` 0, the mean is of vectors that depend on their own word and its place alone. So a new
    combination of words is a sum of known parts."""

    def __init__(self, config: TextEncoderConfig, dim: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.words = TextEncoder(config, rng=rng)
        self.out = nn.Linear(config.channels, dim, rng=rng)

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Raises ValueError for an unknown word or a caption that is too long, TypeError for a single string
        in place of a list."""
        vectors, mask = self.words(captions)  # (B, S, C), (B, S)
        share = np.asarray(mask / mask.sum(axis=1, keepdims=True), vectors.dtype, like=vectors.data)
        return self.out((vectors * share[:, :, None]).sum(axis=1))


class TextGenerator(nn.Module):
    """Noise z (B, latent) and B captions -> pictures (B, in_channels, S, S) in (-1, 1), S = `side` one of 8,
    16, 32, ... . The caption's vector of `dim` numbers is put beside z, and a `ConvGenerator` with `channels`
    does the rest. Raises ValueError for another side."""

    def __init__(
        self,
        config: TextEncoderConfig,
        dim: int = 32,
        in_channels: int = 3,
        side: int = 16,
        channels: int = 32,
        latent: int = 8,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.latent = latent
        self.text = CaptionEncoder(config, dim, rng=rng)
        self.pictures = ConvGenerator(in_channels, side, channels, latent + dim, rng=rng)

    def forward(self, z: TensorLike, captions: Sequence[str]) -> Tensor:
        """Raises ValueError unless there is one caption for each row of z, and as `CaptionEncoder` does."""
        text = self.text(captions)  # (B, E)
        check_count(len(z), text, "row of z")
        return self.pictures(np.concatenate([z, text], axis=1))

    @no_grad()
    def sample(self, captions: Sequence[str], *, rng: RNGLike) -> Array:
        """A new picture for each of B captions, (B, in_channels, S, S). An array."""
        z = as_generator(rng).standard_normal((len(captions), self.latent), dtype=np.float32)
        return self(np.asarray(z, like=self.text.out.weight.data), captions).data


class TextDiscriminator(nn.Module):
    """Pictures (B, in_channels, S, S) and B captions -> logits (B,). A `ConvDiscriminator` with `channels`
    makes F features φ(x) of a picture, which are compared with the caption's vector e(t) of F numbers. Raises
    ValueError for a side other than 8, 16, 32, ... .

    Eq.: f(x, t) = e(t)ᵀφ(x)/√F + ψ(φ(x))  (Miyato & Koyama 2018, eq. 5, with e(t) in place of yᵀV; and √F)
    Held by: tests/models/text_to_image/test_text_gan.py::test_the_features_are_compared_with_the_text
    """

    def __init__(
        self,
        config: TextEncoderConfig,
        in_channels: int = 3,
        side: int = 16,
        channels: int = 32,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.pictures = ConvDiscriminator(in_channels, side, channels, rng=rng)
        self.text = CaptionEncoder(config, widths_of(side, channels)[-1] * SMALLEST**2, rng=rng)

    def forward(self, x: TensorLike, captions: Sequence[str]) -> Tensor:
        """Raises ValueError unless there is one caption for each picture, and as `CaptionEncoder` does."""
        text = self.text(captions)  # (B, F)
        check_count(len(x), text, "picture")
        h = self.pictures.features(x)  # (B, F)
        return self.pictures.out(h).squeeze(1) + (text * h).sum(axis=1) / math.sqrt(h.shape[1])


def check_count(n: int, text: Any, what: str) -> None:
    """Raise ValueError unless there are n captions' vectors."""
    if len(text) != n:
        raise ValueError(f"each {what} needs one caption: got {n} and {len(text)} captions")


def matching_aware_loss(real: TensorLike, wrong: TensorLike, fake: TensorLike) -> Tensor:
    """The discriminator's loss, of its logits: `real` of real pictures with their captions, `wrong` of real
    pictures with captions of others, `fake` of generated pictures with the captions that they were made for.
    The generator's loss is `gan_losses.non_saturating_loss(fake)`. A Tensor of shape ().

    Let p be the density of pictures x with their texts t, r(x, t) = p(x) p(t) the density of pictures with
    any text, and q the density of generated pictures with their texts. The best discriminator takes (r + q)/2
    for the density of pictures that are not real.

    Eq.: L_D = -E ln D(x, t) - ½ E ln(1 - D(x, t')) - ½ E ln(1 - D(G(z, t), t))
        (Reed et al. 2016, algorithm 1, lines 7 to 10)
    Held by: tests/models/text_to_image/test_text_gan.py::test_gradients_of_the_loss
    Eq.: D*(x, t) = p / (p + (r + q)/2),  V(D*) = -ln 4 + 2 JS(p ‖ (r + q)/2)
        (Goodfellow et al. 2014, proposition 1 and theorem 1, with (r + q)/2 in place of q)
    Held by: tests/models/text_to_image/test_text_gan.py::test_the_best_discriminator,
        tests/models/text_to_image/test_text_gan.py::test_the_value_of_the_best_discriminator

    So the best generator has not q = p, but q = 2p - r where this is a density: it avoids pictures that fit
    other texts, too. Where each picture fits one text only, and K texts are equally frequent, it has q = p,
    and D* is 2/(3 + 1/K) there: near 2/3, and not 1/2.
    """
    refused = ops.mean(ops.softplus(wrong)) + ops.mean(ops.softplus(fake))
    return ops.mean(ops.softplus(-real)) + 0.5 * refused

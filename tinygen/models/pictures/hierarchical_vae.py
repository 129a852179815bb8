"""The hierarchical VAE: codes of codes. A chain of codes z_1, ..., z_L above a picture x = z_0, in which each
is drawn from the one above it (Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, section 3; Sønderby et al.
2016, arXiv:1602.02282, section 2). For two levels

    the model     p(x, z_1, z_2) = p(x|z_1) p(z_1|z_2) p(z_2),  p(z_2) = N(0, 1)
    the encoder   q(z_1, z_2|x) = q(z_1|x) q(z_2|z_1)
    the bound     ln p(x) >= E_q[ln p(x|z_1) p(z_1|z_2) p(z_2) / (q(z_1|x) q(z_2|z_1))].

The bound is ln p(x) itself if the encoder is p(z_1, z_2|x), and then the ratio is p(x) for every draw. In a
VAE the codes have the distribution N(0, 1); here the codes z_1 have a prior p(z_1|z_2) that is learned.

A diffusion of T steps is a hierarchical VAE with T levels, z_t = x_t, whose encoder is fixed: it adds noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygen import nn
from tinygen.models.pictures.vae import Decoder, Encoder, pixel_distribution
from tinygen.modes import no_grad
from tinygen.ops.loss import log_normal
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


class HierarchicalVAE(nn.Module):
    """`model.loss(x, rng=rng)` -> nats a picture; `model.sample(n, rng=rng)` -> pictures.

    Perceptrons with one hidden layer of width `hidden`, as in `VAE`. `data` is the number of pixels D,
    `latents` the numbers in the codes z_1, z_2, ..., from the pictures up. `pixels` is "bernoulli" or
    "gaussian". Raises ValueError for less than two levels."""

    def __init__(
        self,
        data: int = 784,
        hidden: int = 400,
        latents: Sequence[int] = (20, 10),
        *,
        pixels: str = "bernoulli",
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if len(latents) < 2:
            raise ValueError(f"latents must have the numbers of two codes or more, got {latents}")
        up = pairwise((data, *latents))
        self.latents = tuple(latents)
        self.encoders = nn.ModuleList([Encoder(a, hidden, b, rng=rng) for a, b in up])  # q(z_l|z_{l-1})
        self.decoder = Decoder(data, hidden, latents[0], rng=rng)  # p(x|z_1)
        self.priors = nn.ModuleList([Encoder(b, hidden, a, rng=rng) for a, b in pairwise(latents)])
        self.pixels = pixel_distribution(pixels)

    def forward(self, x: TensorLike) -> Tensor:
        """The reconstruction of pictures x (B, D): the pixels' means, decoded from the mean of q(z_1|x), (B,
        D)."""
        return self.pixels.mean(self.decoder(self.encoders[0](x).mean))

    def log_weights(self, x: TensorLike, *, rng: RNGLike) -> Tensor:
        """ln p(x, z_1, ..., z_L) / q(z_1, ..., z_L|x) for one draw of the codes from q, for each of the
        pictures x (B, D): (B,). Its expectation is the bound.

        Eq.: ln p(x) ≥ E_q[ln p(x|z_1) p(z_1|z_2) p(z_2) - ln q(z_1|x) q(z_2|z_1)]
            (Sønderby et al. 2016, section 2, in this model's factors)
        Held by: tests/models/pictures/test_hierarchical_vae.py::test_a_linear_chain_with_its_posteriors,
            tests/models/pictures/test_hierarchical_vae.py::test_a_wrong_encoder_costs_its_divergence,
            tests/models/pictures/test_hierarchical_vae.py::test_a_diffusion_has_the_same_bound
        """
        rng = as_generator(rng)
        codes: list[Any] = []
        log_q: Any = 0.0
        below: Any = x
        for encoder in self.encoders:
            q = encoder(below)
            below = q.sample(rng=rng)
            log_q = log_q + log_normal(below, *q).sum(axis=1)  # (B,)
            codes.append(below)
        log_p = log_normal(codes[-1], 0.0, 0.0).sum(axis=1)  # (B,)
        for prior, (z, above) in zip(self.priors, pairwise(codes), strict=True):
            log_p = log_p + log_normal(z, *prior(above)).sum(axis=1)
        return log_p - self.pixels.nll(self.decoder(codes[0]), x, "none").sum(axis=1) - log_q

    def loss(self, x: TensorLike, *, rng: RNGLike) -> Tensor:
        """The negative bound of ln p(x) of pictures x (B, D), with one draw of the codes each: in nats,
        averaged over the batch. A Tensor of shape ()."""
        return -np.mean(self.log_weights(x, rng=rng))  # type: ignore[return-value]

    @no_grad()
    def log_p(self, x: TensorLike, draws: int, *, rng: RNGLike) -> NDArray[np.float64]:
        """A lower bound of ln p(x) for each of the pictures x (B, D), (B,), with `draws` draws of the codes:
        the logarithm of the mean weight, as in `VAE.log_p`."""
        rng = as_generator(rng)
        weights = [self.log_weights(x, rng=rng).numpy().astype(np.float64) for _ in range(draws)]
        highest = np.max(weights, axis=0)
        return highest + np.log(np.mean(np.exp(weights - highest), axis=0))

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes of pictures x (B, D) at the first level: the means of q(z_1|x), (B, Z_1)."""
        return self.encoders[0](x).mean.data

    @no_grad()
    def decode(self, z: TensorLike) -> Array:
        """The means of the pixels of the pictures with codes z = z_1 (B, Z_1): (B, D)."""
        z = np.asarray(z, like=next(iter(self.parameters())).data)
        return self.pixels.mean(self.decoder(z)).data

    @no_grad()
    def sample(self, n: int, *, rng: RNGLike) -> Array:
        """n pictures, as the means of their pixels, (n, D): the highest code from N(0, 1), each of the others
        from the one above it."""
        rng = as_generator(rng)
        noise = rng.standard_normal((n, self.latents[-1]), dtype=np.float32)
        z: Any = np.asarray(noise, like=next(iter(self.parameters())).data)
        for prior in reversed(list(self.priors)):
            z = prior(z).sample(rng=rng)  # (n, Z_l)
        return self.decode(z)

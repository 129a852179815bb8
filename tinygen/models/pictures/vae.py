"""VAE: a picture as a code of a few Gaussian numbers, and back (Kingma & Welling 2013, arXiv:1312.6114).

The decoder is a model p(x|z) of pictures x with codes z, whose prior is p(z) = N(0, 1). The encoder is
q(z|x), a normal distribution that approximates p(z|x). Both are trained by the evidence lower bound (eq. 3),

    ln p(x) >= E_q[ln p(x|z)] - KL(q(z|x) ‖ p(z)).

The expectation is estimated with one z for each picture, drawn as z = μ + σ·ε with ε from N(0, 1), through
which gradients flow to μ and σ (the reparameterization trick, eq. 4). The KL divergence has a closed form
(appendix B):

    KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - 1 - ln σ²) / 2        for each number of the code, then summed.

The encoder puts out μ (`mean`) and ln σ² (`logvar`). There are two VAEs here: `VAE` of perceptrons with one
hidden layer (appendix C), by default with the sizes usual for MNIST, 784-400-20; and `ConvVAE` of
convolutions. The pixels of either are Bernoulli or Gaussian variables.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.ops.loss import log_normal
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


def reparameterize(mean: TensorLike, logvar: TensorLike, *, rng: RNGLike) -> TensorLike:
    """A draw from N(mean, exp(logvar)), differentiable in both: mean + exp(logvar/2)·ε.

    Eq.: z = μ + σ ε,  ε ~ N(0, 1)  (Kingma & Welling 2014, eq. 4)
    Held by: tests/models/pictures/test_vae.py::test_moments_of_the_draw,
        tests/models/pictures/test_vae.py::test_the_draw_is_differentiable
    """
    eps = noise_like(mean.data.astype(np.float32), as_generator(rng)).astype(mean.dtype)
    return mean + np.exp(0.5 * logvar) * eps


class Posterior(NamedTuple):
    """q(z|x) = N(mean, exp(logvar)), both (B, ...), independent in each entry."""

    mean: Tensor
    logvar: Tensor

    def sample(self, *, rng: RNGLike) -> TensorLike:
        """A code of each picture, (B, ...), differentiable in both."""
        return reparameterize(self.mean, self.logvar, rng=rng)


class Losses(NamedTuple):
    """The loss of a VAE and its parts, each a mean over the pictures of the batch."""

    total: Tensor  # to be minimized: reconstruction + β·kl
    reconstruction: Tensor  # of a VAE -ln p(x|z), in nats a picture
    kl: Tensor  # KL(q(z|x) ‖ p(z)), in nats a picture


# -- p(x|z): the distribution of the pixels, from the decoder's output --------------------------------


class Bernoulli(nn.Module):
    """Pixels in [0, 1]; the decoder's output is the logits of their means. For pixels 0 and 1 `nll` is exact;
    for grays between it is the expected one of 0s and 1s drawn with these means."""

    def nll(self, out: Any, x: TensorLike, reduction: str) -> Tensor:
        """-ln p(x|z): "sum" over pixels and pictures, or "none", pixel by pixel."""
        return ops.bce_with_logits(out, x, reduction)

    def mean(self, out: TensorLike) -> TensorLike:
        return ops.sigmoid(out)


class Gaussian(nn.Module):
    """Pixels of any value. The decoder's output is their means; all pixels have the same variance, which is
    learned. A fixed variance would act like another β: the larger it is, the less an error of
    reconstruction weighs against the KL."""

    def __init__(self) -> None:
        self.logvar = nn.Parameter(nn.init.zeros(()))

    def nll(self, out: Any, x: TensorLike, reduction: str) -> Tensor:
        """-ln p(x|z): "sum" over pixels and pictures, or "none", pixel by pixel."""
        losses = -log_normal(x, out, self.logvar)
        return np.sum(losses) if reduction == "sum" else losses

    def mean(self, out: TensorLike) -> TensorLike:
        return out


PIXELS = {"bernoulli": Bernoulli, "gaussian": Gaussian}


# -- of perceptrons --------------------------------------------------------------------------------


class Encoder(nn.Module):
    """x (B, D) -> q(z|x), mean and logvar (B, Z) each."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.fc = nn.Linear(data, hidden, rng=rng)
        self.mean = nn.Linear(hidden, latent, rng=rng)
        self.logvar = nn.Linear(hidden, latent, rng=rng)

    def forward(self, x: TensorLike) -> Posterior:
        h = ops.relu(self.fc(x))  # (B, H)
        return Posterior(self.mean(h), self.logvar(h))


class Decoder(nn.Module):
    """z (B, Z) -> the pixels' logits (Bernoulli) or means (Gaussian), (B, D)."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.fc = nn.Linear(latent, hidden, rng=rng)
        self.out = nn.Linear(hidden, data, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        return self.out(ops.relu(self.fc(z)))


class VAE(nn.Module):
    """`model.loss(x, rng=rng)` -> nats a picture; `model.sample(n, rng=rng)` -> pictures.

    `data` is the number of pixels D, `hidden` the width of the hidden layers, `latent` the numbers of a code,
    Z. `pixels` is "bernoulli" or "gaussian". `beta` is the weight of the KL (Higgins et al. 2017, β-VAE): at
    1 the loss is the negative lower bound. Far below 1 the codes keep more of the picture, but no longer fill
    p(z), so that a code drawn from p(z) decodes to no picture.

    Eq.: L = -E ln p(x|z) + β KL(q(z|x) ‖ p(z))  (Kingma & Welling 2014, eq. 3; β: Higgins et al. 2017)
    Held by: tests/models/pictures/test_vae.py::test_the_bound_is_ln_p_less_the_encoder_s_divergence,
        tests/models/pictures/test_vae.py::test_a_linear_vae_at_ppca_s_optimum
    """

    def __init__(
        self,
        data: int = 784,
        hidden: int = 400,
        latent: int = 20,
        *,
        beta: float = 1.0,
        pixels: str = "bernoulli",
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.latent = latent
        self.beta = beta
        self.encoder: Encoder | ConvEncoder = Encoder(data, hidden, latent, rng=rng)
        self.decoder: Decoder | ConvDecoder = Decoder(data, hidden, latent, rng=rng)
        self.pixels = pixel_distribution(pixels)

    def forward(self, x: TensorLike) -> Tensor:
        """The reconstruction of pictures x (B, D): the pixels' means, decoded from the mean of q(z|x), (B,
        D)."""
        return self.pixels.mean(self.decoder(self.encoder(x).mean))

    def loss(self, x: TensorLike, *, rng: RNGLike) -> Tensor:
        """-E_q[ln p(x|z)] + β KL(q(z|x) ‖ p(z)) of pictures x (B, D), with one code each from q: summed over
        a picture, averaged over the batch. A Tensor of shape ()."""
        return self.losses(x, rng=rng).total

    def losses(self, x: TensorLike, *, rng: RNGLike) -> Losses:
        """The loss and its two parts. The KL is (μ² + σ² - 1 - ln σ²)/2, summed over a code
        (`ops.kl_gaussian`).

        Raises ValueError when the pictures' size is not `data`."""
        q: Posterior = self.encoder(x)
        reconstruction = self.pixels.nll(self.decoder(q.sample(rng=rng)), x, "sum")
        kl = ops.kl_gaussian(q.mean, q.logvar, "sum")
        b = x.shape[0]
        return Losses((reconstruction + self.beta * kl) / b, reconstruction / b, kl / b)

    @no_grad()
    def log_p(self, x: TensorLike, draws: int, *, rng: RNGLike) -> NDArray[np.float64]:
        """A lower bound of ln p(x) for each of the pictures x (B, D), (B,), with `draws` codes each:

            ln 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x),  z_k from q(z|x)

        (Burda et al. 2015, arXiv:1509.00519, eq. 8). With one draw its expectation is the evidence lower
        bound; with more it rises, on average, up to ln p(x).

        Eq.: ln p(x) ≥ E ln 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x)  (Burda et al. 2015, eq. 8)
        Held by: tests/models/pictures/test_vae.py::test_more_draws_come_closer_to_ln_p
        """
        rng = as_generator(rng)
        q: Posterior = self.encoder(x)
        weights = []
        for _ in range(draws):
            z = q.sample(rng=rng)
            nll = self.pixels.nll(self.decoder(z), x, "none").reshape(len(x), -1).sum(axis=1)
            codes = (log_normal(z, 0.0, 0.0) - log_normal(z, q.mean, q.logvar)).sum(axis=1)
            weights.append((codes - nll).numpy().astype(np.float64))
        highest = np.max(weights, axis=0)
        return highest + np.log(np.mean(np.exp(weights - highest), axis=0))

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes of pictures x (B, D): the means of q(z|x), (B, Z)."""
        return self.encoder(x).mean.data

    @no_grad()
    def decode(self, z: TensorLike) -> Array:
        """The means of the pixels of the pictures with codes z (B, Z): (B, D)."""
        z = np.asarray(z, like=self.decoder.fc.weight.data)
        return self.pixels.mean(self.decoder(z)).data

    def sample(self, n: int, *, rng: RNGLike) -> Array:
        """n pictures with codes from the prior, as the means of their pixels: (n, D), in [0, 1] if they are
        Bernoulli."""
        return self.decode(as_generator(rng).standard_normal((n, self.latent), dtype=np.float32))


def pixel_distribution(name: str) -> Bernoulli | Gaussian:
    if name not in PIXELS:
        raise ValueError(f"pixels must be one of {', '.join(PIXELS)}, got {name!r}")
    return PIXELS[name]()  # type: ignore[return-value]


# -- of convolutions -------------------------------------------------------------------------------


class ConvEncoder(nn.Module):
    """x (B, in, S, S) -> q(z|x). Two convolutions of stride 2 halve the side."""

    def __init__(self, in_channels: int, side: int, channels: int, latent: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, rng=rng)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, rng=rng)
        self.conv3 = nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1, rng=rng)
        features = 2 * channels * (side // 4) ** 2
        self.mean = nn.Linear(features, latent, rng=rng)
        self.logvar = nn.Linear(features, latent, rng=rng)

    def forward(self, x: TensorLike) -> Posterior:
        h = ops.relu(self.conv1(x))  # (B, C, S, S)
        h = ops.relu(self.conv2(h))  # (B, 2C, S/2, S/2)
        h = ops.relu(self.conv3(h)).reshape(len(x), -1)  # (B, 2C·S²/16)
        return Posterior(self.mean(h), self.logvar(h))


class ConvDecoder(nn.Module):
    """z (B, Z) -> (B, in, S, S): the encoder's steps in reverse, with transposed convolutions."""

    def __init__(self, in_channels: int, side: int, channels: int, latent: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.start = (2 * channels, side // 4, side // 4)
        self.fc = nn.Linear(latent, math.prod(self.start), rng=rng)
        # Kernels of 4 with a stride of 2: each pixel is the sum of equally many taps, so no checkerboard.
        self.up1 = nn.ConvTranspose2d(2 * channels, 2 * channels, 4, stride=2, padding=1, rng=rng)
        self.up2 = nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1, rng=rng)
        self.out = nn.Conv2d(channels, in_channels, 3, padding=1, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        h = ops.relu(self.fc(z)).reshape(len(z), *self.start)  # (B, 2C, S/4, S/4)
        h = ops.relu(self.up2(ops.relu(self.up1(h))))  # (B, C, S, S)
        return self.out(h)


class ConvVAE(VAE):
    """The same for pictures (B, in_channels, S, S), S = `side` a multiple of 4. `channels` is the width of
    the first convolution; the defaults are for digits of 8 × 8. Raises ValueError for another side."""

    def __init__(
        self,
        in_channels: int = 1,
        side: int = 8,
        channels: int = 32,
        latent: int = 8,
        *,
        beta: float = 1.0,
        pixels: str = "bernoulli",
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if side < 4 or side % 4:
            raise ValueError(f"side must be a multiple of 4, as it is halved twice, got {side}")
        self.latent = latent
        self.beta = beta
        self.encoder = ConvEncoder(in_channels, side, channels, latent, rng=rng)
        self.decoder = ConvDecoder(in_channels, side, channels, latent, rng=rng)
        self.pixels = pixel_distribution(pixels)

"""VAE: a picture as a code of a few Gaussian numbers, and back (Kingma & Welling 2013, arXiv:1312.6114).

The decoder is a model p(x|z) of the pictures x with codes z from p(z) = N(0, 1); the encoder is q(z|x), an
approximation of p(z|x). Both are trained by the evidence lower bound (eq. 3),

    ln p(x) >= E_q[ln p(x|z)] - KL(q(z|x) ‖ p(z)),

with one draw of z a picture, written as z = mean + exp(logvar/2)·noise, through which gradients flow (eq. 4).

Here are two: of perceptrons with one hidden layer (appendix C), whose sizes are those usual for MNIST,
784-400-20; and of convolutions. For either, pixels are Bernoulli or Gaussian variables.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.ops.random import noise_like
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


def reparameterize(mean: TensorLike, logvar: TensorLike, rng: np.random.Generator) -> Any:
    """A draw from N(mean, exp(logvar)) that is differentiable by both: mean + exp(logvar/2)·noise."""
    noise = noise_like(mean.data.astype(np.float32, copy=False), rng).astype(mean.dtype, copy=False)
    return mean + np.exp(0.5 * logvar) * noise


def log_normal(x: TensorLike, mean: TensorLike, logvar: TensorLike) -> Any:
    """ln N(x; mean, exp(logvar)), entry by entry."""
    return -0.5 * (np.square(x - mean) * np.exp(-logvar) + logvar + math.log(2 * math.pi))


class Posterior(NamedTuple):
    """q(z|x) = N(mean, exp(logvar)), number by number, both (B, ...). A logvar may be any number."""

    mean: Tensor
    logvar: Tensor

    def sample(self, rng: np.random.Generator) -> Any:
        """A code of each picture, (B, ...), differentiable by both."""
        return reparameterize(self.mean, self.logvar, rng)


# -- what pixels are, given the code: p(x|z) from what the decoder puts out -------------------------


class Bernoulli(nn.Module):
    """Pixels in [0, 1]: the decoder puts out the logits of their means. A likelihood where they are 0 or 1;
    for greys between, the expected one of pixels drawn with these means."""

    def nll(self, out: Any, x: TensorLike, reduction: str) -> Tensor:
        """-ln p(x|z): "sum" over pixels and pictures, or "none", pixel by pixel."""
        return ops.bce_with_logits(out, x, reduction)

    def mean(self, out: Any) -> Any:
        return ops.sigmoid(out)


class Gaussian(nn.Module):
    """Pixels of any value: the decoder puts out their means, and their variance is learned, one for all. A
    fixed one would be another β: the larger it is, the less an error counts beside the divergence."""

    def __init__(self) -> None:
        self.logvar = nn.Parameter(nn.init.zeros(()))

    def nll(self, out: Any, x: TensorLike, reduction: str) -> Tensor:
        """-ln p(x|z): "sum" over pixels and pictures, or "none", pixel by pixel."""
        losses = -log_normal(x, out, self.logvar)
        return np.sum(losses) if reduction == "sum" else losses

    def mean(self, out: Any) -> Any:
        return out


PIXELS = {"bernoulli": Bernoulli, "gaussian": Gaussian}


# -- of perceptrons --------------------------------------------------------------------------------


class Encoder(nn.Module):
    """x (B, D) -> q(z|x), mean and logvar (B, Z) each."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: np.random.Generator) -> None:
        self.fc = nn.Linear(data, hidden, rng=rng)
        self.mean = nn.Linear(hidden, latent, rng=rng)
        self.logvar = nn.Linear(hidden, latent, rng=rng)

    def forward(self, x: TensorLike) -> Posterior:
        h = ops.relu(self.fc(x))  # (B, H)
        return Posterior(self.mean(h), self.logvar(h))


class Decoder(nn.Module):
    """z (B, Z) -> what the pixels' distribution is made of, (B, D)."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: np.random.Generator) -> None:
        self.fc = nn.Linear(latent, hidden, rng=rng)
        self.out = nn.Linear(hidden, data, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        return self.out(ops.relu(self.fc(z)))


class VAE(nn.Module):
    """`model(x, rng)` -> the loss, in nats a picture; `model.sample(n, rng)` -> pictures.

    `pixels` is "bernoulli" or "gaussian". `beta` is the weight of the divergence (Higgins et al. 2017,
    β-VAE): at 1 the loss is the negative lower bound. Far below 1 the codes keep more of the picture, but no
    longer fill p(z), so that what is drawn from p(z) decodes to no picture."""

    def __init__(
        self,
        data: int = 784,
        hidden: int = 400,
        latent: int = 20,
        *,
        beta: float = 1.0,
        pixels: str = "bernoulli",
        rng: np.random.Generator,
    ) -> None:
        self.latent = latent
        self.beta = beta
        self.encoder: Encoder | ConvEncoder = Encoder(data, hidden, latent, rng=rng)
        self.decoder: Decoder | ConvDecoder = Decoder(data, hidden, latent, rng=rng)
        self.pixels = pixels_called(pixels)

    def forward(self, x: TensorLike, rng: np.random.Generator) -> Tensor:
        """-E_q[ln p(x|z)] + β KL for pictures x (B, D): summed over a picture, averaged over the batch."""
        reconstruction, kl = self.terms(x, rng)
        return (reconstruction + self.beta * kl) / x.shape[0]

    def terms(self, x: TensorLike, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-ln p(x|z) and KL(q(z|x) ‖ p(z)), each summed over the batch, without β.

        Raises ValueError when the pictures' size is another than `data`."""
        q: Posterior = self.encoder(x)
        reconstruction = self.pixels.nll(self.decoder(q.sample(rng)), x, "sum")
        return reconstruction, ops.kl_gaussian(q.mean, q.logvar, "sum")

    @no_grad()
    def log_p(self, x: TensorLike, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
        """A lower bound of ln p(x) for each of the pictures x (B, D), (B,), with `draws` codes each:

            ln 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x),  z_k from q(z|x)

        (Burda et al. 2015, arXiv:1509.00519, eq. 8). With one draw its mean is that of the bound above; with
        more it rises, on average, up to ln p(x)."""
        q: Posterior = self.encoder(x)
        weights = []
        for _ in range(draws):
            z = q.sample(rng)
            nll = self.pixels.nll(self.decoder(z), x, "none").reshape(len(x), -1).sum(axis=1)
            codes = (log_normal(z, 0.0, 0.0) - log_normal(z, q.mean, q.logvar)).sum(axis=1)
            weights.append((codes - nll).numpy().astype(np.float64))
        highest = np.max(weights, axis=0)
        return highest + np.log(np.mean(np.exp(weights - highest), axis=0))

    @no_grad()
    def decode(self, z: TensorLike) -> Array:
        """The means of the pixels of the pictures with codes z (B, Z): (B, D)."""
        z = np.asarray(z, like=self.decoder.fc.weight.data)
        return self.pixels.mean(self.decoder(z)).numpy()

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """The means of the pixels of n pictures from the prior: (n, D), in [0, 1] if they are Bernoulli."""
        return self.decode(rng.standard_normal((n, self.latent), dtype=np.float32))


def pixels_called(name: str) -> Bernoulli | Gaussian:
    if name not in PIXELS:
        raise ValueError(f"pixels must be one of {', '.join(PIXELS)}, got {name!r}")
    return PIXELS[name]()  # type: ignore[return-value]


# -- of convolutions -------------------------------------------------------------------------------


class ConvEncoder(nn.Module):
    """x (B, C, S, S) -> q(z|x). Two convolutions halve the side, by a step of 2."""

    def __init__(
        self, channels: int, side: int, width: int, latent: int, *, rng: np.random.Generator
    ) -> None:
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, rng=rng)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, rng=rng)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1, rng=rng)
        features = 2 * width * (side // 4) ** 2
        self.mean = nn.Linear(features, latent, rng=rng)
        self.logvar = nn.Linear(features, latent, rng=rng)

    def forward(self, x: TensorLike) -> Posterior:
        h = ops.relu(self.conv1(x))  # (B, W, S, S)
        h = ops.relu(self.conv2(h))  # (B, 2W, S/2, S/2)
        h = ops.relu(self.conv3(h)).reshape(len(x), -1)  # (B, 2W·S²/16)
        return Posterior(self.mean(h), self.logvar(h))


class ConvDecoder(nn.Module):
    """z (B, Z) -> (B, C, S, S): the encoder backwards, with transposed convolutions."""

    def __init__(
        self, channels: int, side: int, width: int, latent: int, *, rng: np.random.Generator
    ) -> None:
        self.start = (2 * width, side // 4, side // 4)
        self.fc = nn.Linear(latent, math.prod(self.start), rng=rng)
        # Kernels of 4 with a step of 2: every pixel is reached by as many of their taps.
        self.up1 = nn.ConvTranspose2d(2 * width, 2 * width, 4, stride=2, padding=1, rng=rng)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, rng=rng)
        self.out = nn.Conv2d(width, channels, 3, padding=1, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        h = ops.relu(self.fc(z)).reshape(len(z), *self.start)  # (B, 2W, S/4, S/4)
        h = ops.relu(self.up2(ops.relu(self.up1(h))))  # (B, W, S, S)
        return self.out(h)


class ConvVAE(VAE):
    """The same for pictures (B, C, S, S) that keep their shape, S a multiple of 4; the defaults are for
    digits of 8 × 8. Raises ValueError for another S."""

    def __init__(
        self,
        channels: int = 1,
        side: int = 8,
        width: int = 32,
        latent: int = 8,
        *,
        beta: float = 1.0,
        pixels: str = "bernoulli",
        rng: np.random.Generator,
    ) -> None:
        if side < 4 or side % 4:
            raise ValueError(f"side must be a multiple of 4, as it is halved twice, got {side}")
        self.latent = latent
        self.beta = beta
        self.encoder = ConvEncoder(channels, side, width, latent, rng=rng)
        self.decoder = ConvDecoder(channels, side, width, latent, rng=rng)
        self.pixels = pixels_called(pixels)

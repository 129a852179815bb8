"""VQ-VAE: a picture as a small map of code numbers, and back (van den Oord et al. 2017, arXiv:1711.00937).

The encoder gives a map of vectors z; each is replaced by the nearest of K vectors e, the codebook, and the
decoder makes the picture of those. Choosing the nearest has no gradient. Three terms train the parts (eq. 3):

    reconstruction   (x - decoder(e))²   the decoder, and the encoder as if e were z ("straight through")
    codebook         (sg[z] - e)²        the codes only: they move to the vectors that chose them
    commitment       β (z - sg[e])²      the encoder only: its vectors stay near their codes

where sg, stop gradient, makes a constant. β belongs to the commitment. Each square here is the mean over all
its entries, also over channels. The second term is that of k-means; instead of its gradient steps the codes
may be running means of the vectors that chose them (appendix A.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.nn import init
from tinygen.tape import detach
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike

SMOOTHING = 1e-5  # of the counts (Laplace), so that no mean is over nothing


def nearest(z: Array, codebook: Array) -> Array:
    """For each of N vectors z (N, C) the number of the nearest of K codes (K, C), (N,); of equals the first.

    Of ‖z - e‖² = ‖z‖² - 2 z·e + ‖e‖² the first part is the same for all codes; the rest takes one matrix
    product, and (N, K) numbers. Both are moved so that the middle of the codes is 0: far from there, z·e and
    ‖e‖² would be large, and their difference would have no digits."""
    center = (codebook.min(axis=0) + codebook.max(axis=0)) / 2
    z, codebook = z - center, codebook - center
    distance: Array = ops.matmul(z, -2 * codebook.T)
    distance += (codebook * codebook).sum(axis=1)
    return distance.argmin(axis=1)


def perplexity(codes: Array, k: int) -> float:
    """How many of k codes are in use, exp of the entropy of their frequencies: 1 if all of `codes` are the
    same, k if each code comes as often as any other."""
    p = np.bincount(codes.ravel(), minlength=k) / codes.size
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


class Quantized(NamedTuple):
    """What `VectorQuantizer` makes of z (B, C, H, W)."""

    z: Tensor  # (B, C, H, W), the chosen codes; its gradient is passed on to z as it is
    codes: Array  # (B, H, W), their numbers
    codebook: Tensor  # the mean of (sg[z] - e)²
    commitment: Tensor  # the mean of (z - sg[e])²; β is not in it


class VectorQuantizer(nn.Module):
    """z (B, C, H, W) -> the nearest of K codes at every place, and the two terms that keep both together.

    The codes start uniform within ±1/K. They are a parameter; or with `ema`, for which the codebook term is
    not needed, running means: each forward pass in training mode takes in its batch. `decay` is that of the
    means, and of the count of how often a batch chooses each code, which `restart` looks at."""

    codebook: Tensor
    count: Tensor
    total: Tensor

    def __init__(
        self, codes: int, dim: int, ema: bool = False, decay: float = 0.99, *, rng: np.random.Generator
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        start = init.uniform((codes, dim), 1 / codes, rng=rng)
        self.ema = ema
        self.decay = decay
        self.register_buffer("count", init.ones((codes,)))  # N of appendix A.1
        if ema:
            self.register_buffer("codebook", start)
            self.register_buffer("total", start.copy())  # m, whose e is m / N
        else:
            self.codebook = nn.Parameter(start)

    def forward(self, z: TensorLike) -> Quantized:
        """Raises ValueError when z has another number of channels than the codes."""
        if z.ndim != 4 or z.shape[1] != self.codebook.shape[1]:
            dim = self.codebook.shape[1]
            raise ValueError(f"z must be (B, C, H, W) with the {dim} channels of the codes, got {z.shape}")
        rows = channels_last(z)  # (B·H·W, C)
        codes = nearest(rows, self.codebook.data)
        e = self.lookup(codes.reshape(z.shape[0], *z.shape[2:]))  # (B, C, H, W)
        if self.training:
            self.record(rows, codes)
        # The value is e to the last bit, since z - z is 0; the gradient by z is 1.
        through = detach(e) + (z - detach(z))
        terms = ops.mse(e, detach(z)), ops.mse(z, detach(e))
        return Quantized(through, codes.reshape(z.shape[0], *z.shape[2:]), *terms)

    def lookup(self, codes: Any) -> Tensor:
        """The vectors (B, C, H, W) of code numbers (B, H, W); IndexError for one outside [0, K)."""
        return np.transpose(ops.embedding(self.codebook, codes), (0, 3, 1, 2))  # type: ignore[return-value]

    def record(self, rows: Array, codes: Array) -> None:
        """Move the counts, and the means, towards those of a batch of vectors (N, C) and their codes (N,). A
        batch with a NaN or an infinity is left out: a running mean would never lose it again."""
        k = len(self.count.data)
        rate = np.where(np.isfinite(rows).all(), 1 - self.decay, 0.0).astype(rows.dtype)
        rows = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
        chosen = np.equal(codes[:, None], np.arange(k, like=codes)).astype(rows.dtype)  # (N, K)
        self.count.data += rate * (chosen.sum(axis=0) - self.count.data)
        if self.ema:
            self.total.data += rate * (ops.matmul(chosen.T, rows) - self.total.data)
            n = self.count.data.sum()
            smooth = (self.count.data + SMOOTHING) * (n / (n + k * SMOOTHING))
            self.codebook.data = self.total.data / smooth[:, None]

    def restart(self, z: TensorLike, rng: np.random.Generator, below: float = 1.0) -> int:
        """Put codes that batches choose less than `below` times, on average, in the places of random vectors
        of z (B, C, H, W), where there is something to choose them for (Dhariwal et al. 2020,
        arXiv:2005.00341, section 3.1). They then count as chosen by their share of z. Returns how many.

        `below=np.inf` takes all codes from z: a better start than near 0 where z is not there."""
        rows = channels_last(z)
        dead = self.count.data < below  # (K,)
        n, share = int(dead.sum()), len(rows) / len(dead)
        found = np.zeros_like(self.codebook.data)
        found[dead] = rows[rng.choice(len(rows), n, replace=n > len(rows))]
        self.codebook.data = np.where(dead[:, None], found, self.codebook.data)
        self.count.data = np.where(dead, self.count.data.dtype.type(share), self.count.data)
        if self.ema:
            self.total.data = np.where(dead[:, None], share * found, self.total.data)
        return n


def channels_last(z: TensorLike) -> Array:
    """The vectors (B·H·W, C) of a map (B, C, H, W), off the tape."""
    array = z.data if isinstance(z, Tensor) else z
    return array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1])


class Residual(nn.Module):
    """x (B, C, H, W) -> x + conv1×1(ReLU(conv3×3(ReLU(x)))) (section 4.1)."""

    def __init__(self, channels: int, *, rng: np.random.Generator) -> None:
        self.near = nn.Conv2d(channels, channels, 3, padding=1, rng=rng)
        self.mix = nn.Conv2d(channels, channels, 1, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        return x + self.mix(ops.relu(self.near(ops.relu(x))))


def encoder(channels: int, width: int, dim: int, rng: np.random.Generator) -> nn.Sequential:
    """x (B, channels, 4H, 4W) -> z (B, dim, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 4, stride=2, padding=1, rng=rng),
        ops.relu,
        nn.Conv2d(width // 2, width, 4, stride=2, padding=1, rng=rng),
        Residual(width, rng=rng),
        Residual(width, rng=rng),
        ops.relu,
        nn.Conv2d(width, dim, 1, rng=rng),
    )


def decoder(channels: int, width: int, dim: int, rng: np.random.Generator) -> nn.Sequential:
    """z (B, dim, H, W) -> x (B, channels, 4H, 4W)."""
    return nn.Sequential(
        nn.Conv2d(dim, width, 3, padding=1, rng=rng),
        Residual(width, rng=rng),
        Residual(width, rng=rng),
        ops.relu,
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, rng=rng),
        ops.relu,
        nn.ConvTranspose2d(width // 2, channels, 4, stride=2, padding=1, rng=rng),
    )


class Losses(NamedTuple):
    total: Tensor  # what to minimise
    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor  # without β
    codes: Array  # (B, H, W)


class VQVAE(nn.Module):
    """Pictures (B, channels, 4H, 4W) as codes (B, H, W) from 0 to K - 1.

    `width` is the number of channels inside, `dim` that of the codes' vectors."""

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        dim: int = 16,
        codes: int = 128,
        beta: float = 0.25,
        ema: bool = False,
        decay: float = 0.99,
        *,
        rng: np.random.Generator,
    ) -> None:
        self.beta = beta
        self.encoder = encoder(channels, width, dim, rng)
        self.quantizer = VectorQuantizer(codes, dim, ema, decay, rng=rng)
        self.decoder = decoder(channels, width, dim, rng)

    def forward(self, x: TensorLike) -> Losses:
        """The terms of eq. 3, each the mean of squares over all entries; with `ema` the codebook term is
        reported, and no part of the total. Raises ValueError when x is no (B, C, 4H, 4W)."""
        z, codes, codebook, commitment = self.quantizer(self.latents(x))
        reconstruction = ops.mse(self.decoder(z), x)
        total = reconstruction + self.beta * commitment
        if not self.quantizer.ema:
            total = total + codebook
        return Losses(total, reconstruction, codebook, commitment, codes)

    def latents(self, x: TensorLike) -> Tensor:
        """z (B, dim, H, W) of pictures (B, C, 4H, 4W), not quantised."""
        if x.ndim != 4 or x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"pictures must be (B, C, 4H, 4W), with sides in fours, got {x.shape}")
        return self.encoder(x)

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes (B, H, W) of pictures (B, C, 4H, 4W)."""
        z = self.latents(x)
        codes = nearest(channels_last(z), self.quantizer.codebook.data)
        return codes.reshape(z.shape[0], *z.shape[2:])

    @no_grad()
    def decode(self, codes: Array) -> Array:
        """The pictures (B, C, 4H, 4W) of codes (B, H, W)."""
        return self.decoder(self.quantizer.lookup(codes)).data

    @no_grad()
    def restart(self, x: TensorLike, rng: np.random.Generator, below: float = 1.0) -> int:
        """`VectorQuantizer.restart` with the vectors of pictures x."""
        return self.quantizer.restart(self.latents(x), rng, below)

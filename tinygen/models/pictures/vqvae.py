"""VQ-VAE: a picture as a small map of code numbers, and back (van den Oord et al. 2017, arXiv:1711.00937).

The encoder makes a map of vectors z. Each is replaced by the nearest of K vectors e, the codebook, and the
decoder makes the picture from these. Choosing the nearest has no gradient, so three terms train the parts
(eq. 3):

    reconstruction   (x - decoder(e))²   the decoder, and the encoder as if e were z ("straight through")
    codebook         (sg[z] - e)²        the codebook only: its vectors move to the z that chose them
    commitment       β (z - sg[e])²      the encoder only: its z stay near the vectors that they chose

where sg, stop gradient, makes a constant of its argument. β weighs the commitment. Each square here is the
mean over all its entries, also over channels. The second term is the objective of k-means; instead of
following its gradient, the codebook may be running means of the z that chose each vector (appendix A.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.nn import init
from tinygen.ops.random import RNGLike, as_generator
from tinygen.rows import batch_sum
from tinygen.tape import detach
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, TensorLike

SMOOTHING = 1e-5  # of the counts (Laplace), so that no mean is over nothing


def nearest_codes(z: Array, codebook: Array) -> Array:
    """For each of N vectors z (N, C) the number of the nearest of the K vectors of the codebook (K, C): (N,).
    Of equally near ones it is the first.

    In ‖z - e‖² = ‖z‖² - 2 z·e + ‖e‖² the first part is the same for all e; the rest takes one matrix product,
    and (N, K) numbers. Both are shifted so that the center of the codebook is 0: far from 0, z·e and ‖e‖²
    would be large, and their difference would lose its digits."""
    center = (codebook.min(axis=0) + codebook.max(axis=0)) / 2
    z, codebook = z - center, codebook - center
    distance: Array = ops.matmul(z, -2 * codebook.T)
    distance += (codebook * codebook).sum(axis=1)
    return distance.argmin(axis=1)


def perplexity(codes: Array, k: int) -> float:
    """How many of k codes are in use: exp of the entropy of their frequencies in `codes`. It is 1 if all are
    the same, k if each code is as frequent as any other."""
    p = np.bincount(codes.ravel(), minlength=k) / codes.size
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


class Quantized(NamedTuple):
    """The output of `VectorQuantizer` for z (B, C, H, W)."""

    z: Tensor  # (B, C, H, W), the chosen vectors of the codebook; its gradient goes to z unchanged
    codes: Array  # (B, H, W), their numbers, 0 ... K - 1
    codebook: Tensor  # the mean of (sg[z] - e)²
    commitment: Tensor  # the mean of (z - sg[e])²; β is not in it


class VectorQuantizer(nn.Module):
    """z (B, C, H, W) -> the nearest of K vectors at every position, and the two terms that keep z and codes
    close.

    K is `num_codes`, C is `dim`. The codebook is initialized uniformly in ±1/K. It is a parameter. With
    `ema` it has running means instead, updated in each forward pass in training mode, and the codebook term
    is not needed. `decay` is the decay of these means, and of the mean number of times that a batch chooses
    each code (`restart`)."""

    codebook: Tensor
    count: Tensor
    total: Tensor

    def __init__(
        self, num_codes: int, dim: int, ema: bool = False, decay: float = 0.99, *, rng: RNGLike
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        start = init.uniform((num_codes, dim), 1 / num_codes, rng=rng)
        self.ema = ema
        self.decay = decay
        self.register_buffer("count", init.ones((num_codes,)))  # N of appendix A.1
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
        codes = nearest_codes(rows, self.codebook.data)
        e = self.lookup(codes.reshape(z.shape[0], *z.shape[2:]))  # (B, C, H, W)
        if self.training:
            self.record(rows, codes)
        # The value is e to the last bit, since z - z is 0; the gradient by z is 1.
        through = detach(e) + (z - detach(z))
        terms = ops.mse(e, detach(z)), ops.mse(z, detach(e))
        return Quantized(through, codes.reshape(z.shape[0], *z.shape[2:]), *terms)

    def lookup(self, codes: Ids) -> Tensor:
        """The vectors (B, C, H, W) of code numbers (B, H, W); IndexError for one outside [0, K)."""
        return np.transpose(ops.embedding(self.codebook, codes), (0, 3, 1, 2))  # type: ignore[return-value]

    def record(self, rows: Array, codes: Array) -> None:
        """Update the running counts and means with a batch of vectors (N, C) and their codes (N,). A batch
        that contains NaN or infinity is skipped, because a running mean would keep it forever."""
        k = len(self.count.data)
        usable = batch_sum((~np.isfinite(rows)).sum()) == 0
        rate = np.where(usable, 1 - self.decay, 0.0).astype(rows.dtype)
        rows = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
        chosen = np.equal(codes[:, None], np.arange(k, like=codes)).astype(rows.dtype)  # (N, K)
        self.count.data += rate * (batch_sum(chosen.sum(axis=0)) - self.count.data)
        if self.ema:
            self.total.data += rate * (batch_sum(ops.matmul(chosen.T, rows)) - self.total.data)
            n = self.count.data.sum()
            smooth = (self.count.data + SMOOTHING) * (n / (n + k * SMOOTHING))
            self.codebook.data = self.total.data / smooth[:, None]

    def restart(self, z: TensorLike, below: float = 1.0, *, rng: RNGLike) -> int:
        """Move codes that a batch chooses less than `below` times, on average, to random vectors of z (B, C,
        H, W), so that they are chosen again (Dhariwal et al. 2020, arXiv:2005.00341, section 3.1). Each then
        counts as chosen by an equal share of z. Returns how many codes were moved.

        `below=np.inf` moves all codes: a better start than near 0 when z is far from there."""
        rows = channels_last(z)
        dead = self.count.data < below  # (K,)
        n, share = int(dead.sum()), len(rows) / len(dead)
        drawn = np.zeros_like(self.codebook.data)
        drawn[dead] = rows[as_generator(rng).choice(len(rows), n, replace=n > len(rows))]
        self.codebook.data = np.where(dead[:, None], drawn, self.codebook.data)
        self.count.data = np.where(dead, self.count.data.dtype.type(share), self.count.data)
        if self.ema:
            self.total.data = np.where(dead[:, None], share * drawn, self.total.data)
        return n


def channels_last(z: TensorLike) -> Array:
    """The vectors (B·H·W, C) of a map (B, C, H, W), off the tape."""
    array = z.data if isinstance(z, Tensor) else z
    return array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1])


class Residual(nn.Module):
    """x (B, C, H, W) -> x + conv1×1(ReLU(conv3×3(ReLU(x)))) (section 4.1)."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.near = nn.Conv2d(channels, channels, 3, padding=1, rng=rng)
        self.mix = nn.Conv2d(channels, channels, 1, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        return x + self.mix(ops.relu(self.near(ops.relu(x))))


def make_encoder(in_channels: int, channels: int, dim: int, *, rng: np.random.Generator) -> nn.Sequential:
    """x (B, in_channels, 4H, 4W) -> z (B, dim, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels // 2, 4, stride=2, padding=1, rng=rng),
        ops.relu,
        nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1, rng=rng),
        Residual(channels, rng=rng),
        Residual(channels, rng=rng),
        ops.relu,
        nn.Conv2d(channels, dim, 1, rng=rng),
    )


def make_decoder(in_channels: int, channels: int, dim: int, *, rng: np.random.Generator) -> nn.Sequential:
    """z (B, dim, H, W) -> x (B, in_channels, 4H, 4W)."""
    return nn.Sequential(
        nn.Conv2d(dim, channels, 3, padding=1, rng=rng),
        Residual(channels, rng=rng),
        Residual(channels, rng=rng),
        ops.relu,
        nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, rng=rng),
        ops.relu,
        nn.ConvTranspose2d(channels // 2, in_channels, 4, stride=2, padding=1, rng=rng),
    )


class Losses(NamedTuple):
    total: Tensor  # to be minimized: reconstruction + β·commitment, and without `ema` + codebook
    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor  # without β
    codes: Array  # (B, H, W)


class VQVAE(nn.Module):
    """`model.loss(x)` -> the loss; `model.encode(x)` -> codes; `model.decode(codes)` -> pictures.

    Pictures are (B, in_channels, 4H, 4W), codes (B, H, W) from 0 to `num_codes` - 1. `channels` is the width
    of the network, `dim` the length of the codebook's vectors.

    Eq.: L = -ln p(x|z_q) + |sg(z_e) - e|² + β |z_e - sg(e)|²  (van den Oord et al. 2017, eq. 3)
    Held by: tests/models/pictures/test_vqvae.py::test_the_codebook_term_moves_codes_only,
        tests/models/pictures/test_vqvae.py::test_the_commitment_term_moves_the_encoder_only
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 64,
        dim: int = 16,
        num_codes: int = 128,
        beta: float = 0.25,
        ema: bool = False,
        decay: float = 0.99,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.beta = beta
        self.encoder = make_encoder(in_channels, channels, dim, rng=rng)
        self.quantizer = VectorQuantizer(num_codes, dim, ema, decay, rng=rng)
        self.decoder = make_decoder(in_channels, channels, dim, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        """The reconstruction of pictures x (B, C, 4H, 4W) from their codes: (B, C, 4H, 4W)."""
        return self.decoder(self.quantizer(self.latents(x)).z)

    def loss(self, x: TensorLike) -> Tensor:
        """Eq. 3 for pictures x (B, C, 4H, 4W), each term the mean of squares over all entries: a Tensor of
        shape (). Nothing is drawn. Raises ValueError when x is no (B, C, 4H, 4W)."""
        return self.losses(x).total

    def losses(self, x: TensorLike) -> Losses:
        """The loss, its parts, and the codes; with `ema` the codebook term is no part of the total."""
        z, codes, codebook, commitment = self.quantizer(self.latents(x))
        reconstruction = ops.mse(self.decoder(z), x)
        total = reconstruction + self.beta * commitment
        if not self.quantizer.ema:
            total = total + codebook
        return Losses(total, reconstruction, codebook, commitment, codes)

    def latents(self, x: TensorLike) -> Tensor:
        """z (B, dim, H, W) of pictures x (B, C, 4H, 4W), before quantization."""
        if x.ndim != 4 or x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"pictures must be (B, C, 4H, 4W), with sides divisible by 4, got {x.shape}")
        return self.encoder(x)

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes (B, H, W) of pictures x (B, C, 4H, 4W): integers from 0 to K - 1."""
        z = self.latents(x)
        codes = nearest_codes(channels_last(z), self.quantizer.codebook.data)
        return codes.reshape(z.shape[0], *z.shape[2:])

    @no_grad()
    def decode(self, codes: Ids) -> Array:
        """The pictures (B, C, 4H, 4W) of codes (B, H, W). IndexError for a code outside [0, K)."""
        return self.decoder(self.quantizer.lookup(codes)).data

    @no_grad()
    def restart(self, x: TensorLike, below: float = 1.0, *, rng: RNGLike) -> int:
        """`VectorQuantizer.restart` with the vectors of pictures x."""
        return self.quantizer.restart(self.latents(x), below, rng=rng)

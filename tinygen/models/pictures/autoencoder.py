"""The KL autoencoder of latent diffusion: a picture as a smaller picture, whose every pixel is a Gaussian
(Rombach et al. 2022, arXiv:2112.10752, section 3.1 and appendix G).

An encoder halves the picture once less than there are `multipliers`, by residual blocks with convolutions
between them; a decoder doubles it as often. Nothing goes around the code in the middle: there are no skip
connections. The loss is that of a VAE (`vae.py`), an error of reconstruction and the divergence of the codes
from N(0, 1), and the weight of the second makes two kinds of model of it:

    2σ²     a generative VAE. With "l2" this weight makes the loss, but for a constant, 2σ² times the negative
            bound in nats, for pixels from N(decoded, σ²): 1 is for pixels known to 0.7, 0.02 for 0.1. The
            codes fill N(0, 1), so that what is drawn from it decodes to pictures, if blurred ones.
    1e-6    the first stage of latent diffusion. The codes keep nearly all of the picture, and the divergence
            merely holds them in bounds. What is drawn from N(0, 1) decodes to *noise*: to make pictures, a
            second model, a diffusion, must learn where the codes lie.

Weights of the divergence can be compared only where the reductions are the same: here, as in latent
diffusion, both terms are summed over a picture and averaged over the batch. Latent diffusion adds a
perceptual and an adversarial term, which need other networks and are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen import nn, ops
from tinygen.models.pictures.vae import Posterior
from tinygen.nn.residual import norm_of, zeroed
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike

EPS = 1e-6  # added to the variance in group norms
START_LOGVAR = -6.0  # of the codes: a std of 0.05
RECONSTRUCTION = {"l2": ops.mse, "l1": ops.l1}


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder. Latent diffusion's f = 8 has channels 128, multipliers (1, 2, 4, 4),
    2 blocks, 32 groups; the defaults, f = 4, are for 32 × 32 pixels on a CPU."""

    in_channels: int = 3
    latent: int = 4  # channels of a code, Z
    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)  # of `channels`, for each size of the picture, largest first
    blocks: int = 1  # residual blocks for each size; the decoder has one more
    attention: bool = True  # among the positions of the smallest size
    groups: int | None = None  # of channels, in group norms; None leaves it to `nn.ResBlock`
    reconstruction: str = "l2"  # (x - y)², or "l1", |x - y|; summed over a picture
    kl_weight: float = 1e-6  # of the divergence, summed over a code

    @property
    def factor(self) -> int:
        """f: a picture is as many times as high and as wide as its code."""
        return 1 << (len(self.multipliers) - 1)


class Halve(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2) by a convolution of step 2. The zeros that it needs stand below and to
    the right only, as in latent diffusion: with zeros all around, other pixels would be the centres."""

    def __init__(self, channels: int, *, rng: np.random.Generator) -> None:
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        return self.conv(np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1))))


def middle(channels: int, config: AutoencoderConfig, rng: np.random.Generator) -> nn.Sequential:
    """Two residual blocks, and between them every position looks at all: (B, C, h, w) -> (B, C, h, w)."""
    steps: list[nn.Module] = [residual(channels, channels, config, rng) for _ in range(2)]
    if config.attention:
        steps.insert(1, nn.SpatialAttention(channels, 1, config.groups, EPS, rng=rng))
    return nn.Sequential(*steps)


def residual(a: int, b: int, config: AutoencoderConfig, rng: np.random.Generator) -> nn.ResBlock:
    """Without an embedding: nothing of the autoencoder depends on a step."""
    return nn.ResBlock(a, b, groups=config.groups, eps=EPS, rng=rng)


def identity(channels: int, rng: np.random.Generator) -> nn.Conv2d:
    """A 1×1 convolution that starts as the identity."""
    layer = zeroed(nn.Conv2d(channels, channels, 1, rng=rng))
    layer.weight.data = np.eye(channels, dtype=np.float32)[:, :, None, None]
    return layer


class Encoder(nn.Module):
    """x (B, C, H, W) -> the code's moments (B, 2Z, H/f, W/f): means, then logarithms of variances."""

    def __init__(self, config: AutoencoderConfig, *, rng: np.random.Generator) -> None:
        c = config
        widths = [c.channels * m for m in c.multipliers]
        self.stem = nn.Conv2d(c.in_channels, widths[0], 3, padding=1, rng=rng)
        self.levels = nn.ModuleList()
        for a, b in zip([widths[0], *widths], widths, strict=False):
            steps: list[nn.Module] = [residual(b if i else a, b, c, rng) for i in range(c.blocks)]
            if len(self.levels) < len(widths) - 1:
                steps.append(Halve(b, rng=rng))
            self.levels.append(nn.Sequential(*steps))
        self.middle = middle(widths[-1], c, rng)
        self.norm = norm_of(widths[-1], c.groups, EPS)
        self.out = nn.Conv2d(widths[-1], 2 * c.latent, 3, padding=1, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        h = self.stem(x)
        for level in self.levels:
            h = level(h)
        return self.out(ops.silu(self.norm(self.middle(h))))


class Decoder(nn.Module):
    """z (B, Z, h, w) -> pictures (B, C, f h, f w)."""

    def __init__(self, config: AutoencoderConfig, *, rng: np.random.Generator) -> None:
        c = config
        widths = [c.channels * m for m in reversed(c.multipliers)]
        self.stem = nn.Conv2d(c.latent, widths[0], 3, padding=1, rng=rng)
        self.middle = middle(widths[0], c, rng)
        self.levels = nn.ModuleList()
        for a, b in zip([widths[0], *widths], widths, strict=False):
            steps: list[nn.Module] = [residual(b if i else a, b, c, rng) for i in range(c.blocks + 1)]
            if len(self.levels) < len(widths) - 1:
                steps.append(nn.Upsample(b, rng=rng))
            self.levels.append(nn.Sequential(*steps))
        self.norm = norm_of(widths[-1], c.groups, EPS)
        self.out = nn.Conv2d(widths[-1], c.in_channels, 3, padding=1, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        h = self.middle(self.stem(z))
        for level in self.levels:
            h = level(h)
        return self.out(ops.silu(self.norm(h)))


class AutoencoderKL(nn.Module):
    """`model(x, rng)` -> the loss of a picture; `model.encode(x)` -> q(z|x); `model.decode(z)` -> pictures.

    A diffusion wants codes with variance 1: it is trained on `z * model.scale`, and what it makes is decoded
    by `model.decode(z / model.scale)`. The scale is 1 until `model.scale.data = latent_scale(z)` is set; it
    is saved with the weights.

    It learns much sooner from a simple start: residual blocks and attention as their shortcuts, the 1×1
    convolutions around the code as the identity, and codes with little noise."""

    scale: Tensor

    def __init__(self, config: AutoencoderConfig, rng: np.random.Generator) -> None:
        if config.reconstruction not in RECONSTRUCTION:
            raise ValueError(
                f"reconstruction is one of {list(RECONSTRUCTION)}, got {config.reconstruction!r}"
            )
        z = config.latent
        self.config = config
        self.encoder = Encoder(config, rng=rng)
        self.to_moments, self.from_code = (identity(channels, rng) for channels in (2 * z, z))
        self.to_moments.bias = nn.Parameter(np.repeat(np.array([0, START_LOGVAR], np.float32), z))
        self.decoder = Decoder(config, rng=rng)
        self.register_buffer("scale", np.ones((), np.float32))

    def encode(self, x: TensorLike) -> Posterior:
        """q(z|x) of pictures x (B, C, H, W), H and W multiples of `config.factor`. Logarithms of variances
        beyond [-30, 20] are set to the bounds: they overflow no exp, and a variance of 1e-13 is exact enough.

        Raises ValueError for pictures of another shape."""
        f, channels = self.config.factor, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"the autoencoder takes pictures (B, {channels}, H, W), H and W multiples of {f}, "
                f"got {x.shape}"
            )
        mean, logvar = ops.split(self.to_moments(self.encoder(x)), 2, axis=1)
        return Posterior(mean, ops.clip(logvar, -30.0, 20.0))

    def decode(self, z: TensorLike) -> Tensor:
        """Codes (B, Z, h, w), not scaled -> pictures (B, C, f h, f w), in the range of the training's."""
        return self.decoder(self.from_code(z))

    def forward(self, x: TensorLike, rng: np.random.Generator) -> Tensor:
        """The loss: the two `terms`, the second weighted by `config.kl_weight`, the mean over the batch."""
        reconstruction, kl = self.terms(x, rng)
        return (reconstruction + self.config.kl_weight * kl) / x.shape[0]

    def terms(self, x: TensorLike, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The error of the pictures x (B, C, H, W), summed over their pixels, and the divergence KL(q(z|x) ‖
        N(0, 1)) in nats, summed over the entries of their codes; both summed over the batch.

        Raises ValueError as `encode` does."""
        posterior = self.encode(x)
        decoded = self.decode(posterior.sample(rng))
        error = RECONSTRUCTION[self.config.reconstruction](decoded, x, "sum")
        return error, ops.kl_gaussian(posterior.mean, posterior.logvar, "sum")


def latent_scale(z: TensorLike) -> Array:
    """1 / (the standard deviation of all entries of z together): a float32 array of shape ().

    Times this, codes have the variance that a diffusion expects. Rombach et al. 2022, appendix G; measured
    there on the first batch. It is the *reciprocal*, though diffusers' documentation of `scaling_factor`
    calls it the standard deviation.

    Raises ValueError where the standard deviation is 0 or not finite."""
    std = float(np.std(np.asarray(z, np.float64)))
    if not 0 < std < np.inf:
        raise ValueError(f"codes of standard deviation {std} cannot be scaled to 1: train the encoder first")
    return np.asarray(1 / std, np.float32)

"""The KL autoencoder of latent diffusion: a picture as a smaller picture, whose every pixel is a Gaussian
(Rombach et al. 2022, arXiv:2112.10752, section 3.1 and appendix G).

The encoder consists of residual blocks; between each two of its levels (one for each of the `multipliers`) a
convolution halves the picture. The decoder doubles it as often. There are no skip connections around the
code. The loss is a VAE's (`vae.py`): an error of reconstruction plus a weight times the KL divergence of the
codes from N(0, 1). The weight decides which of two kinds of model this is:

    2σ²     a generative VAE. With "l2" this weight makes the loss, except for a constant, 2σ² times the
            negative evidence lower bound in nats, for pixels from N(decoded, σ²): a weight of 1 is for σ =
            0.7, 0.02 for σ = 0.1. The codes fill N(0, 1), so that a draw from it decodes to a picture, if a
            blurred one.
    1e-6    the first stage of latent diffusion. The codes keep nearly all of the picture, and the KL only
            keeps them bounded. A draw from N(0, 1) decodes to *noise*: to make pictures, a second model, a
            diffusion model, must learn the distribution of the codes.

Weights of the KL can be compared only where the reductions are the same: here, as in latent diffusion, both
terms are summed over a picture and averaged over the batch. Latent diffusion adds a perceptual and an
adversarial term, which need other networks and are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen import nn, ops
from tinygen.models.pictures.vae import Losses, Posterior
from tinygen.modes import no_grad
from tinygen.nn.residual import make_group_norm, zero_init
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
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
    reconstruction: str = "l2"  # the sum over a picture of (x - y)², or "l1", of |x - y|
    kl_weight: float = 1e-6  # of the divergence, summed over a code

    @property
    def factor(self) -> int:
        """The downsampling factor f: a picture is f times as high and as wide as its code."""
        return 1 << (len(self.multipliers) - 1)


class Halve(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2) by a convolution of stride 2. It is padded with zeros below and on the
    right only, as in latent diffusion: with zeros on all sides, the kernel would be centered on other
    pixels."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        return self.conv(np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1))))


def middle(channels: int, config: AutoencoderConfig, *, rng: np.random.Generator) -> nn.Sequential:
    """Two residual blocks, self-attention among all positions between them: (B, C, h, w) -> (B, C, h, w)."""
    steps: list[nn.Module] = [residual(channels, channels, config, rng=rng) for _ in range(2)]
    if config.attention:
        steps.insert(1, nn.SpatialAttention(channels, 1, config.groups, EPS, rng=rng))
    return nn.Sequential(*steps)


def residual(a: int, b: int, config: AutoencoderConfig, *, rng: np.random.Generator) -> nn.ResBlock:
    """A residual block without an embedding: the autoencoder depends on no timestep."""
    return nn.ResBlock(a, b, groups=config.groups, eps=EPS, rng=rng)


def identity(channels: int, *, rng: np.random.Generator) -> nn.Conv2d:
    """A 1×1 convolution that starts as the identity."""
    layer = zero_init(nn.Conv2d(channels, channels, 1, rng=rng))
    layer.weight.data = np.eye(channels)[:, :, None, None]
    return layer


class Encoder(nn.Module):
    """x (B, C, H, W) -> the moments of q(z|x), (B, 2Z, H/f, W/f): the means, then ln of the variances."""

    def __init__(self, config: AutoencoderConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = config
        widths = [c.channels * m for m in c.multipliers]
        self.stem = nn.Conv2d(c.in_channels, widths[0], 3, padding=1, rng=rng)
        self.levels = nn.ModuleList()
        for a, b in zip([widths[0], *widths], widths, strict=False):
            steps: list[nn.Module] = [residual(b if i else a, b, c, rng=rng) for i in range(c.blocks)]
            if len(self.levels) < len(widths) - 1:
                steps.append(Halve(b, rng=rng))
            self.levels.append(nn.Sequential(*steps))
        self.middle = middle(widths[-1], c, rng=rng)
        self.norm = make_group_norm(widths[-1], c.groups, EPS)
        self.out = nn.Conv2d(widths[-1], 2 * c.latent, 3, padding=1, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        h = self.stem(x)
        for level in self.levels:
            h = level(h)
        return self.out(ops.silu(self.norm(self.middle(h))))


class Decoder(nn.Module):
    """z (B, Z, h, w) -> pictures (B, C, f h, f w)."""

    def __init__(self, config: AutoencoderConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = config
        widths = [c.channels * m for m in reversed(c.multipliers)]
        self.stem = nn.Conv2d(c.latent, widths[0], 3, padding=1, rng=rng)
        self.middle = middle(widths[0], c, rng=rng)
        self.levels = nn.ModuleList()
        for a, b in zip([widths[0], *widths], widths, strict=False):
            steps: list[nn.Module] = [residual(b if i else a, b, c, rng=rng) for i in range(c.blocks + 1)]
            if len(self.levels) < len(widths) - 1:
                steps.append(nn.Upsample(b, rng=rng))
            self.levels.append(nn.Sequential(*steps))
        self.norm = make_group_norm(widths[-1], c.groups, EPS)
        self.out = nn.Conv2d(widths[-1], c.in_channels, 3, padding=1, rng=rng)

    def forward(self, z: TensorLike) -> Tensor:
        h = self.middle(self.stem(z))
        for level in self.levels:
            h = level(h)
        return self.out(ops.silu(self.norm(h)))


class AutoencoderKL(nn.Module):
    """`model.loss(x, rng=rng)` -> the loss; `model.encode(x)` -> codes; `model.decode(z)` ->
    pictures.

    A diffusion model needs codes of variance 1: it is trained on `z * model.scale`, and its samples are
    decoded by `model.decode(z / model.scale)`. The scale is 1 until `model.scale.data = latent_scale(z)` is
    set; it is saved with the weights.

    It learns much sooner from a simple start: residual blocks and attention start as their skip connections,
    the 1×1 convolutions around the code as the identity, and the codes with little noise."""

    scale: Tensor

    def __init__(self, config: AutoencoderConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        if config.reconstruction not in RECONSTRUCTION:
            raise ValueError(
                f"reconstruction is one of {list(RECONSTRUCTION)}, got {config.reconstruction!r}"
            )
        z = config.latent
        self.config = config
        self.encoder = Encoder(config, rng=rng)
        self.to_moments, self.from_code = (identity(channels, rng=rng) for channels in (2 * z, z))
        self.to_moments.bias = nn.Parameter(np.repeat(np.array([0, START_LOGVAR], np.float32), z))
        self.decoder = Decoder(config, rng=rng)
        self.register_buffer("scale", np.ones((), np.float32))

    def forward(self, x: TensorLike) -> Tensor:
        """The reconstruction of pictures x (B, C, H, W), decoded from the means of their codes: (B, C, H,
        W)."""
        return self.to_pictures(self.posterior(x).mean)

    def loss(self, x: TensorLike, *, rng: RNGLike) -> Tensor:
        """Reconstruction error + `config.kl_weight` · KL, summed over a picture, averaged over the batch: a
        Tensor of shape (). Raises ValueError as `posterior` does."""
        return self.losses(x, rng=rng).total

    def losses(self, x: TensorLike, *, rng: RNGLike) -> Losses:
        """The loss and its two parts: the error of the pictures decoded from one draw of each code, summed
        over the pixels, and KL(q(z|x) ‖ N(0, 1)) in nats, summed over the entries of a code."""
        q = self.posterior(x)
        decoded = self.to_pictures(q.sample(rng=rng))
        error = RECONSTRUCTION[self.config.reconstruction](decoded, x, "sum")
        kl = ops.kl_gaussian(q.mean, q.logvar, "sum")
        b = x.shape[0]
        return Losses((error + self.config.kl_weight * kl) / b, error / b, kl / b)

    def posterior(self, x: TensorLike) -> Posterior:
        """q(z|x) of pictures x (B, C, H, W), H and W multiples of `config.factor`: mean and logvar (B, Z,
        H/f, W/f). logvar is clipped to [-30, 20]: no exp overflows, and a variance of 1e-13 is exact enough.

        Raises ValueError for pictures of another shape."""
        f, channels = self.config.factor, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"the autoencoder takes pictures (B, {channels}, H, W), H and W multiples of {f}, "
                f"got {x.shape}"
            )
        mean, logvar = ops.split(self.to_moments(self.encoder(x)), 2, axis=1)
        return Posterior(mean, ops.clip(logvar, -30.0, 20.0))

    def to_pictures(self, z: TensorLike) -> Tensor:
        """Pictures (B, C, f h, f w) of codes z (B, Z, h, w), not scaled: `decode`, but differentiable."""
        return self.decoder(self.from_code(z))

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes of pictures x (B, C, H, W): the means of q(z|x), (B, Z, H/f, W/f), not scaled."""
        return self.posterior(x).mean.data

    @no_grad()
    def decode(self, z: TensorLike) -> Array:
        """Pictures (B, C, f h, f w) of codes z (B, Z, h, w), not scaled, in the range of the training's."""
        return self.to_pictures(on_device_of(self.scale, z)).data


def latent_scale(z: TensorLike) -> Array:
    """1 / (the standard deviation of all entries of the codes z together): a float32 array of shape ().

    Codes times this have variance 1, which a diffusion model expects (Rombach et al. 2022, appendix G, where
    it is measured on the first batch). It is the *reciprocal* of the standard deviation, though diffusers'
    documentation of `scaling_factor` calls it the standard deviation.

    Raises ValueError where the standard deviation is 0 or not finite."""
    std = float(np.std(np.asarray(z, np.float64)))
    if not 0 < std < np.inf:
        raise ValueError(f"codes of standard deviation {std} cannot be scaled to 1: train the encoder first")
    return np.asarray(1 / std, np.float32)

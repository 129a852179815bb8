"""UNet: the network of diffusion models, which sees a noisy picture x_t and predicts the noise in it.

Ho, Jain & Abbeel 2020 (arXiv:2006.11239, appendix B), after Ronneberger et al. 2015 (arXiv:1505.04597); with
cross-attention to a text, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752, section 3.3).

The way down halves the resolution level by level, the way up doubles it again. Skip connections join the two:
every feature map of the way down is concatenated to the input of a block of the way up at the same
resolution, the last one first. Every residual block also receives the timestep embedding.

The last convolution starts as 0, and so does the output: the loss of predicting noise of variance 1 starts at
1."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.nn.residual import make_group_norm, zero_init
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, IdsLike, Mask, TensorLike


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet. It has one resolution level for each of `multipliers`, the first at the pictures'
    own resolution.

    Raises ValueError unless `attention` has one bool per level."""

    in_channels: int
    out_channels: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2)  # of `channels`, level by level
    blocks: int = 2  # residual blocks a level on the way down; on the way up there is one more
    attention: tuple[bool, ...] = (False, True)  # after each block of a level; the middle always has it
    heads: int = 1  # of every attention
    head_channels: int | None = None  # the width of a head; if given, it replaces `heads`
    classes: int | None = None
    context: int | None = None  # the width of the text encoder's vectors
    dropout: float = 0.0
    scale_shift: bool = False  # how blocks use the timestep embedding (nn.ResBlock)
    groups: int | None = None  # of the group norms; None is nn.ResBlock's default

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"attention={self.attention} needs one bool for each of the {len(self.multipliers)} levels "
                f"of multipliers={self.multipliers}"
            )

    def heads_of(self, channels: int) -> int:
        """The number of heads of an attention of this width. Raises ValueError when `head_channels` does not
        divide it."""
        if self.head_channels is None:
            return self.heads
        if channels % self.head_channels:
            raise ValueError(f"{channels} channels cannot be split into heads of {self.head_channels}")
        return channels // self.head_channels


class Conditioning(NamedTuple):
    """The inputs of all levels besides the feature map."""

    embedding: Tensor  # (B, 4·channels): the timestep's embedding, plus the class's if there is one
    text: tuple[Any, ...]  # context (B, S, context) and mask (B, S); or nothing


class TimestepEmbedding(nn.Module):
    """Timesteps t (B,) -> vectors (B, 4·channels): sinusoids, then two linear layers."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.channels = channels
        self.fc = nn.Linear(channels, 4 * channels, rng=rng)
        self.proj = nn.Linear(4 * channels, 4 * channels, rng=rng)

    def forward(self, t: IdsLike) -> Tensor:
        sinusoids = on_device_of(self.fc.weight, nn.timestep_embedding(t, self.channels))
        return self.proj(ops.silu(self.fc(sinusoids)))


class Level(nn.Module):
    """One resolution level: residual blocks, `blocks` gives their channels (in, out), and the attentions that
    follow the first of them, `attentions` gives their channels."""

    def __init__(
        self,
        config: UNetConfig,
        blocks: list[tuple[int, int]],
        attentions: list[int],
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        c = config
        self.resnets = nn.ModuleList(
            nn.ResBlock(
                in_channels, out_channels, 4 * c.channels, c.scale_shift, c.dropout, c.groups, rng=rng
            )
            for in_channels, out_channels in blocks
        )
        self.attentions = nn.ModuleList(
            nn.SpatialAttention(n, c.heads_of(n), c.groups, rng=rng)
            if c.context is None
            else nn.SpatialTransformer(n, c.heads_of(n), c.context, groups=c.groups, rng=rng)
            for n in attentions
        )

    def apply_block(self, i: int, x: TensorLike, conditioning: Conditioning) -> Tensor:
        """The i-th residual block, then the i-th attention if there is one."""
        x = self.resnets[i](x, conditioning.embedding)
        if i >= len(self.attentions):
            return x
        return self.attentions[i](x, *conditioning.text)


class Down(Level):
    """A level of the way down: (B, in, H, W) -> its feature maps in order, for the skip connections. The last
    one is (B, out, H/2, W/2), or without `downsample` (B, out, H, W)."""

    def __init__(
        self,
        config: UNetConfig,
        blocks: list[tuple[int, int]],
        attention: bool,
        downsample: bool,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        widths = [out for _, out in blocks]
        super().__init__(config, blocks, widths * attention, rng=rng)
        self.downsample = nn.Downsample(widths[-1], rng=rng) if downsample else None

    def forward(self, x: TensorLike, conditioning: Conditioning) -> list[Tensor]:
        maps = []
        for i in range(len(self.resnets)):
            x = self.apply_block(i, x, conditioning)
            maps.append(x)
        if self.downsample is not None:
            maps.append(self.downsample(x))
        return maps


class Middle(Level):
    """Block, attention, block: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, config: UNetConfig, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        super().__init__(config, [(channels, channels)] * 2, [channels], rng=rng)

    def forward(self, x: TensorLike, conditioning: Conditioning) -> Tensor:
        return self.apply_block(1, self.apply_block(0, x, conditioning), conditioning)


class Up(Level):
    """A level of the way up: (B, in, H, W) -> (B, out, 2H, 2W), or without `upsample` (B, out, H, W). Each
    block takes the last of the `skips` off the list: a feature map of the way down, concatenated to its
    input. The output is as large as the next of them, which has a row or a column less where the way down
    rounded up."""

    def __init__(
        self,
        config: UNetConfig,
        blocks: list[tuple[int, int]],
        attention: bool,
        upsample: bool,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        widths = [out for _, out in blocks]
        super().__init__(config, blocks, widths * attention, rng=rng)
        self.upsample = nn.Upsample(widths[-1], rng=rng) if upsample else None

    def forward(self, x: TensorLike, conditioning: Conditioning, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.apply_block(i, np.concatenate([x, skips.pop()], axis=1), conditioning)
        return x if self.upsample is None else self.upsample(x, skips[-1].shape[2:])


class Control(NamedTuple):
    """What a ControlNet (`controlnet.py`) adds to the feature maps of a UNet: to the middle's output, and to
    each skip connection."""

    middle: Tensor
    skips: list[Tensor]

    def add_to(self, middle: Tensor, skips: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The sums. Raises ValueError for feature maps of other shapes."""
        ours, theirs = ([x.shape for x in maps] for maps in ([*self.skips, self.middle], [*skips, middle]))
        if ours != theirs:
            raise ValueError(f"the control has the shapes {ours}, and the UNet's feature maps {theirs}")
        return middle + self.middle, [x + r for x, r in zip(skips, self.skips, strict=True)]


class UNetEncoder(nn.Module):
    """The first half of a UNet: the way down and the middle, with the embeddings of timesteps and classes. A
    ControlNet has the same."""

    def __init__(self, config: UNetConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.widths = [c.channels * m for m in c.multipliers]
        self.conv_in = nn.Conv2d(c.in_channels, c.channels, 3, padding=1, rng=rng)
        self.steps = TimestepEmbedding(c.channels, rng=rng)
        self.labels = None if c.classes is None else nn.Embedding(c.classes + 1, 4 * c.channels, rng=rng)

        channels = c.channels
        self.skip_channels = [channels]
        self.down = nn.ModuleList()
        for i, out in enumerate(self.widths):
            blocks = list(pairwise([channels] + [out] * c.blocks))
            downsample = i < len(self.widths) - 1
            self.down.append(Down(c, blocks, c.attention[i], downsample, rng=rng))
            self.skip_channels += [out] * (c.blocks + downsample)
            channels = out
        self.middle = Middle(c, channels, rng=rng)

    def conditioning(self, t: IdsLike, labels: Ids | None, context: Any, mask: Mask | None) -> Conditioning:
        """The inputs of all levels besides the feature map."""
        embedding = self.steps(t)  # (B, 4·channels)
        if self.labels is not None:
            embedding = embedding + self.labels(labels)
        return Conditioning(embedding, () if context is None else (context, mask))

    def feature_maps(self, x: Tensor, conditioning: Conditioning) -> tuple[Tensor, list[Tensor]]:
        """The middle's output for a feature map x (B, channels, H, W), and the skip connections: x and the
        feature maps of the way down."""
        skips = [x]
        for down in self.down:
            skips += down(skips[-1], conditioning)
        return self.middle(skips[-1], conditioning), skips

    def check(self, x: TensorLike, t: IdsLike, labels: Ids | None, context: Any, mask: Mask | None) -> None:
        """Raises ValueError or TypeError where an input does not fit the configuration."""
        c, batch = self.config, x.shape[:1]
        if x.ndim != 4 or x.shape[1] != c.in_channels:
            raise ValueError(f"the UNet takes x (B, {c.in_channels}, H, W), got {x.shape}")
        if np.shape(t) != batch:
            raise ValueError(f"t has shape {np.shape(t)}: one number for each of x {x.shape} is needed")
        if (labels is None) != (c.classes is None):
            raise ValueError(
                f"the UNet has {c.classes} classes: pass labels, {c.classes} for no class"
                if labels is None
                else "the UNet was made without classes: pass no labels, or set classes in its config"
            )
        if labels is not None and np.shape(labels) != batch:
            raise ValueError(f"labels have shape {np.shape(labels)}: one for each of x {x.shape} is needed")
        if (context is None) != (c.context is None):
            raise ValueError(
                f"the UNet was made for texts: pass context (B, S, {c.context})"
                if context is None
                else "the UNet was made without texts: pass no context, or set context in its config"
            )
        if context is not None and (context.ndim != 3 or context.shape[::2] != (*batch, c.context)):
            raise ValueError(
                f"context has shape {context.shape}: ({len(x)}, S, {c.context}) is needed for x {x.shape}"
            )
        if mask is not None and context is None:
            raise ValueError("the mask is for the context's tokens: pass context, or no mask")


class UNet(UNetEncoder):
    """`model(x, t)` -> the prediction (ε, x_0 or v) for noisy pictures, in their resolution.

    `model(x, t, labels)` with `classes`, `model(x, t, context=context, mask=mask)` with `context`."""

    def __init__(self, config: UNetConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        super().__init__(config, rng=rng)
        c, channels, skips = config, self.widths[-1], [*self.skip_channels]
        self.up = nn.ModuleList()
        for i, out in reversed(list(enumerate(self.widths))):
            blocks = [(below + skips.pop(), out) for below in [channels] + [out] * c.blocks]
            self.up.append(Up(c, blocks, c.attention[i], upsample=i > 0, rng=rng))
            channels = out

        self.norm_out = make_group_norm(channels, c.groups, eps=1e-5)
        self.conv_out = zero_init(nn.Conv2d(channels, c.out_channels, 3, padding=1, rng=rng))

    def forward(
        self,
        x: TensorLike,
        t: IdsLike,
        labels: Ids | None = None,
        context: Any = None,
        mask: Mask | None = None,
        control: Control | None = None,
    ) -> Tensor:
        """Noisy pictures x (B, in_channels, H, W) and the numbers of their steps t (B,) -> (B, out_channels,
        H, W).

        `labels` (B,) are classes from 0 to classes - 1, or `classes` for no class, which classifier-free
        guidance needs; `context` (B, S, context) has a text encoder's vectors, and `mask` (B, S) is True at
        real tokens. `control` is added to the middle's output and to the skip connections.

        A side that is odd at a level is rounded up on the way down, and has its length again on the way up.

        Raises ValueError for an argument that is missing, superfluous or of another shape; IndexError for
        labels beyond `classes`."""
        self.check(x, t, labels, context, mask)
        conditioning = self.conditioning(t, labels, context, mask)
        x, skips = self.feature_maps(self.conv_in(x), conditioning)
        if control is not None:
            x, skips = control.add_to(x, skips)
        for up in self.up:
            x = up(x, conditioning, skips)
        assert not skips
        return self.conv_out(ops.silu(self.norm_out(x)))

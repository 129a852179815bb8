"""UNet: the network of diffusion models, which sees a noisy picture and says what the noise in it is.

Ho, Jain & Abbeel 2020 (arXiv:2006.11239, appendix B), after Ronneberger et al. 2015 (arXiv:1505.04597); with
a text to look at, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752, section 3.3). The way down
halves the resolution level by level and keeps every map that it has made; the way up takes them back, the
last one first, each beside its own. Every residual block is told the step of the diffusion.

The last convolution starts as 0, and so does the output: predicting noise of variance 1, the loss is 1 then.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.nn.residual import norm_of, zeroed
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import TensorLike


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet. It has as many levels as `multipliers`, the first at the pictures' resolution.

    Raises ValueError when `attention` has not one bool for each level, and, asked for its heads, for an
    attention that cannot be split into heads of `head_channels`."""

    in_channels: int
    out_channels: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2)  # of `channels`, level by level
    blocks: int = 2  # residual blocks a level on the way down; on the way up there is one more
    attention: tuple[bool, ...] = (False, True)  # after each block of the level; the middle always has it
    heads: int = 1  # of every attention
    head_channels: int | None = None  # if given, this is the width of a head, and `heads` does not count
    classes: int | None = None
    context: int | None = None  # the width of a text's tokens
    dropout: float = 0.0
    scale_shift: bool = False  # how the step is told to the blocks (nn.ResBlock)
    groups: int | None = None  # of the group norms; None is what nn.ResBlock takes then

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"attention={self.attention} needs one bool for each of the {len(self.multipliers)} levels "
                f"of multipliers={self.multipliers}"
            )

    def heads_of(self, channels: int) -> int:
        """How many heads an attention of this width has."""
        if self.head_channels is None:
            return self.heads
        if channels % self.head_channels:
            raise ValueError(f"{channels} channels cannot be split into heads of {self.head_channels}")
        return channels // self.head_channels


class Given(NamedTuple):
    """What all levels are told besides the map."""

    emb: Tensor  # (B, 4·channels): the step, and the class if there is one
    text: tuple[Any, ...]  # context (B, S, context) and mask (B, S); or nothing


class Steps(nn.Module):
    """The steps t (B,) as vectors (B, 4·channels): sinusoids, then a perceptron."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.channels = channels
        self.fc = nn.Linear(channels, 4 * channels, rng=rng)
        self.proj = nn.Linear(4 * channels, 4 * channels, rng=rng)

    def forward(self, t: Any) -> Tensor:
        weight = self.fc.weight
        waves = nn.timestep_embedding(t, self.channels)
        waves = np.asarray(waves, dtype=weight.dtype, like=weight.data)
        return self.proj(ops.silu(self.fc(waves)))


class Level(nn.Module):
    """Residual blocks, of these numbers of channels in and out, and attentions, of these numbers."""

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
            nn.ResBlock(into, out, 4 * c.channels, c.scale_shift, c.dropout, c.groups, rng=rng)
            for into, out in blocks
        )
        self.attentions = nn.ModuleList(
            nn.SpatialAttention(n, c.heads_of(n), c.groups, rng=rng)
            if c.context is None
            else nn.SpatialTransformer(n, c.heads_of(n), c.context, groups=c.groups, rng=rng)
            for n in attentions
        )

    def step(self, i: int, x: TensorLike, given: Given) -> Tensor:
        """x after the i-th residual block, and the i-th attention if there is one."""
        x = self.resnets[i](x, given.emb)
        if i >= len(self.attentions):
            return x
        return self.attentions[i](x, *given.text)


class Down(Level):
    """A level of the way down: (B, in, H, W) -> all that it makes, in turn. The last one is (B, out, H/2,
    W/2), or without `downsample` (B, out, H, W)."""

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

    def forward(self, x: TensorLike, given: Given) -> list[Tensor]:
        made = []
        for i in range(len(self.resnets)):
            x = self.step(i, x, given)
            made.append(x)
        if self.downsample is not None:
            made.append(self.downsample(x))
        return made


class Middle(Level):
    """Block, attention, block: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, config: UNetConfig, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        super().__init__(config, [(channels, channels)] * 2, [channels], rng=rng)

    def forward(self, x: TensorLike, given: Given) -> Tensor:
        return self.step(1, self.step(0, x, given), given)


class Up(Level):
    """A level of the way up, whose blocks each take the last of the `kept` maps: (B, in, H, W) ->
    (B, out, 2H, 2W), or without `upsample` (B, out, H, W)."""

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

    def forward(self, x: TensorLike, given: Given, kept: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.step(i, np.concatenate([x, kept.pop()], axis=1), given)
        return x if self.upsample is None else self.upsample(x)


class UNet(nn.Module):
    """`model(x, t)` -> what the process predicts, in the resolution of x: the noise, for one.

    `model(x, t, labels)` with `classes`, `model(x, t, context=tokens, mask=real)` with `context`."""

    def __init__(self, config: UNetConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        widths = [c.channels * m for m in c.multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(c.in_channels, c.channels, 3, padding=1, rng=rng)
        self.steps = Steps(c.channels, rng=rng)
        self.labels = None if c.classes is None else nn.Embedding(c.classes + 1, 4 * c.channels, rng=rng)

        kept, now = [c.channels], c.channels  # the channels of the maps that are kept, and of the last one
        self.down = nn.ModuleList()
        for i, out in enumerate(widths):
            blocks = list(pairwise([now] + [out] * c.blocks))
            self.down.append(Down(c, blocks, c.attention[i], i < last, rng=rng))
            kept += [out] * (c.blocks + (i < last))
            now = out
        self.middle = Middle(c, now, rng=rng)
        self.up = nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            blocks = [(into + kept.pop(), out) for into in [now] + [out] * c.blocks]
            self.up.append(Up(c, blocks, c.attention[i], i > 0, rng=rng))
            now = out

        self.norm_out = norm_of(now, c.groups, eps=1e-5)
        self.conv_out = zeroed(nn.Conv2d(now, c.out_channels, 3, padding=1, rng=rng))

    def forward(
        self, x: TensorLike, t: Any, labels: Any = None, context: Any = None, mask: Any = None
    ) -> Tensor:
        """Pictures x (B, in_channels, H, W) and the numbers of their steps t (B,) -> (B, out_channels, H, W).

        `labels` (B,) are the classes 0 ... classes - 1, or `classes` for none, as classifier-free guidance
        needs it; `context` (B, S, context) are the tokens of texts, and `mask` (B, S) is True where they are
        real.

        Raises ValueError for sides that cannot be halved often enough, and for what is missing, superfluous
        or of another shape; IndexError for labels beyond `classes`."""
        self.check(x, t, labels, context, mask)
        emb = self.steps(t)
        if self.labels is not None:
            emb = emb + self.labels(labels)
        given = Given(emb, () if context is None else (context, mask))
        x = self.conv_in(x)
        kept = [x]
        for down in self.down:
            kept += down(x, given)
            x = kept[-1]
        x = self.middle(x, given)
        for up in self.up:
            x = up(x, given, kept)
        assert not kept
        return self.conv_out(ops.silu(self.norm_out(x)))

    def check(self, x: TensorLike, t: Any, labels: Any, context: Any, mask: Any) -> None:
        """Raises ValueError or TypeError where an input does not fit the configuration."""
        c, batch = self.config, x.shape[:1]
        if x.ndim != 4 or x.shape[1] != c.in_channels:
            raise ValueError(f"the UNet takes x (B, {c.in_channels}, H, W), got {x.shape}")
        halvings = len(c.multipliers) - 1
        if any(side % 2**halvings for side in x.shape[2:]):
            raise ValueError(
                f"x {x.shape} is halved {halvings} times: make both sides multiples of {2**halvings}"
            )
        if np.shape(t) != batch:
            raise ValueError(f"t has shape {np.shape(t)}: one number for each of x {x.shape} is needed")
        if (labels is None) != (c.classes is None):
            raise ValueError(
                f"the UNet has {c.classes} classes: pass labels, with {c.classes} for none"
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

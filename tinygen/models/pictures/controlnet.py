"""ControlNet: a picture of hints, such as outlines, steers a trained UNet (Zhang, Rao & Agrawala 2023,
arXiv:2302.05543, section 3.1 and figure 3).

The UNet is frozen. A ControlNet is a copy of its first half, the way down and the middle, which is trained.
It sees the noisy picture plus the hint, and its feature maps are added to those of the UNet. The maps pass
through zero convolutions on the way: convolutions of 1×1 whose weights and biases start as 0. So the UNet
computes at first what it did before, to the bit, and the training cannot spoil it by random residuals.

A zero convolution learns nevertheless: y = w x + b has ∂y/∂w = x, which is not 0, while ∂y/∂x = w is 0. The
first step changes the zero convolutions alone; from the second on, gradients reach the copy.

The paper also has a zero convolution between the hint and the copy. Here it is the last layer of the small
network that brings the hint to the size of the noisy picture, as in diffusers' ControlNetModel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.pictures.unet import Control, UNet, UNetConfig, UNetEncoder
from tinygen.nn.residual import zero_init
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, IdsLike, Mask, TensorLike


class HintEncoder(nn.Module):
    """Hints (B, in_channels, f·H, f·W) -> feature maps (B, channels, H, W), 0 at first.

    Convolutions of the given `widths`; between each two widths one of them halves the resolution, so that
    f = 2^(len(widths) - 1). Their weights are drawn so that they keep the signal (Gaussian, as in the paper):
    by the usual initialization of convolutions, hints would arrive some 65 times smaller."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.factor = 2 ** (len(widths) - 1)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1, rng=rng)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1, rng=rng))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1, rng=rng))
        for conv in (self.conv_in, *self.blocks):
            conv.weight.data = nn.init.kaiming_normal(conv.weight.shape, rng=rng)
        self.conv_out = zero_init(nn.Conv2d(widths[-1], channels, 3, padding=1, rng=rng))

    def forward(self, hints: TensorLike) -> Tensor:
        x = ops.silu(self.conv_in(hints))
        for conv in self.blocks:
            x = ops.silu(conv(x))
        return self.conv_out(x)


@dataclass(frozen=True)
class ControlNetConfig(UNetConfig):
    """The shape of a ControlNet: that of its UNet, and the hints. The number of `hint_widths` says how much
    larger than the noisy pictures the hints are: 8 times for four widths, as for the codes of 64 × 64 numbers
    in the paper."""

    hint_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # channels of the HintEncoder


def zero_conv(channels: int, *, rng: RNGLike) -> nn.Conv2d:
    """A convolution of 1×1 that starts as 0.

    Eq.: 𝒵(x; 0, 0) = 0  (Zhang et al. 2023, section 3.1, after eq. 2)
    Held by: tests/models/pictures/test_controlnet.py::test_the_gradient_of_a_zero_convolution
    """
    return zero_init(nn.Conv2d(channels, channels, 1, rng=rng))


class ControlNet(UNetEncoder):
    """`controlnet(x, t, hints)` -> the `Control` that its UNet takes:
    `unet(x, t, control=controlnet(x, t, hints))`.

    `ControlNet.copy_of(unet, ...)` starts with the UNet's weights."""

    def __init__(self, config: ControlNetConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        super().__init__(config, rng=rng)
        self.hint_channels = config.hint_channels
        self.hint = HintEncoder(config.hint_channels, config.hint_widths, config.channels, rng=rng)
        self.zero_skips = nn.ModuleList(zero_conv(channels, rng=rng) for channels in self.skip_channels)
        self.zero_middle = zero_conv(self.widths[-1], rng=rng)

    @classmethod
    def copy_of(
        cls, unet: UNet, hint_channels: int, hint_widths: tuple[int, ...], *, rng: RNGLike
    ) -> ControlNet:
        """A ControlNet for this UNet, with copies of its weights; `rng` draws those of the HintEncoder."""
        of_unet = {field.name: getattr(unet.config, field.name) for field in fields(UNetConfig)}
        config = ControlNetConfig(**of_unet, hint_channels=hint_channels, hint_widths=hint_widths)
        model = cls(config, rng=rng)
        model.load_state_dict(unet.state_dict(), strict=False)
        return model

    def forward(
        self,
        x: TensorLike,
        t: IdsLike,
        hints: TensorLike,
        labels: Ids | None = None,
        context: Any = None,
        mask: Mask | None = None,
        strength: float = 1.0,
    ) -> Control:
        """The residuals for noisy pictures x (B, in_channels, H, W) at the steps t (B,), with hints (B,
        hint_channels, f·H, f·W). The other arguments are the UNet's. `strength` scales the residuals: with 0
        the UNet ignores the hints.

        Raises ValueError for hints of another shape, and where the UNet does."""
        self.check(x, t, labels, context, mask)
        f = self.hint.factor
        wanted = (len(x), self.hint_channels, *(f * side for side in x.shape[2:]))
        if np.shape(hints) != wanted:
            raise ValueError(f"hints have shape {np.shape(hints)}: {wanted} is needed for x {x.shape}")
        conditioning = self.conditioning(t, labels, context, mask)
        x, skips = self.feature_maps(self.conv_in(x) + self.hint(hints), conditioning)
        residuals = [zero(skip) for zero, skip in zip(self.zero_skips, skips, strict=True)]
        return Control(strength * self.zero_middle(x), [strength * residual for residual in residuals])

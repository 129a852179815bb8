"""Residual blocks of convolutions, and the layers that halve and double the resolution. The UNets of
diffusion models and the autoencoders of latent diffusion consist of them.

After Ho et al. 2020 (arXiv:2006.11239, appendix B); Dhariwal & Nichol 2021 (arXiv:2105.05233) and Rombach et
al. 2022 (arXiv:2112.10752) developed that network further. Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any, TypeVar

from tinygen import ops
from tinygen.nn.conv import Conv2d
from tinygen.nn.dropout import Dropout
from tinygen.nn.init import zeros
from tinygen.nn.linear import Linear
from tinygen.nn.module import Module, cast
from tinygen.nn.norm import GroupNorm
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import TensorLike

Layer = TypeVar("Layer", bound=Module)


def zero_init(layer: Layer) -> Layer:
    """The layer with all of its parameters 0. At the end of a residual branch, such a layer makes the block
    the identity when training starts."""
    for p in layer.parameters():
        p.data = zeros(p.shape)
    return layer


def default_groups(channels: int) -> int:
    """The default number of groups for GroupNorm: the largest divisor of `channels` up to 32 that leaves at
    least 4 channels a group. With 128 channels or more it is 32, as in the papers, if 32 divides them."""
    return max(n for n in range(1, max(min(32, channels // 4), 1) + 1) if channels % n == 0)


def make_group_norm(channels: int, groups: int | None, eps: float) -> GroupNorm:
    """GroupNorm with this number of groups; None means `default_groups(channels)`."""
    return GroupNorm(default_groups(channels) if groups is None else groups, channels, eps)


class ResBlock(Module):
    """GN → SiLU → conv → GN → SiLU → dropout → conv, added to the input: (B, in, H, W) -> (B, out, H, W).

    `embedding` is the width of a vector `emb` for each picture, such as the embedding of its timestep. A
    linear layer of SiLU(emb) is added between the convolutions. With `scale_shift`, that layer gives the
    scale and the shift of the second norm instead, h ← (1 + scale)·norm(h) + shift (Nichol & Dhariwal 2021,
    arXiv:2102.09672). The last convolution is initialized to 0, so that the block starts as its skip
    connection: the identity, or a 1×1 convolution if the number of channels changes. `groups=None` means
    `default_groups`, for each norm.

    Raises ValueError for groups that do not divide the channels, and for scale_shift without an embedding."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int | None = None,
        scale_shift: bool = False,
        dropout: float = 0.0,
        groups: int | None = None,
        eps: float = 1e-5,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if scale_shift and embedding is None:
            raise ValueError("scale and shift come from an embedding: give its width, or scale_shift=False")
        self.norm1 = make_group_norm(in_channels, groups, eps)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1, rng=rng)
        width = 2 * out_channels if scale_shift else out_channels
        self.emb = None if embedding is None else Linear(embedding, width, rng=rng)
        self.norm2 = make_group_norm(out_channels, groups, eps)
        self.dropout = Dropout(dropout, rng=rng)
        self.conv2 = zero_init(Conv2d(out_channels, out_channels, 3, padding=1, rng=rng))
        self.skip = None if in_channels == out_channels else Conv2d(in_channels, out_channels, 1, rng=rng)
        self.scale_shift = scale_shift

    def forward(self, x: TensorLike, emb: Any = None) -> Tensor:
        """x (B, in, H, W), emb (B, embedding) -> (B, out, H, W). Raises ValueError for another number of
        channels, for a missing `emb`, and for an `emb` if the block was made without an embedding."""
        if x.shape[1] != self.conv1.channels[0]:
            raise ValueError(f"the block takes {self.conv1.channels[0]} channels, x has shape {x.shape}")
        if (emb is None) != (self.emb is None):
            raise ValueError(
                "the block was made without an embedding, and got one: make it with embedding=its width"
                if self.emb is None
                else "the block was made for an embedding: pass emb"
            )
        x = cast(x, self.norm1.weight)
        h = self.conv1(ops.silu(self.norm1(x)))
        if self.emb is None:
            h = self.norm2(h)
        else:
            given = self.emb(ops.silu(emb))[:, :, None, None]  # (B, out, 1, 1), or twice as many
            if self.scale_shift:
                scale, shift = ops.split(given, 2, axis=1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + given)
        h = self.conv2(self.dropout(ops.silu(h)))
        return h + (x if self.skip is None else self.skip(x))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.conv1.channels)) + (", scale_shift" if self.scale_shift else "")


class Downsample(Module):
    """Halves the resolution by a 3×3 convolution of stride 2: (B, C, H, W) -> (B, C, H/2, W/2), rounded
    up."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=1, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        return self.conv(x)


class Upsample(Module):
    """Doubles the resolution: repeats each pixel (nearest neighbor), then a 3×3 convolution: (B, C, H, W) ->
    (B, C, 2H, 2W). A transposed convolution would leave a checkerboard pattern (Odena et al. 2016,
    *Deconvolution and checkerboard artifacts*).

    With `size`, the height and width wanted, the last row or column may be left out: `Downsample` makes 3 of
    5, and 3 become 5 again."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.conv = Conv2d(channels, channels, 3, padding=1, rng=rng)

    def forward(self, x: TensorLike, size: tuple[int, int] | None = None) -> Tensor:
        x = ops.upsample_nearest(x, 2)
        if size is not None and size != x.shape[2:]:
            x = x[:, :, : size[0], : size[1]]
        return self.conv(x)

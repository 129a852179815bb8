"""Attention on feature maps: each pixel is a token that attends to all pixels, and in `SpatialTransformer`
also to the tokens of a text.

`SpatialAttention` is part of the UNet of Ho et al. 2020 (arXiv:2006.11239, appendix B), `SpatialTransformer`
of the UNet of latent diffusion (Rombach et al. 2022, arXiv:2112.10752, section 3.3).
"""

from __future__ import annotations

from typing import Any

from tinygen import ops
from tinygen.nn.attention import CrossAttention, MultiHeadAttention
from tinygen.nn.containers import ModuleList
from tinygen.nn.linear import Linear
from tinygen.nn.module import Module, cast
from tinygen.nn.norm import LayerNorm
from tinygen.nn.residual import make_group_norm, zero_init
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Mask, TensorLike


def as_tokens(x: TensorLike) -> TensorLike:
    """(B, C, H, W) -> (B, H·W, C): the pixels row by row."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h * w).swapaxes(1, 2)


def as_map(tokens: TensorLike, height: int, width: int) -> TensorLike:
    """(B, H·W, C) -> (B, C, H, W): `as_tokens` undone."""
    b, _, c = tokens.shape
    return tokens.swapaxes(1, 2).reshape(b, c, height, width)


class SpatialAttention(Module):
    """GN → self-attention among all pixels, added to the input: (B, C, H, W) -> (B, C, H, W).

    The attention's last projection is initialized to 0, so that the block starts as the identity.
    `groups=None` means `default_groups`. Raises ValueError for heads or groups that do not divide the
    channels."""

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        groups: int | None = None,
        eps: float = 1e-5,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.norm = make_group_norm(channels, groups, eps)
        self.attn = MultiHeadAttention(channels, heads, rng=rng)
        zero_init(self.attn.proj)

    def forward(self, x: TensorLike) -> Tensor:
        height, width = x.shape[2:]
        return x + as_map(self.attn(as_tokens(self.norm(x))), height, width)


class GEGLU(Module):
    """A linear layer gives two halves, each four times as wide as x. The first half times GELU of the second
    goes through another linear layer: (..., C) -> (..., C) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.fc = Linear(channels, 8 * channels, rng=rng)
        self.proj = Linear(4 * channels, channels, rng=rng)

    def forward(self, x: TensorLike) -> Tensor:
        value, gate = ops.split(self.fc(x), 2, axis=-1)
        return self.proj(value * ops.gelu(gate))


class ContextBlock(Module):
    """x += attn(ln1(x)); x += cross(ln2(x), context); x += mlp(ln3(x)): (B, T, C) -> (B, T, C). Queries, keys
    and values have no bias."""

    def __init__(self, channels: int, heads: int, context_channels: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.ln1 = LayerNorm(channels)
        self.attn = MultiHeadAttention(channels, heads, qkv_bias=False, rng=rng)
        self.ln2 = LayerNorm(channels)
        self.cross = CrossAttention(channels, heads, context_channels, qkv_bias=False, rng=rng)
        self.ln3 = LayerNorm(channels)
        self.mlp = GEGLU(channels, rng=rng)

    def forward(self, x: TensorLike, context: Any, mask: Mask | None = None) -> Tensor:
        """context (B, S, context_channels); `mask` as in MultiHeadAttention, for the context."""
        x = cast(x, self.ln1.weight)
        x = x + self.attn(self.ln1(x))
        x = x + self.cross(self.ln2(x), context, mask)
        return x + self.mlp(self.ln3(x))


class SpatialTransformer(Module):
    """GN → linear → `layers` blocks of self-attention, attention to a context, perceptron → linear, added
    to the input: (B, C, H, W) -> (B, C, H, W). The linear layers are 1×1 convolutions. The last one is
    initialized to 0, so that the whole starts as the identity.

    `groups=None` means `default_groups`. Raises ValueError for heads or groups that do not divide the
    channels."""

    def __init__(
        self,
        channels: int,
        heads: int,
        context_channels: int,
        layers: int = 1,
        groups: int | None = None,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.norm = make_group_norm(channels, groups, eps=1e-6)
        self.proj_in = Linear(channels, channels, rng=rng)
        self.blocks = ModuleList(
            ContextBlock(channels, heads, context_channels, rng=rng) for _ in range(layers)
        )
        self.proj_out = zero_init(Linear(channels, channels, rng=rng))

    def forward(self, x: TensorLike, context: Any, mask: Mask | None = None) -> Tensor:
        """x (B, C, H, W), context (B, S, context_channels). `mask` (B, S) of bools is True at real tokens.
        The other tokens have no effect, as long as their values are finite. Raises ValueError for a mask of
        another shape, TypeError for a mask of another dtype."""
        if mask is not None:
            if mask.shape != context.shape[:2]:
                raise ValueError(
                    f"the mask has shape {mask.shape}: {context.shape[:2]} is needed, one bool for each "
                    f"token of the context {context.shape}"
                )
            mask = mask[:, None, None]  # (B, 1, 1, S): for all heads and pixels
        x = cast(x, self.norm.weight)
        height, width = x.shape[2:]
        tokens = self.proj_in(as_tokens(self.norm(x)))
        for block in self.blocks:
            tokens = block(tokens, context, mask)
        return x + as_map(self.proj_out(tokens), height, width)

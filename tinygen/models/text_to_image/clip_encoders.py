"""The encoders of CLIP (`clip.py`): they make vectors of pictures and of texts.

Both towers of the paper are Transformers with pre-LN blocks. The one for texts is causal: only the last
token, the end token, sees the whole text, so the vector of the text is read there. The one for pictures is a
Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929). A small convolutional network is a faster
encoder of small pictures.

Shapes: B pictures (B, in_channels, side, side), N texts as ids (N, S), vectors of D = `dim` numbers; C
channels inside a tower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.text_to_image.text_encoder import PADDING, ids_of_captions, ids_of_words
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, TensorLike

END = PADDING
"""The end token of `ids_with_end`. Captions are padded with it; a text is read at the first."""


def ids_with_end(captions: Sequence[str], words: Sequence[str], max_words: int) -> Ids:
    """The ids of N captions for a `TextTower` with `end=END`, (N, max_words + 2): a begin token, the words,
    an end token, and the end token again up to the full length. There are len(words) + 2 different ids.

    Raises ValueError for an unknown word, and for a caption that is too long; TypeError for a single string
    in place of a list."""
    ids = ids_of_captions(captions, ids_of_words(words), max_words)
    return np.pad(ids, ((0, 0), (0, 1)), constant_values=END)


# -- the Transformer of a tower --------------------------------------------------------------------


def quick_gelu(x: Tensor) -> Tensor:
    """An approximation of GELU, in the published CLIP models.

    Eq.: gelu(x) ≈ x σ(1.702 x)  (Hendrycks & Gimpel 2016, section 2)
    Held by: tests/models/text_to_image/test_clip_encoders.py::test_quick_gelu
    """
    return x * ops.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": ops.gelu}


@dataclass(frozen=True)
class TowerConfig:
    """The shape of a tower's Transformer."""

    layers: int = 2
    heads: int = 4
    channels: int = 64  # C
    hidden: int | None = None  # the width inside the perceptron; None: 4 channels
    activation: str = "quick_gelu"  # or "gelu", the exact one
    dropout: float = 0.0  # of attention weights
    norm_eps: float = 1e-5  # added to the variance in layer norms

    def complete(self) -> TowerConfig:
        """The config with `hidden` as a number."""
        return replace(self, hidden=self.hidden or 4 * self.channels)


class TowerMLP(nn.Module):
    """Linear, activation, Linear: (..., C) -> (..., C). Raises ValueError for an unknown activation."""

    def __init__(self, config: TowerConfig, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        if c.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {c.activation!r}")
        hidden = c.hidden or 4 * c.channels
        self.fc = nn.Linear(c.channels, hidden, rng=rng)
        self.proj = nn.Linear(hidden, c.channels, rng=rng)
        self.activation = c.activation

    def forward(self, x: TensorLike) -> Tensor:
        return self.proj(ACTIVATIONS[self.activation](self.fc(x)))


class TowerBlock(nn.Module):
    """x += attn(ln1(x)); x += mlp(ln2(x)): (B, T, C) -> (B, T, C)."""

    def __init__(self, config: TowerConfig, *, causal: bool, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.ln1 = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.attn = nn.MultiHeadAttention(c.channels, c.heads, causal, c.dropout, rng=rng)
        self.ln2 = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.mlp = TowerMLP(c, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Tower(nn.Module):
    """The parts that both Transformers have: blocks, a last layer norm, and a projection to D numbers. With
    `dim=None` there is no projection, and D = C."""

    def __init__(
        self, config: TowerConfig, positions: int, causal: bool, dim: int | None, *, rng: RNGLike
    ) -> None:
        rng, c = as_generator(rng), config.complete()
        self.config, self.dim = c, c.channels if dim is None else dim
        self.place = nn.Embedding(positions, c.channels, rng=rng)
        self.blocks = nn.ModuleList(TowerBlock(c, causal=causal, rng=rng) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.projection = None if dim is None else nn.Linear(c.channels, dim, bias=False, rng=rng)
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """As in the authors' code for texts: N(0, 1/C) for queries, keys, values and the projection, N(0,
        1/(2LC)) for the two matrices of each of L blocks that are added to the stream, N(0, 1/(2C)) for the
        other one of the perceptron, N(0, 0.01²) for positions; biases 0."""
        rng, c = as_generator(rng), self.config
        last = 1 / math.sqrt(2 * c.layers * c.channels)
        std = {"qkv": 1 / math.sqrt(c.channels), "proj": last, "fc": 1 / math.sqrt(2 * c.channels)}
        std |= {"projection": std["qkv"], "place": 0.01}
        for name, p in self.named_parameters():
            layer, _, kind = name.rpartition(".")
            if kind == "bias":
                p.data = np.zeros_like(p.data)
            elif (deviation := std.get(layer.rpartition(".")[2])) is not None:
                p.data = nn.init.normal(p.shape, deviation, rng=rng)

    def apply_blocks(self, x: Tensor) -> Tensor:
        """The stream (B, T, C) after the blocks."""
        for block in self.blocks:
            x = block(x)
        return x

    def to_vectors(self, x: Tensor) -> Tensor:
        """The vectors (N, D) of tokens x (N, C) of the stream."""
        x = self.norm(x)
        return x if self.projection is None else self.projection(x)


# -- encoders --------------------------------------------------------------------------------------


class TextTower(Tower):
    """`tower(ids)` -> vectors (N, D): a causal Transformer, read at the first token `end` of each text.

    `vocab_size` is the number of different ids, `block_size` the longest text."""

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        end: int,
        config: TowerConfig,
        dim: int | None,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        super().__init__(config, block_size, True, dim, rng=rng)
        self.vocab_size, self.block_size, self.end = vocab_size, block_size, end
        self.token = nn.Embedding(vocab_size, config.channels, rng=rng)
        self.token.weight.data = nn.init.normal(self.token.weight.shape, 0.02, rng=rng)

    def forward(self, ids: Ids) -> Tensor:
        """The vectors (N, D) of texts given as ids (N, S), on the CPU. Tokens after the end have no effect.

        Raises ValueError for ids of another shape, a text that is too long, and a text without the end token;
        IndexError for an id outside the vocabulary."""
        ids = np.asarray(ids)
        ends = self.ends(ids)
        return self.to_vectors(self.before_norm(ids)[np.arange(len(ids)), ends])

    def before_norm(self, ids: Ids) -> Tensor:
        """The stream (N, S, C) after the blocks, of texts given as ids (N, S)."""
        return self.apply_blocks(self.token(ids) + self.place(np.arange(ids.shape[1])))

    def states(self, ids: Ids) -> Tensor:
        """A vector for each token, (N, S, C): the stream after the last layer norm. Stable Diffusion looks at
        it. Raises ValueError and IndexError as `forward`."""
        ids = np.asarray(ids)
        self.ends(ids)
        return self.norm(self.before_norm(ids))

    def ends(self, ids: Ids) -> Ids:
        """The position (N,) of the first end token in each row of ids (N, S)."""
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {ids.shape}: give a row for each text, (N, S)")
        if ids.shape[1] > self.block_size:
            raise ValueError(
                f"texts of {ids.shape[1]} tokens are longer than block_size={self.block_size}: shorten them"
            )
        found = ids == self.end  # (N, S)
        if not found.any(axis=1).all():
            row = int(np.argmin(found.any(axis=1)))
            raise ValueError(
                f"text {row} of {len(ids)} has no end token {self.end}, and its vector is read there: "
                f"append the token to each text"
            )
        return found.argmax(axis=1)

    def sizes(self) -> dict[str, Any]:
        """The arguments that make this tower, without `dim`."""
        names = ("vocab_size", "block_size", "end")
        return {name: getattr(self, name) for name in names} | {"config": asdict(self.config)}


class VisionTransformer(Tower):
    """`tower(pictures)` -> vectors (B, D). A picture is cut into squares of `patch` pixels along a side. Each
    becomes a token by a linear layer; a token of its own, which is learned, comes before them, and the vector
    of the picture is read there.

    Raises ValueError when the patches do not fill the side.

    Eq.: z_0 = [x_class; x_p¹ E; …; x_pᴺ E] + E_pos  (Dosovitskiy et al. 2020, eq. 1)
    Held by: tests/models/text_to_image/test_clip_encoders.py::test_first_stream_of_a_picture
    """

    def __init__(
        self, side: int, patch: int, in_channels: int, config: TowerConfig, dim: int, *, rng: RNGLike
    ) -> None:
        rng, c = as_generator(rng), config.channels
        if side % patch:
            raise ValueError(f"patches of {patch} pixels do not fill a side of {side}: give a divisor of it")
        super().__init__(config, (side // patch) ** 2 + 1, False, dim, rng=rng)
        self.shape, self.patch = (in_channels, side, side), patch
        self.patches = nn.Conv2d(in_channels, c, patch, stride=patch, bias=False, rng=rng)
        self.first = nn.Parameter(nn.init.normal((c,), 1 / math.sqrt(c), rng=rng))
        self.first_norm = nn.LayerNorm(c, eps=config.norm_eps)

    def forward(self, pictures: TensorLike) -> Tensor:
        """The vectors (B, D) of pictures (B, in_channels, side, side). Raises ValueError for another
        shape."""
        x = self.apply_blocks(self.first_norm(self.tokens(pictures)))  # (B, 1 + patches, C)
        return self.to_vectors(x[:, 0])

    def tokens(self, pictures: TensorLike) -> Tensor:
        """The sum of tokens and positions, (B, 1 + patches, C)."""
        require_pictures(pictures, self.shape)
        x: Any = self.patches(pictures)  # (B, C, side / patch, side / patch)
        b, c = x.shape[:2]
        x = x.reshape(b, c, -1).transpose(0, 2, 1)  # (B, patches, C)
        first = np.broadcast_to(self.first, (b, 1, c))
        x = np.concatenate([first, x], axis=1)  # (B, 1 + patches, C)
        return x + self.place.weight

    def sizes(self) -> dict[str, Any]:
        """The arguments that make this tower, without `dim`."""
        in_channels, side, _ = self.shape
        sizes = {"side": side, "patch": self.patch, "in_channels": in_channels}
        return {**sizes, "config": asdict(self.config)}


class ConvImageEncoder(nn.Module):
    """`encoder(pictures)` -> vectors (B, D), for small pictures: convolutions, each of which halves the side,
    with group norms and SiLU; the last layer sees all positions. The first convolution has `channels`
    outputs, each further one twice as many.

    Raises ValueError when the side cannot be halved so often."""

    def __init__(
        self, side: int, in_channels: int, channels: int, halvings: int, dim: int, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        if side % 2**halvings:
            raise ValueError(f"a side of {side} cannot be halved {halvings} times")
        self.shape, self.dim = (in_channels, side, side), dim
        widths = [in_channels, *(channels * 2**i for i in range(halvings))]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, rng=rng) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in widths[1:])
        self.projection = nn.Linear(widths[-1] * (side // 2**halvings) ** 2, dim, bias=False, rng=rng)

    def forward(self, pictures: TensorLike) -> Tensor:
        """The vectors (B, D) of pictures (B, in_channels, side, side). Raises ValueError for another
        shape."""
        require_pictures(pictures, self.shape)
        x: Any = pictures
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.silu(norm(conv(x)))
        return self.projection(x.reshape(len(x), -1))


def require_pictures(pictures: TensorLike, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the pictures are (B, *shape)."""
    found = np.shape(pictures)
    if len(found) != 4 or found[1:] != shape:
        raise ValueError(f"pictures have shape {found}, the encoder needs (B, {', '.join(map(str, shape))})")

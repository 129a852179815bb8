"""The Transformer: an encoder reads a source text, a decoder writes its translation (Vaswani et al. 2017,
*Attention is all you need*, arXiv:1706.03762).

    encoder layer   self-attention, feed-forward                    x (B, S, C), the source
    decoder layer   causal self-attention, cross-attention to the encoder's output, feed-forward
                                                                    y (B, T, C), the target

Each of these sublayers is added to its input, and there are two places for the layer norm. In the paper it is
after the sum, x = norm(x + f(x)): post-norm. The authors' own code soon had it before the sublayer, x = x +
f(norm(x)), with one more norm at the end of encoder and decoder: pre-norm. This trains without a long warm-up
(Xiong et al. 2020, arXiv:2002.04745). The default here is the paper's.

One vocabulary serves both languages, and one matrix is the embedding of the source, the embedding of the
target, and the output layer (section 3.4). Ids equal to `pad` fill the rows of a batch: no position looks at
them, and they do not count in the loss. `examples/pages/translation.py` has all of it on one page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.language.encoder_decoder import DecoderCache, EncoderDecoder
from tinygen.nn import init
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import Floats, Ids


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a Transformer; the defaults are the paper's base model (table 3)."""

    vocab_size: int  # of both languages together, with the three special tokens
    layers: int = 6  # N, of the encoder, and as many of the decoder
    heads: int = 8
    channels: int = 512  # d_model, C
    hidden: int = 2048  # d_ff, the width inside the feed-forward sublayers
    dropout: float = 0.1
    label_smoothing: float = 0.1
    pre_norm: bool = False
    norm_eps: float = 1e-5  # added to the variance in layer norms
    pad: int = 0
    begin: int = 1  # the first token of each target
    end: int = 2  # the last one


# -- parts -----------------------------------------------------------------------------------------


def sinusoids(length: int, channels: int) -> Floats:
    """The encodings of positions 0 ... length - 1, (length, channels) in float64: sines and cosines in turn,
    with wavelengths from 2π to 10000 · 2π. Raises ValueError for an odd number of channels.

    A shift by k positions rotates each pair of sine and cosine by an angle that depends on k alone, so a
    linear layer can turn one position into another at a fixed distance.

    Eq.: PE(pos, 2i) = sin(pos / 10000^(2i/C)),  PE(pos, 2i + 1) = cos(pos / 10000^(2i/C))
        (Vaswani et al. 2017, section 3.5)
    Held by: tests/models/language/test_transformer.py::test_sinusoids_by_hand,
        tests/models/language/test_transformer.py::test_a_shift_of_sinusoids_is_a_rotation
    """
    if channels % 2:
        raise ValueError(f"half of the channels are sines, half are cosines: {channels} is odd")
    frequencies = 10000.0 ** (-np.arange(0, channels, 2) / channels)  # (C/2,)
    angles = np.arange(length)[:, None] * frequencies  # (T, C/2)
    pairs: Floats = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # (T, C/2, 2)
    return pairs.reshape(length, channels)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, at each position alone: (..., C) -> (..., C).

    Eq.: FFN(x) = max(0, x W_1 + b_1) W_2 + b_2  (Vaswani et al. 2017, eq. 2)
    Held by: tests/models/language/test_transformer.py::test_the_layers_are_their_formulas
    """

    def __init__(self, channels: int, hidden: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.fc = nn.Linear(channels, hidden, rng=rng)
        self.proj = nn.Linear(hidden, channels, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(ops.relu(self.fc(x)))


class Sublayer(nn.Module):
    """f with a residual connection, dropout on its output, and a layer norm before or after.

    Eq.: x ← LN(x + f(x))  (post-norm: Vaswani et al. 2017, section 3.1)
    Held by: tests/models/language/test_transformer.py::test_the_layers_are_their_formulas

    Eq.: x ← x + f(LN(x))  (pre-norm: Xiong et al. 2020, table 1)
    Held by: tests/models/language/test_transformer.py::test_the_layers_are_their_formulas
    """

    def __init__(self, f: nn.Module, config: TransformerConfig, *, rng: RNGLike) -> None:
        self.f, self.pre_norm = f, config.pre_norm
        self.norm = nn.LayerNorm(config.channels, eps=config.norm_eps)
        self.drop = nn.Dropout(config.dropout, rng=rng)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        if self.pre_norm:
            return x + self.drop(self.f(self.norm(x), *given))
        return self.norm(x + self.drop(self.f(x, *given)))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward: (B, S, C) -> (B, S, C). `mask` is True at tokens that may be seen,
    broadcastable to (B, H, S, S)."""

    def __init__(self, config: TransformerConfig, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.attn = Sublayer(nn.MultiHeadAttention(c.channels, c.heads, rng=rng), c, rng=rng)
        self.mlp = Sublayer(FeedForward(c.channels, c.hidden, rng=rng), c, rng=rng)

    def forward(self, x: Tensor, mask: Array) -> Tensor:
        return self.mlp(self.attn(x, mask))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the memory (B, S, C), and feed-forward: (B, T, C) ->
    (B, T, C). The masks are True at tokens of target and source that may be seen."""

    def __init__(self, config: TransformerConfig, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.attn = Sublayer(nn.MultiHeadAttention(c.channels, c.heads, causal=True, rng=rng), c, rng=rng)
        self.cross = Sublayer(nn.CrossAttention(c.channels, c.heads, c.channels, rng=rng), c, rng=rng)
        self.mlp = Sublayer(FeedForward(c.channels, c.hidden, rng=rng), c, rng=rng)

    def forward(
        self,
        y: Tensor,
        memory: Tensor,
        target_mask: Array,
        source_mask: Array,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        of_target, of_memory = cache or (None, None)
        return self.mlp(self.cross(self.attn(y, target_mask, of_target), memory, source_mask, of_memory))


# -- the model -------------------------------------------------------------------------------------


class Transformer(EncoderDecoder):
    """`model(source, target)` -> logits; `model.loss(source, target)`; `model.greedy_search(source, n)` and
    `model.beam_search(source, n, width)` -> translations.

    Weights of linear layers start from Glorot's uniform distribution, biases from 0, and the embedding from
    N(0, 1/C); the paper does not say how it initializes them."""

    def __init__(self, config: TransformerConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.encoder = nn.ModuleList(EncoderLayer(c, rng=rng) for _ in range(c.layers))
        self.decoder = nn.ModuleList(DecoderLayer(c, rng=rng) for _ in range(c.layers))
        self.encoder_norm = nn.LayerNorm(c.channels, eps=c.norm_eps) if c.pre_norm else None
        self.decoder_norm = nn.LayerNorm(c.channels, eps=c.norm_eps) if c.pre_norm else None
        for name, p in self.named_parameters():
            if p is self.embedding.weight:
                p.data /= np.float32(math.sqrt(c.channels))
            elif p.ndim == 2:
                p.data = init.xavier_uniform(p.shape, rng=rng)
            elif name.endswith("bias"):
                p.data = init.zeros(p.shape)

    def loss(self, source: Ids, target: Ids) -> Tensor:
        """The mean over all tokens but padding, in nats, of the cross-entropy with smoothed labels: the
        decoder reads target (B, T) without its last token, and predicts it without its first.

        The label has the probability 1 - ε, and ε is shared by all V tokens, the label among them (Szegedy et
        al. 2015, arXiv:1512.00567, section 7). So the least possible loss is not 0: it is the entropy of the
        smoothed label. Raises the errors of `forward`, and ValueError for a target of fewer than two tokens.

        Eq.: L = -Σ_v q_v ln p_v,  q_v = (1 - ε) [v = label] + ε/V  (Szegedy et al. 2015, section 7)
        Held by: tests/models/language/test_transformer.py::test_the_smoothed_loss_by_hand,
            tests/models/language/test_transformer.py::test_the_least_smoothed_loss_is_an_entropy
        """
        return self.target_loss(source, target, self.config.label_smoothing)

    def memory(self, source: Array) -> Tensor:
        x, mask = self.embed(source), self.mask(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def logits(
        self, target: Array, memory: Tensor, source: Array, caches: list[DecoderCache] | None = None
    ) -> Tensor:
        start = caches[0].target.length if caches else 0
        y, target_mask, source_mask = self.embed(target, start), self.mask(target), self.mask(source)
        for i, layer in enumerate(self.decoder):
            y = layer(y, memory, target_mask, source_mask, caches[i] if caches else None)
        y = y if self.decoder_norm is None else self.decoder_norm(y)
        return ops.linear(y, self.embedding.weight)  # (B, T, V)

    def embed(self, ids: Array, start: int = 0) -> Tensor:
        """Embeddings times sqrt(C), plus the encodings of positions, from position `start` on: (B, T) ->
        (B, T - start, C)."""
        x = self.embedding(ids[:, start:]) * math.sqrt(self.config.channels)
        positions = sinusoids(ids.shape[1], self.config.channels)[start:].astype(x.dtype)
        return self.drop(x + np.asarray(positions, like=x.data))

    def mask(self, ids: Array) -> Array:
        """True at tokens, False at padding, with axes for heads and queries: (B, T) -> (B, 1, 1, T)."""
        return (ids != self.config.pad)[:, None, None]

"""T5: every task is a text that is read, and a text that is written (Raffel et al. 2020, *Exploring the
limits of transfer learning with a unified text-to-text Transformer*, arXiv:1910.10683).

An encoder–decoder (`encoder_decoder.py`) with pre-norm blocks as in the Transformer, and these differences:

    positions     not added to the stream; instead, a number for each head and each bucket of distances is
                  added to the scores of self-attention. The layers of a stack share it.
    attention     softmax(q kᵀ + bias) v, without 1 / sqrt(d); the initial weights of q are smaller instead
    norms         RMSNorm; no layer has a bias
    version 1.1   a gated GELU in place of the ReLU (Shazeer 2020, arXiv:2002.05202), and a head of its own

It is pretrained by `text/corruption.py`: holes in a text, and the words that belong into them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.lora import merged_state
from tinygen.models.huggingface import t5
from tinygen.models.language.encoder_decoder import DecoderCache, EncoderDecoder
from tinygen.nn.attention import merge_heads, split_heads
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, TensorLike


@dataclass(frozen=True)
class T5Config:
    """The shape of a T5; the defaults are the paper's base model (section 3.1.1)."""

    vocab_size: int = 32128
    layers: int = 12  # of the encoder
    decoder_layers: int = 12
    heads: int = 12
    channels: int = 768  # d_model, C
    head_channels: int = 64  # d_kv, the width of a head, d
    hidden: int = 3072  # d_ff, the width inside the feed-forward network
    buckets: int = 32  # of distances
    max_distance: int = 128  # from here on, all distances have one bucket
    dropout: float = 0.1
    gated: bool = False  # a gated GELU, as in version 1.1
    tie_weights: bool = True  # the head is the embedding; not in version 1.1
    norm_eps: float = 1e-6  # added to the mean square in RMS norms
    pad: int = 0
    begin: int = 0  # the first token of each target: padding
    end: int = 1  # the last one


# -- positions -------------------------------------------------------------------------------------


def bucket(distance: Ids, buckets: int, max_distance: int, both_ways: bool) -> Ids:
    """The bucket of each distance, key position - query position; the shape stays.

    Small distances n have a bucket each. From m = buckets/2 on, buckets grow with the distance: their borders
    are m (max_distance / m)^(k/(buckets - m)). With `both_ways`, half of the buckets are for keys behind the
    query; without, such keys have bucket 0, as they are hidden anyway. `buckets` is at least 4, and
    `max_distance` greater than half of it.

    Eq.: bucket(n) = n for n < m, else min(m + ⌊ln(n/m) / ln(max_distance/m) · (buckets - m)⌋, buckets - 1)
        (Raffel et al. 2020, section 2.1, and their code)
    Held by: tests/models/language/test_t5.py::test_buckets_by_brute_force
    """
    first: int | Ids = 0
    if both_ways:
        buckets //= 2
        first, distance = np.where(distance > 0, buckets, 0), np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    grown = np.log(np.maximum(distance, exact) / exact) / math.log(max_distance / exact)
    far = exact + (grown * (buckets - exact)).astype(np.int64)
    found: Ids = first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))
    return found


class RelativeBias(nn.Module):
    """The number that is added to each score, by the head and the bucket of the distance."""

    def __init__(self, config: T5Config, both_ways: bool, *, rng: RNGLike) -> None:
        self.table = nn.Embedding(config.buckets, config.heads, rng=rng)
        self.max_distance, self.both_ways = config.max_distance, both_ways

    def forward(self, t: int, s: int) -> Tensor:
        """(1, H, T, S), for queries at the last t of s positions."""
        distance = np.arange(s) - np.arange(s - t, s)[:, None]  # (T, S)
        buckets = bucket(distance, len(self.table.weight), self.max_distance, self.both_ways)
        return self.table(buckets).transpose(2, 0, 1)[None]


# -- parts -----------------------------------------------------------------------------------------


class T5Attention(nn.Module):
    """softmax(q kᵀ + bias) v, with queries from x, and keys and values from x or a context.

    Eq.: softmax(q kᵀ + b) v  (Raffel et al. 2020, section 2.1; the missing 1/√d: their code)
    Held by: tests/models/language/test_t5.py::test_attention_by_hand
    """

    def __init__(self, config: T5Config, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        inner, self.heads = c.heads * c.head_channels, c.heads
        self.q, self.k, self.v = (nn.Linear(c.channels, inner, bias=False, rng=rng) for _ in range(3))
        self.proj = nn.Linear(inner, c.channels, bias=False, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)

    def forward(
        self, x: Tensor, context: Tensor | None, bias: TensorLike, cache: nn.KVCache | None = None
    ) -> Tensor:
        """x (B, T, C), context (B, S, C) or None -> (B, T, C). `bias` is broadcastable to (B, H, T, S),
        and -inf where a query must not look. A cache grows by the positions of x; the cache of a context
        is filled once."""
        q = split_heads(self.q(x), self.heads)  # (B, H, T, d)
        if context is not None and cache is not None and cache.length:
            k, v = cache.contents()
        else:
            read = x if context is None else context
            k, v = split_heads(self.k(read), self.heads), split_heads(self.v(read), self.heads)
            if cache is not None:
                k, v = cache.append(k, v)  # each (B, H, S, d)
        p = self.drop(ops.softmax(q @ k.swapaxes(-1, -2) + bias))  # (B, H, T, S)
        return self.proj(merge_heads(p @ v))


class T5FeedForward(nn.Module):
    """relu(x W) W_2, or with a gate (gelu(x W) ⊗ x V) W_2: (B, T, C) -> (B, T, C).

    Eq.: FFN_GEGLU(x) = (GELU(x W) ⊗ x V) W_2  (Shazeer 2020, eq. 6)
    Held by: tests/models/language/test_t5.py::test_feed_forward_by_hand
    """

    def __init__(self, config: T5Config, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.fc = nn.Linear(c.channels, c.hidden, bias=False, rng=rng)
        self.up = nn.Linear(c.channels, c.hidden, bias=False, rng=rng) if c.gated else None
        self.proj = nn.Linear(c.hidden, c.channels, bias=False, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        h = ops.relu(self.fc(x)) if self.up is None else ops.gelu(self.fc(x), "tanh") * self.up(x)
        return self.proj(self.drop(h))


class T5Block(nn.Module):
    """x += attn(norm(x)); in the decoder x += cross(norm(x), memory); x += mlp(norm(x)): (B, T, C) ->
    (B, T, C). Biases are as in T5Attention."""

    def __init__(self, config: T5Config, decoder: bool, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.norm1, self.attn = nn.RMSNorm(c.channels, c.norm_eps), T5Attention(c, rng=rng)
        self.norm_cross = nn.RMSNorm(c.channels, c.norm_eps) if decoder else None
        self.cross = T5Attention(c, rng=rng) if decoder else None
        self.norm2, self.mlp = nn.RMSNorm(c.channels, c.norm_eps), T5FeedForward(c, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        memory: Tensor | None = None,
        memory_bias: Array | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        of_target, of_memory = cache or (None, None)
        x = x + self.drop(self.attn(self.norm1(x), None, bias, of_target))
        if self.cross is not None and self.norm_cross is not None and memory_bias is not None:
            x = x + self.drop(self.cross(self.norm_cross(x), memory, memory_bias, of_memory))
        return x + self.drop(self.mlp(self.norm2(x)))


# -- the model -------------------------------------------------------------------------------------


class T5(EncoderDecoder):
    """`model(source, target)` -> logits (B, T, V); `model.loss(source, target)`;
    `model.greedy_search(source, n)` and `model.beam_search(source, n, width)` -> targets. Sources (B, S) and
    targets (B, T) are ids, filled up with `pad`."""

    def __init__(self, config: T5Config, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.encoder = nn.ModuleList(T5Block(c, False, rng=rng) for _ in range(c.layers))
        self.encoder_bias = RelativeBias(c, both_ways=True, rng=rng)
        self.encoder_norm = nn.RMSNorm(c.channels, c.norm_eps)
        self.decoder = nn.ModuleList(T5Block(c, True, rng=rng) for _ in range(c.decoder_layers))
        self.decoder_bias = RelativeBias(c, both_ways=False, rng=rng)
        self.decoder_norm = nn.RMSNorm(c.channels, c.norm_eps)
        self.lm_head = None if c.tie_weights else nn.Linear(c.channels, c.vocab_size, bias=False, rng=rng)
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """The authors' initial weights: N(0, 1) for the embedding and a head of its own, N(0, 1 / (C d)) for
        queries, N(0, 1 / C) for the biases of positions, and N(0, 1 / inputs) for all other matrices."""
        rng, c = as_generator(rng), self.config
        for name, p in self.named_parameters():
            if p.ndim == 2:
                variance = 1 / c.channels if name.endswith("table.weight") else 1 / p.shape[1]
                if name.startswith(("embedding", "lm_head")):
                    variance = 1.0
                elif name.endswith("q.weight"):
                    variance /= c.head_channels
                p.data = math.sqrt(variance) * rng.standard_normal(p.shape, dtype=np.float32)

    def memory(self, source: Array) -> Tensor:
        x = self.drop(self.embedding(source))  # (B, S, C)
        bias = self.encoder_bias(source.shape[1], source.shape[1]) + self.padding_bias(
            source, x
        )  # (B, H, S, S)
        for block in self.encoder:
            x = block(x, bias)
        return self.drop(self.encoder_norm(x))

    def logits(
        self, target: Array, memory: Tensor, source: Array, caches: list[DecoderCache] | None = None
    ) -> Tensor:
        start, s = caches[0].target.length if caches else 0, target.shape[1]
        x = self.drop(self.embedding(target[:, start:]))  # (B, T, C)
        seen = np.tri(s, dtype=bool)[start:]  # (T, S)
        bias = self.decoder_bias(s - start, s) + minus_infinity(~seen, x)  # (1, H, T, S)
        memory_bias = self.padding_bias(source, x)
        for i, block in enumerate(self.decoder):
            x = block(x, bias, memory, memory_bias, caches[i] if caches else None)
        x = self.drop(self.decoder_norm(x))
        if self.lm_head is not None:
            return self.lm_head(x)
        return ops.linear(x * self.config.channels**-0.5, self.embedding.weight)  # (B, T, V)

    def padding_bias(self, source: Array, x: Tensor) -> Array:
        """-inf at padding, else 0, with axes for heads and queries: (B, S) -> (B, 1, 1, S)."""
        return minus_infinity((source == self.config.pad)[:, None, None], x)

    # -- T5's files --------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, dropout: float | None = None, *, rng: RNGLike = 0) -> Self:
        """The T5 in a folder of Hugging Face's format (`huggingface/t5.py`), in float32 and evaluation mode.
        To train the model further, give the `rng` from which dropout draws, and the rate of dropout (default:
        the folder's).

        Raises CheckpointError, which names the file, option or tensor, if the folder holds no such model."""
        fields, state = t5.read(folder)
        if dropout is not None:
            fields["dropout"] = dropout
        model = cls(T5Config(**fields), rng=rng)
        for name, p in model.named_parameters():
            p.data = np.array(state.pop(name), np.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write this model as a folder that `from_pretrained` and Hugging Face's `transformers` read
        (T5ForConditionalGeneration). Merged adapters (LoRA) go in as part of the weights.

        Raises ValueError, before anything is written, if adapters are not merged, or if the model does not
        match its config; CheckpointError if writing fails."""
        t5.write(folder, asdict(self.config), merged_state(self))


def minus_infinity(hidden: Array, x: Tensor) -> Array:
    """-inf where `hidden` is True, else 0: an array with the dtype and on the device of x."""
    hidden = np.asarray(hidden, like=x.data)
    return np.where(hidden, np.asarray(-np.inf, x.dtype, like=x.data), np.asarray(0, x.dtype, like=x.data))

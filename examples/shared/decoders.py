"""For `gpt_to_llama.py`: a language model between GPT and Llama, with any of the changes that lead from one
to the other. Without changes it is `GPT`, with all of them `Llama`; both have tied weights.

Shapes: B batch, T positions, C channels, H heads, K heads of keys and values, d = C / H, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.nn.attention import Heads, split_heads
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor

FOUR = ("RoPE", "RMSNorm", "SwiGLU", "GQA")
CHANGES = (*FOUR, "no biases")
GROUP = 3  # heads of queries that share one head of keys and values, with "GQA"
STEP = 8  # widths of the perceptrons are multiples of it


class Sizes(NamedTuple):
    vocab: int
    block: int  # T, the positions that are trained
    layers: int
    heads: int
    channels: int


class Attention(Heads):
    """Causal self-attention (B, T, C) -> (B, T, C). With "RoPE", positions turn queries and keys. With "GQA",
    GROUP heads of queries share one head of keys and values."""

    def __init__(self, sizes: Sizes, changes: Collection[str], *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c, bias = sizes.channels, "no biases" not in changes
        super().__init__(c, sizes.heads, dropout=0.0, rng=rng)
        self.rotates = "RoPE" in changes
        self.group = GROUP if "GQA" in changes else 1
        self.kv_heads = sizes.heads // self.group
        self.q = nn.Linear(c, c, bias, rng=rng)
        self.k = nn.Linear(c, c // self.group, bias, rng=rng)
        self.v = nn.Linear(c, c // self.group, bias, rng=rng)
        self.proj = nn.Linear(c, c, bias, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        q = split_heads(self.q(x), self.heads)  # (B, H, T, d)
        k = split_heads(self.k(x), self.kv_heads)  # (B, K, T, d)
        v = split_heads(self.v(x), self.kv_heads)  # (B, K, T, d)
        if self.rotates:
            q, k = nn.rotary(q), nn.rotary(k)
        if self.group > 1:
            k, v = ops.repeat(k, self.group, axis=1), ops.repeat(v, self.group, axis=1)  # (B, H, T, d)
        return self.proj(self.attend(q, k, v, None, causal=True))


class MLP(nn.Module):
    """GPT's perceptron, of any width inside: (..., C) -> (..., C)."""

    def __init__(self, channels: int, hidden: int, bias: bool, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.up = nn.Linear(channels, hidden, bias, rng=rng)
        self.down = nn.Linear(hidden, channels, bias, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(ops.gelu(self.up(x), "none"))


def norm(channels: int, changes: Collection[str]) -> nn.RMSNorm | nn.LayerNorm:
    if "RMSNorm" in changes:
        return nn.RMSNorm(channels, eps=1e-5)
    return nn.LayerNorm(channels, bias="no biases" not in changes)


class Block(nn.Module):
    """x += attn(norm1(x)); x += mlp(norm2(x)): (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes: Sizes, hidden: int, changes: Collection[str], *, rng: RNGLike) -> None:
        rng, c, bias = as_generator(rng), sizes.channels, "no biases" not in changes
        self.norm1 = norm(c, changes)
        self.attn = Attention(sizes, changes, rng=rng)
        self.norm2 = norm(c, changes)
        self.mlp = (nn.SwiGLU if "SwiGLU" in changes else MLP)(c, hidden, bias, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """Tokens idx (B, T) -> logits (B, T, V). Only with "RoPE" can T be larger than `sizes.block`."""

    def __init__(self, sizes: Sizes, hidden: int, changes: Collection[str], *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), sizes.channels
        self.wte = nn.Embedding(sizes.vocab, c, rng=rng)
        self.wpe = None if "RoPE" in changes else nn.Embedding(sizes.block, c, rng=rng)
        self.h = nn.ModuleList(Block(sizes, hidden, changes, rng=rng) for _ in range(sizes.layers))
        self.norm = norm(c, changes)
        for name, p in self.named_parameters():  # as in GPT and Llama
            if p.ndim == 2:
                added = name.endswith(("proj.weight", "down.weight"))  # its output is added to the stream
                std = 0.02 / math.sqrt(2 * sizes.layers) if added else 0.02
                p.data = std * rng.standard_normal(p.shape, dtype=np.float32)
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def forward(self, idx: Any) -> Tensor:
        x = self.wte(idx)  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe(np.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        return ops.linear(self.norm(x), self.wte.weight)

    def cache_bytes(self) -> int:
        """Bytes of the keys and values that generation keeps for each token."""
        return sum(4 * 2 * len(block.attn.k.weight) for block in self.h)


def equal_hidden(sizes: Sizes, changes: Collection[str]) -> int:
    """The width of the perceptrons with which a decoder with these changes has as many parameters as the one
    without changes, or nearly: a multiple of STEP."""

    def count(hidden: int, changes: Collection[str]) -> int:
        return Decoder(sizes, hidden, changes, rng=0).num_parameters()

    one, two, wanted = count(STEP, changes), count(2 * STEP, changes), count(4 * sizes.channels, ())
    return STEP + STEP * round((wanted - one) / (two - one))

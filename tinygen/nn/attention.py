"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2), with a KV cache.

Shapes: B batch, T positions of the queries, S of the keys, C channels, H heads, d = C / H.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.nn.linear import Linear
from tinygen.nn.module import Module
from tinygen.nn.rope import rotary
from tinygen.ops.random import RNGLike, as_generator, new_seed, require_dropout
from tinygen.tensor import Tensor
from tinygen.types import Ids, Mask, TensorLike


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, H, T, d). View first, then transpose: the C channels of one position are its H
    heads side by side."""
    b, t, c = x.shape
    return x.reshape(b, t, heads, c // heads).transpose(0, 2, 1, 3)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, C): `split_heads` undone."""
    b, h, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, t, h * d)


class KVCache:
    """The keys and values of one layer's past positions, so that each new token costs one row.

    Space is allocated as positions come, with the dtype and device of the keys: doubled when it is full, and
    never for more than `max_length`. Use the cache under `no_grad()`. To forget the last positions, set
    `length` to a smaller number."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0  # how many positions are filled
        self.keys: Any = None  # before any has come; then (B, H, positions that there is space for, d)
        self.values: Any = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k and v (B, H, T, d), and return all keys and values so far: (B, H, length, d) each.

        Raises RuntimeError when k or v is on the tape, and ValueError when the cache is full or holds arrays
        of another shape."""
        if k.requires_grad or v.requires_grad:
            raise RuntimeError("a KV cache takes no gradients: run the model under no_grad()")
        start, end = self.length, self.length + k.shape[2]
        if end > self.max_length:
            raise ValueError(
                f"the KV cache has room for {self.max_length} positions, {start} are filled, and "
                f"{k.shape[2]} more have come: make it larger, or start over with the last ones"
            )
        b, h, t, d = k.shape
        if self.keys is not None and k.shape != (wanted := (*self.keys.shape[:2], t, self.keys.shape[3])):
            raise ValueError(f"keys have shape {k.shape}, the KV cache wants {wanted}: make a new one")
        if self.keys is None or end > self.keys.shape[2]:
            space = (b, h, min(max(2 * end, 256), self.max_length))
            keys = np.zeros_like(k.data, shape=(*space, d))
            values = np.zeros_like(v.data, shape=(*space, v.shape[3]))
            if self.keys is not None:
                keys[:, :, :start], values[:, :, :start] = self.keys[:, :, :start], self.values[:, :, :start]
            self.keys, self.values = keys, values
        self.keys[:, :, start:end] = k.data
        self.values[:, :, start:end] = v.data
        self.length = end
        return self.contents()

    def contents(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far: (B, H, length, d) each. Raises ValueError when there are none."""
        if self.keys is None:
            raise ValueError("the KV cache is empty: append keys and values first")
        return Tensor(self.keys[:, :, : self.length]), Tensor(self.values[:, :, : self.length])

    def take(self, rows: Ids) -> None:
        """Keep these rows of the batch, in this order; a row may come several times. Beam search needs this,
        since the best sequences may continue the same one."""
        if self.keys is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


class Heads(Module):
    """The base class of self- and cross-attention: the number of heads, and dropout on the attention
    weights."""

    def __init__(self, channels: int, heads: int, dropout: float, *, rng: RNGLike) -> None:
        require_equal_heads(channels, heads)
        require_dropout(dropout)
        self.channels, self.heads, self.dropout, self.rng = channels, heads, dropout, as_generator(rng)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, causal: bool) -> Tensor:
        """q (B, H, T, d), k and v (B, H, S, d) -> (B, T, C). Raises TypeError for a mask of another dtype
        than bool, ValueError for one without an axis for the heads."""
        require_axis_of_heads(mask)
        p = self.dropout if self.training else 0.0
        return merge_heads(ops.attention(q, k, v, mask, causal, p, new_seed(self.rng) if p else 0))

    def extra_repr(self) -> str:
        return f"{self.channels}, heads={self.heads}"


class MultiHeadAttention(Heads):
    """Self-attention: every position attends to all positions. With `causal`, it attends only to itself and
    earlier ones.

    One projection gives queries, keys and values side by side, as in GPT-2; a second one mixes the heads.
    `dropout` drops attention weights in training. `use_rotary` rotates queries and keys by their positions
    (`rope.py`). With `bias` both linear layers have a bias; with `qkv_bias=False` only the second one does.
    Raises ValueError when the number of heads does not divide the channels.

    Eq.: MultiHead(x) = Concat(head_1, …, head_h) W_O,  head_i = Attention(x W_Q, x W_K, x W_V)
        (Vaswani et al. 2017, section 3.2.2)
    Held by: tests/nn/test_attention.py::test_self_attention_by_hand
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        use_rotary: bool = False,
        qkv_bias: bool = True,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        super().__init__(channels, heads, dropout, rng=rng)
        self.causal, self.use_rotary = causal, use_rotary
        self.qkv = Linear(channels, 3 * channels, bias and qkv_bias, rng=rng)
        self.proj = Linear(channels, channels, bias, rng=rng)

    def forward(self, x: TensorLike, mask: Mask | None = None, cache: KVCache | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C). `mask` is True where a query may look, broadcastable to (B, H, T, S).

        With a `cache`, x holds the positions that come after those in it, and S counts both."""
        q, k, v = (split_heads(part, self.heads) for part in ops.split(self.qkv(x), 3, axis=-1))
        if self.use_rotary:
            start = 0 if cache is None else cache.length
            q, k = rotary(q, start), rotary(k, start)
        if cache is not None:
            k, v = cache.append(k, v)
        return self.proj(self.attend(q, k, v, mask, self.causal))

    def extra_repr(self) -> str:
        return super().extra_repr() + ", causal" * self.causal + ", rotary" * self.use_rotary


class CrossAttention(Heads):
    """Cross-attention: queries from x, keys and values from a context with `context_channels` channels,
    such as an encoder's output or an encoded text. Otherwise as `MultiHeadAttention`."""

    def __init__(
        self,
        channels: int,
        heads: int,
        context_channels: int,
        dropout: float = 0.0,
        bias: bool = True,
        qkv_bias: bool = True,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        super().__init__(channels, heads, dropout, rng=rng)
        self.q = Linear(channels, channels, bias and qkv_bias, rng=rng)
        self.kv = Linear(context_channels, 2 * channels, bias and qkv_bias, rng=rng)
        self.proj = Linear(channels, channels, bias, rng=rng)

    def forward(
        self, x: TensorLike, context: Any, mask: Mask | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """x (B, T, C), context (B, S, context_channels) -> (B, T, C); `mask` as in MultiHeadAttention.

        A `cache` gets the keys and values of the context at the first call; later calls take them from it,
        and do not look at the context."""
        q = split_heads(self.q(x), self.heads)
        if cache is not None and cache.length:
            k, v = cache.contents()
        else:
            k, v = (split_heads(part, self.heads) for part in ops.split(self.kv(context), 2, axis=-1))
            if cache is not None:
                k, v = cache.append(k, v)
        return self.proj(self.attend(q, k, v, mask, causal=False))


def require_equal_heads(channels: int, heads: int) -> None:
    """Raises ValueError when the heads do not divide the channels."""
    if channels % heads:
        raise ValueError(f"{channels} channels cannot be split into {heads} equal heads")


def require_axis_of_heads(mask: Mask | None) -> None:
    """Raises ValueError for a mask (B, T, S): its batch would be broadcast along the heads."""
    if mask is not None and mask.ndim == 3:
        raise ValueError(f"the mask has shape {mask.shape}: give it an axis for the heads, mask[:, None]")

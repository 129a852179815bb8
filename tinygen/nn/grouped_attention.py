"""Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): several heads of queries share one head
of keys and values, so that the KV cache is smaller. With one head of keys per head of queries it is
multi-head attention; with one for all, multi-query attention (Shazeer 2019, arXiv:1911.02150).

Shapes: B batch, T positions of the queries, S positions of the keys, C channels, H heads, K heads of keys,
d width of a head.
"""

from __future__ import annotations

from tinygen import ops
from tinygen.nn.attention import Heads, KVCache, split_heads
from tinygen.nn.linear import Linear
from tinygen.nn.norm import RMSNorm
from tinygen.nn.rope import RopeScaling, rotary
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Mask, TensorLike


class GroupedQueryAttention(Heads):
    """Causal self-attention with rotary positions (`rope.py`), as in LLaMA: position t sees 0 ... t.

    Head h of the `heads` queries uses head h // (heads / kv_heads) of the keys and values; without
    `kv_heads`, there are as many of these. A head is `head_channels` wide; without it, channels / heads.
    `qk_norm` is the epsilon of an RMS norm of each query and each key before their rotation (Qwen3), None
    for no norm. `dropout` drops attention weights.

    Raises ValueError when kv_heads does not divide heads, or when the width of a head is odd or not a whole
    number.

    Eq.: head_h = Attention(x W_Q^h, x W_K^g, x W_V^g),  g = h // (heads / kv_heads)
        (Ainslie et al. 2023, section 2.2)
    Held by: tests/nn/test_grouped_attention.py::test_it_is_multi_head_attention_with_repeated_heads
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kv_heads: int | None = None,
        head_channels: int | None = None,
        *,
        dropout: float = 0.0,
        qkv_bias: bool = False,
        proj_bias: bool = False,
        qk_norm: float | None = None,
        base: float = 10_000.0,
        scaling: RopeScaling | None = None,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if head_channels is None and channels % heads:
            raise ValueError(f"{channels} channels cannot be split into {heads} equal heads")
        d = head_channels or channels // heads
        if d % 2:
            raise ValueError(f"rotary positions turn pairs of entries: an even head size is needed, got {d}")
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{heads} heads cannot share {kv_heads} heads of keys and values equally")
        super().__init__(heads * d, heads, dropout, rng=rng)
        self.kv_heads = kv_heads
        self.base, self.scaling = base, scaling
        self.q = Linear(channels, heads * d, qkv_bias, rng=rng)
        self.k = Linear(channels, kv_heads * d, qkv_bias, rng=rng)
        self.v = Linear(channels, kv_heads * d, qkv_bias, rng=rng)
        self.q_norm = None if qk_norm is None else RMSNorm(d, qk_norm)
        self.k_norm = None if qk_norm is None else RMSNorm(d, qk_norm)
        self.proj = Linear(heads * d, channels, proj_bias, rng=rng)

    def forward(self, x: TensorLike, cache: KVCache | None = None, mask: Mask | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C); `mask` and `cache` as in MultiHeadAttention."""
        q = split_heads(self.q(x), self.heads)  # (B, H, T, d)
        k = split_heads(self.k(x), self.kv_heads)  # (B, K, T, d)
        v = split_heads(self.v(x), self.kv_heads)  # (B, K, T, d)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        start = 0 if cache is None else cache.length
        q, k = (rotary(part, start, self.base, self.scaling) for part in (q, k))
        if cache is not None:
            k, v = cache.append(k, v)  # each (B, K, S, d)
        group = self.heads // self.kv_heads
        k, v = ops.repeat(k, group, axis=1), ops.repeat(v, group, axis=1)  # each (B, H, S, d)
        return self.proj(self.attend(q, k, v, mask, causal=True))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kv_heads={self.kv_heads}"

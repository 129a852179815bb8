"""Llama: the architecture of most open language models today (Touvron et al. 2023, arXiv:2302.13971).

It reads from left to right, as GPT does (`gpt.py`), with four changes in a block. x is (B, T, C):

    nn/norm.py                RMSNorm: x / sqrt(mean(x²)) · weight, in place of layer norm
    nn/grouped_attention.py   fewer heads of keys and values than of queries; Llama 2 has them at 70 billion
    nn/rope.py                positions turn queries and keys, in place of a table that is added to x
    nn/transformer.py         SwiGLU: a perceptron with a gate, in place of GELU

It has biases only in relatives such as Qwen2. `examples/pages/llama.py` has the whole model on one page.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.lora import merged_state
from tinygen.models.huggingface import llama
from tinygen.models.language.causal_lm import CausalLM
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, Mask, TensorLike


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama. `complete()` replaces each None by its number; a model's `config` is complete."""

    vocab_size: int
    block_size: int = 64  # the longest context, T
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None  # heads of keys and values; None: as many as heads
    channels: int = 128  # the width of the stream, C
    head_channels: int | None = None  # the width of a head, d; None: channels / heads
    hidden: int | None = None  # the width inside SwiGLU; None: 8/3 channels, up to a multiple of 16
    dropout: float = 0.0  # of attention weights
    rope_base: float = 10_000.0
    rope_scaling: nn.RopeScaling | None = None  # Llama 3.1's, for longer contexts than in training
    qkv_bias: bool = False  # as in Qwen2
    proj_bias: bool = False  # of the attention's last layer
    mlp_bias: bool = False
    qk_norm: bool = False  # of each query and key, as in Qwen3
    tie_weights: bool = False  # the last layer is the embedding
    norm_eps: float = 1e-5  # added to the mean square in RMS norms

    def complete(self) -> LlamaConfig:
        """The config with each None replaced. ValueError when the number of heads does not divide the
        channels."""
        if self.head_channels is None and self.channels % self.heads:
            raise ValueError(f"{self.channels} channels cannot be split into {self.heads} equal heads")
        return replace(
            self,
            kv_heads=self.kv_heads or self.heads,
            head_channels=self.head_channels or self.channels // self.heads,
            hidden=self.hidden or nn.SwiGLU.usual_width(self.channels),
        )


class LlamaBlock(nn.Module):
    """x += attn(norm1(x)); x += mlp(norm2(x)): (B, T, C) -> (B, T, C)."""

    def __init__(self, config: LlamaConfig, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config.complete()
        self.norm1 = nn.RMSNorm(c.channels, c.norm_eps)
        self.attn = nn.GroupedQueryAttention(
            c.channels,
            c.heads,
            c.kv_heads,
            c.head_channels,
            dropout=c.dropout,
            qkv_bias=c.qkv_bias,
            proj_bias=c.proj_bias,
            qk_norm=c.norm_eps if c.qk_norm else None,
            base=c.rope_base,
            scaling=c.rope_scaling,
            rng=rng,
        )
        self.norm2 = nn.RMSNorm(c.channels, c.norm_eps)
        self.mlp = nn.SwiGLU(c.channels, c.hidden, c.mlp_bias, rng=rng)

    def forward(self, x: Tensor, cache: nn.KVCache | None = None, mask: Mask | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), cache, mask)
        return x + self.mlp(self.norm2(x))


class Llama(CausalLM):
    """`model(idx, targets)` -> logits and loss, as GPT; `model.sample(idx, n, rng=rng)` -> tokens."""

    def __init__(self, config: LlamaConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config.complete()
        self.wte = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        self.lm_head = nn.Linear(c.channels, c.vocab_size, bias=False, rng=rng)
        if c.tie_weights:
            self.lm_head.weight = self.wte.weight
        self.h = nn.ModuleList(LlamaBlock(c, rng=rng) for _ in range(c.layers))
        self.norm = nn.RMSNorm(c.channels, c.norm_eps)
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """N(0, 0.02²) for weights, 0 for biases, 1 for norms. The 2·layers projections that are added to
        the stream get the std 0.02/sqrt(2·layers), as in GPT."""
        rng = as_generator(rng)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                last = name.endswith(("proj.weight", "down.weight"))
                rng.standard_normal(p.shape, dtype=np.float32, out=p.data)
                p.data *= 0.02 / math.sqrt(2 * self.config.layers) if last else 0.02
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def forward(self, idx: Ids, targets: TensorLike | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B, T, V) for tokens idx (B, T), and with targets (B, T) the mean loss in nats:
        targets[b, t] is the token after idx[b, t], or -1 where it does not count.

        Raises ValueError for more than block_size tokens, IndexError for tokens outside the vocabulary."""
        logits = self.lm_head(self.features(idx))
        if targets is None:
            return logits, None
        return logits, ops.cross_entropy(logits, targets, ignore_index=-1)

    def features(self, idx: Ids, caches: list[nn.KVCache] | None = None, mask: Mask | None = None) -> Tensor:
        """As in CausalLM. Positions may count padding: attention depends on their differences alone."""
        idx = (idx if isinstance(idx, Tensor) else Tensor(idx)).data  # on a GPU it stays there
        end = (caches[0].length if caches else 0) + idx.shape[1]
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens are more than block_size={self.config.block_size}: crop the context"
            )
        seen = None if mask is None else mask[:, None, None]  # (B, 1, 1, S)
        x = self.wte(idx)  # (B, T, C)
        for i, block in enumerate(self.h):
            x = block(x, caches[i] if caches else None, seen)
        return self.norm(x)

    # -- files of Llama, Mistral, Qwen2 and Qwen3 --------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, block_size: int | None = None, *, rng: RNGLike = 0) -> Self:
        """The model in a folder of Hugging Face's format (`huggingface/llama.py`), in float32 and evaluation
        mode. `block_size` is the longest context, in place of the folder's.

        Raises CheckpointError, naming files, options, tensors, when the folder holds no such model."""
        fields, state = llama.read(folder, block_size)
        model = cls(LlamaConfig(**fields), rng=rng)
        for name, p in model.named_parameters():
            p.data = np.array(state.pop(name), np.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write this model as a folder that `from_pretrained` and Hugging Face's `transformers` read: as a
        Llama, or as the relative that has its biases and norms. Merged adapters (LoRA) go in as part of the
        weights.

        Raises ValueError, having written nothing, for adapters that are not merged, and for a model that is
        not the Llama of its config or that no relative can be; CheckpointError when the disk refuses."""
        config = asdict(self.config) | {"rope_scaling": self.config.rope_scaling}
        llama.write(folder, config, merged_state(self))

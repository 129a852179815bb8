"""BART: an encoder–decoder that repairs a damaged text (Lewis et al. 2020, *BART: Denoising
sequence-to-sequence pre-training for natural language generation*, arXiv:1910.13461).

The architecture is the Transformer's (`transformer.py`), post-norm, with three changes: GELU in place
of ReLU; learned positions, which are added to the embeddings without the factor sqrt(C); and a layer norm
after this sum. So the encoder is BERT's, and the decoder is GPT's with cross-attention.

`text/corruption.py` damages texts: spans become one [MASK] each, and sentences come in another order.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.lora import merged_state
from tinygen.models.huggingface import bart
from tinygen.models.huggingface.bart import UNUSED
from tinygen.models.language.encoder_decoder import DecoderCache, EncoderDecoder
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor


@dataclass(frozen=True)
class BARTConfig:
    """The shape of a BART; the defaults are the paper's large model."""

    vocab_size: int = 50265
    block_size: int = 1024  # the longest text, S and T
    layers: int = 12  # of the encoder
    decoder_layers: int = 12
    heads: int = 16
    channels: int = 1024  # C
    hidden: int = 4096  # the width inside the feed-forward network
    dropout: float = 0.1  # of the embeddings, and of each branch that is added to the stream
    inner_dropout: float = 0.1  # of attention weights, and inside the feed-forward network
    gelu: str = "none"  # or "tanh", the approximation
    pad: int = 1
    begin: int = 2  # the first token of each target; in the published models it is `end`
    end: int = 2  # the last one


class BARTBlock(nn.Module):
    """Self-attention, in the decoder cross-attention, and a feed-forward network, each with a layer norm
    after its sum: (B, T, C) -> (B, T, C).

    Eq.: x ← LN(x + Attention(x)),  x ← LN(x + Attention(x, memory)),  x ← LN(x + W_2 gelu(W_1 x + b_1) + b_2)
        (Vaswani et al. 2017, section 3.1; gelu: Lewis et al. 2020, section 2.1)
    Held by: tests/models/language/test_bart.py::test_block_by_hand
    """

    def __init__(self, config: BARTConfig, decoder: bool, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.attn = nn.MultiHeadAttention(c.channels, c.heads, decoder, c.inner_dropout, rng=rng)
        self.norm1 = nn.LayerNorm(c.channels)
        self.cross = (
            nn.CrossAttention(c.channels, c.heads, c.channels, c.inner_dropout, rng=rng) if decoder else None
        )
        self.norm_cross = nn.LayerNorm(c.channels) if decoder else None
        self.fc = nn.Linear(c.channels, c.hidden, rng=rng)
        self.proj = nn.Linear(c.hidden, c.channels, rng=rng)
        self.norm2 = nn.LayerNorm(c.channels)
        self.drop, self.gelu = nn.Dropout(c.dropout, rng=rng), c.gelu
        self.inner_drop = nn.Dropout(c.inner_dropout, rng=rng)

    def forward(
        self,
        x: Tensor,
        mask: Array | None,
        memory: Tensor | None = None,
        memory_mask: Array | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """The masks are True where a query may look, broadcastable to (B, H, T, T) and (B, H, T, S)."""
        of_target, of_memory = cache or (None, None)
        x = self.norm1(x + self.drop(self.attn(x, mask, of_target)))
        if self.cross is not None and self.norm_cross is not None:
            x = self.norm_cross(x + self.drop(self.cross(x, memory, memory_mask, of_memory)))
        h = self.inner_drop(ops.gelu(self.fc(x), self.gelu))
        return self.norm2(x + self.drop(self.proj(h)))


class BART(EncoderDecoder):
    """`model(source, target)` -> logits (B, T, V); `model.loss(source, target)`;
    `model.greedy_search(source, n)` and `model.beam_search(source, n, width)` -> targets. Sources (B, S) and
    targets (B, T) are ids, filled up with `pad`."""

    logits_bias: Tensor

    def __init__(self, config: BARTConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.encoder_positions = nn.Embedding(UNUSED + c.block_size, c.channels, rng=rng)
        self.encoder_norm = nn.LayerNorm(c.channels)
        self.encoder = nn.ModuleList(BARTBlock(c, False, rng=rng) for _ in range(c.layers))
        self.decoder_positions = nn.Embedding(UNUSED + c.block_size, c.channels, rng=rng)
        self.decoder_norm = nn.LayerNorm(c.channels)
        self.decoder = nn.ModuleList(BARTBlock(c, True, rng=rng) for _ in range(c.decoder_layers))
        # added to the logits; not trained: 0 in the published models
        self.register_buffer("logits_bias", np.zeros(c.vocab_size, np.float32))
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """N(0, 0.02²) for matrices, 0 for biases, as in the published code."""
        rng = as_generator(rng)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                p.data = 0.02 * rng.standard_normal(p.shape, dtype=np.float32)
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def memory(self, source: Array) -> Tensor:
        x, mask = self.embed(source, self.encoder_positions, 0), self.mask(source)
        x = self.drop(self.encoder_norm(x))  # (B, S, C)
        for block in self.encoder:
            x = block(x, mask)
        return x

    def logits(
        self, target: Array, memory: Tensor, source: Array, caches: list[DecoderCache] | None = None
    ) -> Tensor:
        start = caches[0].target.length if caches else 0
        x = self.embed(target, self.decoder_positions, start)
        mask, x = self.mask(source), self.drop(self.decoder_norm(x))
        for i, block in enumerate(self.decoder):
            x = block(x, None, memory, mask, caches[i] if caches else None)
        return ops.linear(x, self.embedding.weight, self.logits_bias)  # (B, T, V)

    def embed(self, ids: Array, positions: nn.Embedding, start: int) -> Tensor:
        """Embeddings of tokens and positions, from position `start` on: (B, T) -> (B, T - start, C)."""
        t, longest = ids.shape[1], self.config.block_size
        if t > longest:
            raise ValueError(f"{t} tokens are more than block_size={longest}: crop the texts")
        return self.embedding(ids[:, start:]) + positions(UNUSED + np.arange(start, t))

    def mask(self, source: Array) -> Array:
        """True at tokens, False at padding, with axes for heads and queries: (B, S) -> (B, 1, 1, S)."""
        return (source != self.config.pad)[:, None, None]

    # -- BART's files ------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, dropout: float | None = None, *, rng: RNGLike = 0) -> Self:
        """The BART in a folder of Hugging Face's format (`huggingface/bart.py`), in float32 and evaluation
        mode. To train the model further, give the `rng` from which dropout draws, and one rate for all places
        of dropout (default: the folder's two).

        Raises CheckpointError, which names the file, option or tensor, if the folder holds no such model;
        ValueError if the folder has three rates of dropout, and none is given."""
        fields, state = bart.read(folder, dropout)
        model = cls(BARTConfig(**fields), rng=rng)
        model.logits_bias.data = np.array(state.pop("logits_bias"), np.float32)
        for name, p in model.named_parameters():
            p.data = np.array(state.pop(name), np.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write this model as a folder that `from_pretrained` and Hugging Face's `transformers` read
        (BartForConditionalGeneration). Merged adapters (LoRA) go in as part of the weights.

        Raises ValueError, before anything is written, if adapters are not merged, or if the model does not
        match its config; CheckpointError if writing fails."""
        bart.write(folder, asdict(self.config), merged_state(self))

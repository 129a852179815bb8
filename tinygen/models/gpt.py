"""GPT: a language model that reads from left to right and predicts the next token.

Radford et al. 2018 and 2019 (GPT, GPT-2); the sizes and the initialisation follow GPT-2 and nanoGPT. Token
and position embeddings, `n_layer` pre-norm Transformer blocks (`tinygen/nn/transformer.py`: causal
self-attention, then a perceptron, each added to the stream), a last layer norm, and a projection to one
logit per token of the vocabulary, which shares its weights with the token embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.tape import no_grad
from tinygen.tensor import Tensor
from tinygen.text.decoding import greedy, sample


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT; the defaults are nanoGPT's smallest model for the CPU."""

    vocab_size: int
    block_size: int = 64  # the longest context, T
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128  # the width of the stream, C
    dropout: float = 0.0
    bias: bool = True  # in the linear layers and layer norms, as in GPT-2; nanoGPT trains without
    gelu: str = "none"  # "tanh" for GPT-2's weights
    tie_weights: bool = True


class GPT(nn.Module):
    """`model(idx, targets)` -> logits and loss; `model.generate(idx, n, rng)` -> tokens."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator) -> None:
        c = self.config = config
        self.wte = nn.Embedding(c.vocab_size, c.n_embd, rng=rng)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False, rng=rng)
        if c.tie_weights:
            self.lm_head.weight = self.wte.weight  # before the rest is made: its own were as large
        self.wpe = nn.Embedding(c.block_size, c.n_embd, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.h = nn.ModuleList(
            nn.Block(c.n_embd, c.n_head, dropout=c.dropout, bias=c.bias, gelu=c.gelu, rng=rng)
            for _ in range(c.n_layer)
        )
        self.ln_f = nn.LayerNorm(c.n_embd, bias=c.bias)
        self.initialize(rng)

    def initialize(self, rng: np.random.Generator) -> None:
        """N(0, 0.02) for weights, 0 for biases; the 2·n_layer projections that add into the stream get
        0.02/sqrt(2·n_layer), so that its variance does not grow with depth (GPT-2, section 2.3)."""
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("proj.weight") else 0.02
                rng.standard_normal(p.shape, dtype=np.float32, out=p.data)
                p.data *= std
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def forward(self, idx: Any, targets: Any = None) -> tuple[Tensor, Tensor | None]:
        """Logits (B, T, V) for tokens idx (B, T), and with targets (B, T) the mean loss in nats:
        targets[b, t] is the token after idx[b, t], or -1 where it does not count.

        Raises ValueError for more than block_size tokens, IndexError for tokens outside the vocabulary."""
        logits = self.lm_head(self.features(idx))
        if targets is None:
            return logits, None
        return logits, ops.cross_entropy(logits, targets, ignore_index=-1)

    def features(self, idx: Any, caches: list[nn.KVCache] | None = None) -> Tensor:
        """The stream after the last norm, (B, T, C). With caches, idx are the tokens that come after the
        cached ones, and the caches grow by them."""
        idx = np.asarray(idx)
        start = caches[0].length if caches else 0
        end = start + idx.shape[1]
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens are more than block_size={self.config.block_size}: crop the context"
            )
        x = self.drop(self.wte(idx) + self.wpe(np.arange(start, end)))  # (B, T, C)
        for i, block in enumerate(self.h):
            x = block(x, cache=caches[i] if caches else None)
        return self.ln_f(x)  # type: ignore[no-any-return]

    def generate(
        self,
        idx: Any,
        n: int,
        rng: np.random.Generator,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Any:
        """Continue idx (B, T), T >= 1, by n tokens: (B, T + n). Temperature 0 is greedy.

        Keys and values are cached as long as everything fits into block_size; beyond that the context is
        the last block_size tokens, whose positions change with every step, so that nothing can be kept."""
        idx = np.asarray(idx)
        block_size = self.config.block_size
        caches = [nn.KVCache(block_size) for _ in self.h]
        training = self.training
        self.eval()
        try:
            with no_grad():
                for _ in range(n):
                    if idx.shape[1] <= block_size:
                        x = self.features(idx[:, caches[0].length :], caches)
                    else:
                        x = self.features(idx[:, -block_size:])
                    logits = self.lm_head(x[:, -1]).numpy()  # (B, V)
                    if temperature == 0:
                        token = greedy(logits)
                    else:
                        token = sample(logits, rng, temperature, top_k, top_p)
                    idx = np.concatenate([idx, token[:, None]], axis=1)
        finally:
            self.train(training)
        return idx

    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token, 6 N + 12 L C T: forward and backward of
        every weight, and of attention (Chowdhery et al. 2022, arXiv:2204.02311, appendix B)."""
        c = self.config
        weights = self.num_parameters() - self.wpe.weight.size
        return 6 * weights + 12 * c.n_layer * c.n_embd * c.block_size

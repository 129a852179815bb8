"""GPT: a language model that reads from left to right and predicts the next token.

Radford et al. 2018 and 2019 (GPT, GPT-2); the sizes and the initialization follow GPT-2 and nanoGPT. Token
and position embeddings, `n_layer` Transformer blocks, a last layer norm, and a projection to one logit per
token of the vocabulary, which shares its weights with the token embedding. The parts of a block, in the order
in which x (B, T, C) passes them:

    nn/transformer.py   Block: x += attention(norm(x)); x += MLP(norm(x))
    nn/attention.py     MultiHeadAttention: queries, keys and values, split into heads (B, H, T, C/H), merged
    ops/attention.py    attention: softmax(q kᵀ / sqrt(d)) v, where the causal mask hides later positions

`language/causal_lm.py` writes text with it. `examples/pages/gpt.py` has all of it on one page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.lora import merged_state
from tinygen.models.huggingface import gpt2
from tinygen.models.language.causal_lm import CausalLM
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, Mask, TensorLike

if TYPE_CHECKING:
    from tinygen.text.bpe import BPE

END = "<|endoftext|>"
"""The special token that GPT-2 puts between texts."""


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT; the defaults are nanoGPT's smallest model for the CPU. The names are nanoGPT's and
    those in GPT-2's config.json: in the rest of tinygen they are `layers`, `heads` and `channels`."""

    vocab_size: int
    block_size: int = 64  # the longest context, T
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128  # the width of the stream, C
    dropout: float = 0.0
    bias: bool = True  # in the linear layers and layer norms, as in GPT-2; nanoGPT trains without
    gelu: str = "none"  # "tanh" for GPT-2's weights
    tie_weights: bool = True
    norm_eps: float = 1e-5  # added to the variance in layer norms


class GPT(CausalLM):
    """`model(idx, targets)` -> logits and loss, as in nanoGPT; `model.sample(idx, n, rng=rng)` -> tokens."""

    def __init__(self, config: GPTConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.wte = nn.Embedding(c.vocab_size, c.n_embd, rng=rng)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False, rng=rng)
        if c.tie_weights:
            self.lm_head.weight = self.wte.weight  # first: frees the head's own matrix, which is as large
        self.wpe = nn.Embedding(c.block_size, c.n_embd, rng=rng)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.h = nn.ModuleList(
            nn.Block(
                c.n_embd,
                c.n_head,
                causal=True,  # position t sees positions 0 ... t: the mask is in `ops/attention.py`
                dropout=c.dropout,
                bias=c.bias,
                gelu=c.gelu,
                norm_eps=c.norm_eps,
                rng=rng,
            )
            for _ in range(c.n_layer)
        )
        self.ln_f = nn.LayerNorm(c.n_embd, c.bias, c.norm_eps)
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """N(0, 0.02²) for weights, 0 for biases. The 2·n_layer projections that are added to the stream get
        the std 0.02/sqrt(2·n_layer), so that its variance does not grow with depth (GPT-2, section 2.3)."""
        rng = as_generator(rng)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("proj.weight") else 0.02
                rng.standard_normal(p.shape, dtype=np.float32, out=p.data)
                p.data *= std
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
        """As in CausalLM."""
        idx = (idx if isinstance(idx, Tensor) else Tensor(idx)).data  # ids on a GPU stay there
        start = caches[0].length if caches else 0
        end = start + idx.shape[1]
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens are more than block_size={self.config.block_size}: crop the context"
            )
        positions, seen = np.arange(start, end), None  # (T,)
        if mask is not None:
            positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, start:]  # (B, T)
            seen = mask[:, None, None]  # (B, 1, 1, S)
        x = self.drop(self.wte(idx) + self.wpe(positions))  # (B, T, C)
        for i, block in enumerate(self.h):
            x = block(x, seen, caches[i] if caches else None)
        return self.ln_f(x)

    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token, 6 N + 12 L C T, forward and backward. N
        counts the weights that are multiplied; the rest is attention (Chowdhery et al. 2022,
        arXiv:2204.02311, appendix B). Embeddings are looked up, not multiplied: they count only if the last
        projection has the same weight.

        Eq.: 6 N + 12 L T C, forward and backward  (Chowdhery et al. 2022, appendix B)
        Held by: tests/models/language/test_gpt.py::test_flops_per_token
        """
        c = self.config
        weights = self.num_parameters() - self.wpe.weight.size
        if not c.tie_weights:
            weights -= self.wte.weight.size
        return 6 * weights + 12 * c.n_layer * c.n_embd * c.block_size

    # -- GPT-2's files -----------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, dropout: float | None = None, *, rng: RNGLike = 0) -> Self:
        """The GPT-2 in a folder of Hugging Face's format (`gpt2.py`), in float32 and evaluation mode.

        To train the model further, give the `rng` from which dropout draws, and the rate of dropout
        (default: the folder's). `BPE.load(folder, special=[END])` reads the tokenizer. Raises
        CheckpointError, which names the file, option or tensor, if the folder holds no such model."""
        options, state = gpt2.read(folder)
        rates = {name: options[name] for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
        if dropout is None and len(set(rates.values())) > 1:
            raise ValueError(f"GPT has one rate of dropout, {folder} has {rates}: pass dropout=")
        config = GPTConfig(
            vocab_size=options["vocab_size"],
            block_size=options["n_positions"],
            n_layer=options["n_layer"],
            n_head=options["n_head"],
            n_embd=options["n_embd"],
            dropout=rates["attn_pdrop"] if dropout is None else dropout,
            gelu=gpt2.GELU[options["activation_function"]],
            tie_weights=options["tie_word_embeddings"],
            norm_eps=options["layer_norm_epsilon"],
        )
        model = cls(config, rng=rng)
        for name, p in model.named_parameters():
            p.data = np.array(state[name], np.float32, order="C")
        return model.eval()

    def save_pretrained(self, folder: str | Path, tokenizer: BPE | None = None) -> None:
        """Write this model, and its tokenizer if it is given, as a folder that `from_pretrained` and Hugging
        Face's `transformers` read (`gpt2.py`). Merged adapters (LoRA) go in as part of the weights.

        Raises ValueError, before anything is written, if the tokenizer has more tokens than the model, if
        adapters are not merged, or if the model does not match its config; CheckpointError if writing
        fails."""
        c, end = self.config, None
        if tokenizer is not None:
            if tokenizer.vocab_size > c.vocab_size:
                raise ValueError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {c.vocab_size}")
            end = tokenizer.special.get(END)
        options = {
            **{name: getattr(c, name) for name in ("vocab_size", "n_embd", "n_layer", "n_head")},
            "n_positions": c.block_size,
            "layer_norm_epsilon": c.norm_eps,
            "embd_pdrop": c.dropout,
            "attn_pdrop": c.dropout,
            "resid_pdrop": c.dropout,
            "activation_function": {"tanh": "gelu_new", "none": "gelu"}[c.gelu],
            "tie_word_embeddings": c.tie_weights,
            "bos_token_id": end,
            "eos_token_id": end,
        }
        files = None if tokenizer is None else tokenizer.files()
        gpt2.write(folder, options, merged_state(self), c.bias, files)

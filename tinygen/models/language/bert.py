"""BERT: an encoder that reads in both directions, trained to fill in masked words.

Devlin et al. 2019 (arXiv:1810.04805). Token, position and segment embeddings; blocks as in Vaswani et al.
2017, with the layer norm after each branch; and two heads. The masked-language-model head predicts hidden
tokens, and shares its matrix with the token embedding. The next-sentence head says whether the text's second
sentence followed the first one: it sees only the pooled first token, [CLS].

RoBERTa (Liu et al. 2019, arXiv:1907.11692) is the same model, trained longer and without the next-sentence
head; its positions are counted in another way (`BERTConfig.pad`).

`text/masking.py` hides tokens. `examples/pages/bert.py` has the masked loss on one page.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tinygen import nn, ops
from tinygen.align.lora import merged_state
from tinygen.models.huggingface import bert
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Array, Ids, Mask, TensorLike


@dataclass(frozen=True)
class BERTConfig:
    """The shape of a BERT. The defaults are BERT-base."""

    vocab_size: int = 30522
    block_size: int = 512  # the longest text, T
    layers: int = 12
    heads: int = 12
    channels: int = 768  # the width of the stream, C
    hidden: int = 3072  # the width inside the feed-forward network
    segments: int = 2  # sentence A, sentence B
    dropout: float = 0.1
    gelu: str = "none"  # or "tanh", the approximation
    norm_eps: float = 1e-12  # added to the variance in layer norms
    next_sentence: bool = True  # with the pooler and the next-sentence head
    pad: int | None = None  # in a RoBERTa the id of padding: positions are counted from pad + 1


class BERTLosses(NamedTuple):
    """The parts of the loss, each a Tensor of shape (), in nats."""

    total: Tensor
    masked: Tensor
    next_sentence: Tensor | None


class BERTBlock(nn.Module):
    """Attention, then a feed-forward network, each with a layer norm after its sum: (B, T, C) -> (B, T, C).

    Eq.: x ← LN(x + Attention(x)),  x ← LN(x + W_2 gelu(W_1 x + b_1) + b_2)
        (Vaswani et al. 2017, section 3.1; gelu: Devlin et al. 2019, appendix A.2)
    Held by: tests/models/language/test_bert.py::test_block_by_hand
    """

    def __init__(self, config: BERTConfig, *, rng: RNGLike) -> None:
        rng, c = as_generator(rng), config
        self.attn = nn.MultiHeadAttention(c.channels, c.heads, dropout=c.dropout, rng=rng)
        self.norm1 = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.fc = nn.Linear(c.channels, c.hidden, rng=rng)
        self.proj = nn.Linear(c.hidden, c.channels, rng=rng)
        self.norm2 = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.drop, self.gelu = nn.Dropout(c.dropout, rng=rng), c.gelu

    def forward(self, x: TensorLike, mask: Mask | None) -> Tensor:
        """`mask` is True where a query may look, broadcastable to (B, H, T, T), or None."""
        x = self.norm1(x + self.drop(self.attn(x, mask)))
        return self.norm2(x + self.drop(self.proj(ops.gelu(self.fc(x), self.gelu))))


class BERT(nn.Module):
    """`model(ids, segments, mask)` -> logits of the masked-language-model head, (B, T, V).

    Token ids and `segments` (0 in sentence A, 1 in sentence B) are (B, T), as is `mask`: bools, True at real
    tokens and False at padding. Real tokens never look at padding, so their logits do not depend on it; those
    at padding are meaningless."""

    def __init__(self, config: BERTConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.wte = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        unused = 0 if c.pad is None else c.pad + 1  # rows of wpe, in a RoBERTa
        self.wpe = nn.Embedding(unused + c.block_size, c.channels, rng=rng)
        self.segment = nn.Embedding(c.segments, c.channels, rng=rng)
        self.norm = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.drop = nn.Dropout(c.dropout, rng=rng)
        self.h = nn.ModuleList(BERTBlock(c, rng=rng) for _ in range(c.layers))
        self.transform = nn.Linear(c.channels, c.channels, rng=rng)
        self.transform_norm = nn.LayerNorm(c.channels, eps=c.norm_eps)
        self.lm_head = nn.Linear(c.channels, c.vocab_size, rng=rng)
        self.lm_head.weight = self.wte.weight
        self.pooler = nn.Linear(c.channels, c.channels, rng=rng) if c.next_sentence else None
        self.next_head = nn.Linear(c.channels, 2, rng=rng) if c.next_sentence else None
        self.initialize(rng=rng)

    def initialize(self, *, rng: RNGLike) -> None:
        """N(0, 0.02²) for matrices, 0 for biases. (The published code draws again beyond two standard
        deviations.)"""
        rng = as_generator(rng)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                p.data = 0.02 * rng.standard_normal(p.shape, dtype=np.float32)
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def forward(self, ids: Ids, segments: Ids | None = None, mask: Mask | None = None) -> Tensor:
        """Logits (B, T, V) of the token at each position. Without `segments` all tokens are in sentence A;
        without `mask` all are real.

        Raises ValueError for shapes that differ and for more than block_size tokens, IndexError for ids or
        segments outside their tables, TypeError for a mask that is not of bools."""
        return self.token_logits(self.features(ids, segments, mask))

    def features(self, ids: Ids, segments: Ids | None, mask: Mask | None) -> Tensor:
        """The stream after the last block, (B, T, C)."""
        ids = arrays(ids)
        segments = np.zeros_like(ids) if segments is None else arrays(segments)
        mask = None if mask is None else arrays(mask)
        require_texts(ids, segments, mask, self.config.block_size)
        x = self.wte(ids) + self.wpe(self.positions(ids)) + self.segment(segments)  # (B, T, C)
        x = self.drop(self.norm(x))
        for block in self.h:
            x = block(x, None if mask is None else mask[:, None, None, :])
        return x

    def positions(self, ids: Ids) -> Array:
        """The rows of the position embedding for ids (B, T). BERT counts 0, 1, ..., (T,). RoBERTa counts the
        tokens that are not padding, from pad + 1; all padding has the position pad: (B, T)."""
        pad = self.config.pad
        if pad is None:
            return np.arange(ids.shape[1])
        return pad + np.cumsum(ids != pad, axis=1) * (ids != pad)

    def token_logits(self, x: Tensor) -> Tensor:
        """The masked-language-model head: (B, T, C) -> logits (B, T, V)."""
        return self.lm_head(self.transform_norm(ops.gelu(self.transform(x), self.config.gelu)))

    def next_sentence_logits(self, x: Tensor) -> Tensor:
        """The next-sentence head, on the features (B, T, C): logits (B, 2), of "B follows A" and of "B is a
        random sentence". Raises ValueError if the model has no such head."""
        if self.pooler is None or self.next_head is None:
            raise ValueError("this BERT has no next-sentence head: BERTConfig(next_sentence=True) makes one")
        return self.next_head(np.tanh(self.pooler(x[:, 0])))

    def loss(
        self,
        ids: Ids,
        targets: Ids,
        segments: Ids | None = None,
        mask: Mask | None = None,
        random_next: Ids | None = None,
    ) -> Tensor:
        """The total of `losses`."""
        return self.losses(ids, targets, segments, mask, random_next).total

    def losses(
        self,
        ids: Ids,
        targets: Ids,
        segments: Ids | None = None,
        mask: Mask | None = None,
        random_next: Ids | None = None,
    ) -> BERTLosses:
        """The mean loss of the hidden tokens: `targets` (B, T) are these, and -100 elsewhere
        (`text.mask_tokens` makes both). If `random_next` (B,) is given, 0 where sentence B follows A and 1
        where it is a random sentence, plus the mean loss of the next-sentence head.

        Raises ValueError if no target counts, and as `forward`.

        Eq.: L = mean of -ln p(token | text with holes) + mean of -ln p(random_next | text with holes)
            (Devlin et al. 2019, appendix A.2)
        Held by: tests/models/language/test_bert.py::test_loss_by_hand
        """
        x = self.features(ids, segments, mask)  # (B, T, C)
        masked = ops.cross_entropy(self.token_logits(x), targets)
        if random_next is None:
            return BERTLosses(masked, masked, None)
        order = ops.cross_entropy(self.next_sentence_logits(x), random_next)
        return BERTLosses(masked + order, masked, order)

    # -- BERT's files ------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, dropout: float | None = None, *, rng: RNGLike = 0) -> Self:
        """The BERT or RoBERTa in a folder of Hugging Face's format (`huggingface/bert.py`), in float32 and
        evaluation mode. It has a next-sentence head if the folder has one. To train the model further, give
        the `rng` from which dropout draws, and the rate of dropout (default: the folder's).

        Raises CheckpointError, which names the file, option or tensor, if the folder holds no such model;
        ValueError if the folder has two rates of dropout, and none is given."""
        fields, state = bert.read(folder, dropout)
        model = cls(BERTConfig(**fields), rng=rng)
        for name, p in model.named_parameters():
            p.data = np.array(state.pop(name), np.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write this model as a folder that `from_pretrained` and Hugging Face's `transformers` read: as
        BertForPreTraining, or without a next-sentence head as BertForMaskedLM; with `pad` as
        RobertaForMaskedLM. Merged adapters (LoRA) go in as part of the weights.

        Raises ValueError, before anything is written, if adapters are not merged, if the model does not
        match its config, or if it is a RoBERTa that `transformers` has no class for; CheckpointError if
        writing fails."""
        bert.write(folder, asdict(self.config), merged_state(self))


def arrays(x: Any) -> Any:
    """The array of a Tensor or of a list; ids on a GPU stay there."""
    return (x if isinstance(x, Tensor) else Tensor(x)).data


def require_texts(ids: Ids, segments: Ids | None, mask: Mask | None, block_size: int) -> None:
    """Raise ValueError unless all have the one shape (B, T), with T <= block_size."""
    if ids.ndim != 2:
        raise ValueError(f"ids have shape {ids.shape}: they must be (B, T), one text in each row")
    for name, array in (("segments", segments), ("mask", mask)):
        if array is not None and array.shape != ids.shape:
            raise ValueError(f"{name} have shape {array.shape}, ids {ids.shape}: they must be the same")
    if ids.shape[1] > block_size:
        raise ValueError(f"{ids.shape[1]} tokens are more than block_size={block_size}: crop the texts")

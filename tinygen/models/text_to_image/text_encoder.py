"""A small Transformer that encodes captions, for text-to-image models.

Every word is a token. The sum of its embedding and its position's goes through Transformer blocks in which
each word sees all others, as in BERT (Devlin et al. 2018, arXiv:1810.04805), and through a last layer norm. A
UNet's cross-attention sees the outputs, one vector per token. In latent diffusion both are trained together,
from random weights (Rombach et al. 2022, arXiv:2112.10752, section 3.3).

Each caption begins with a special token, so that the empty caption, which means "no text" in classifier-free
guidance, has one vector as well. After its words a caption is padded to a fixed length. The mask says which
tokens are real: these never see the padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinygen import nn
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, Mask

BEGIN, PADDING = 0, 1  # the first ids; words come after them


@dataclass(frozen=True)
class TextEncoderConfig:
    """The vocabulary, and the shape of the Transformer."""

    words: tuple[str, ...]
    max_words: int  # in a caption
    layers: int = 1
    heads: int = 4
    channels: int = 64  # C, of each vector
    dropout: float = 0.0


def ids_of_words(words: Sequence[str]) -> dict[str, int]:
    """{word: its id}, in order. Raises ValueError when a word occurs twice."""
    ids = {word: i for i, word in enumerate(words, PADDING + 1)}
    if len(ids) != len(words):
        raise ValueError(f"a word comes twice among {', '.join(words)}")
    return ids


def ids_of_captions(captions: Sequence[str], ids: Mapping[str, int], max_words: int) -> Ids:
    """The ids of B captions, (B, max_words + 1): BEGIN, the words, then PADDING. `ids` is {word: its id}.

    Raises ValueError for an unknown word, with a list of the known ones, and for a caption that is too long;
    TypeError for a single string in place of a list."""
    if isinstance(captions, str):
        raise TypeError(f"captions must be a list of texts, got the text {captions!r}: put it in a list")
    rows = np.full((len(captions), max_words + 1), PADDING)
    for i, caption in enumerate(captions):
        words = caption.split()
        if unknown := [word for word in words if word not in ids]:
            raise ValueError(f"unknown word {unknown[0]!r} in {caption!r}: the words are {', '.join(ids)}")
        if len(words) > max_words:
            raise ValueError(f"{caption!r} has {len(words)} words: at most {max_words} are allowed")
        rows[i, : len(words) + 1] = [BEGIN, *(ids[word] for word in words)]
    return rows


class TextEncoder(nn.Module):
    """`encoder(captions)` -> context (B, S, C) and mask (B, S), with S = max_words + 1: the arguments
    `context` and `mask` of a UNet.

    Raises ValueError when a word occurs twice in the configuration."""

    def __init__(self, config: TextEncoderConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = config
        self.ids = ids_of_words(c.words)
        self.token = nn.Embedding(len(c.words) + 2, c.channels, rng=rng)
        self.place = nn.Embedding(c.max_words + 1, c.channels, rng=rng)
        self.blocks = nn.ModuleList(
            nn.Block(c.channels, c.heads, causal=False, dropout=c.dropout, rng=rng) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.channels)

    def forward(self, captions: Sequence[str]) -> tuple[Tensor, Mask]:
        """`tokens`, then `features`: context (B, S, C) and mask (B, S)."""
        ids, mask = self.tokens(captions)
        return self.features(ids, mask), mask

    def tokens(self, captions: Sequence[str]) -> tuple[Ids, Mask]:
        """The ids of B captions, (B, S), and their mask (B, S), False at padding.

        Raises ValueError for an unknown word, with a list of the known ones, and for a caption that is too
        long; TypeError for a single string in place of a list."""
        ids = ids_of_captions(captions, self.ids, self.config.max_words)
        return ids, ids != PADDING

    def features(self, ids: Ids, mask: Mask) -> Tensor:
        """The vectors (B, S, C) of the tokens ids (B, S); those at padding are meaningless."""
        x = self.token(ids) + self.place(np.arange(ids.shape[1]))  # (B, S, C)
        for block in self.blocks:
            x = block(x, mask[:, None, None, :])
        return self.norm(x)

"""Recurrent language models, and a tagger that reads in both directions.

Mikolov et al. 2010, *Recurrent neural network based language model*; Sundermeyer et al. 2012, *LSTM neural
networks for language modeling*. A recurrent network carries a state along the text, so its context has no
fixed length. Backpropagation through a whole text would need the memory of the whole text: the truncated
version (Williams & Peng 1990) cuts the text into segments, carries the state from one to the next, and stops
the gradient at the cut.

The tagger is Graves & Schmidhuber's 2005 (*Framewise phoneme classification with bidirectional LSTM*): the
label of a token may depend on all tokens, so one network reads forwards, one in reverse.

The layers are in `nn/recurrent.py`. `examples/pages/lstm.py` has the LSTM language model on one page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.language.causal_lm import LanguageModel
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, NumpyArray, TensorLike

LAYERS: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentLM(LanguageModel):
    """`model(idx, state)` -> logits of the token that follows each token, and the state after the last one.

    `kind` is "rnn", "gru" or "lstm". Embedding, state and output have the width `channels`; between layers,
    and before the output, there is `dropout` in training. Raises ValueError for another kind."""

    def __init__(
        self,
        vocab_size: int,
        channels: int = 128,
        layers: int = 1,
        kind: str = "lstm",
        dropout: float = 0.0,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.embedding = nn.Embedding(vocab_size, channels, rng=rng)
        self.layers = layer_of_kind(kind)(channels, channels, layers, dropout=dropout, rng=rng)
        self.drop = nn.Dropout(dropout, rng=rng)
        self.head = nn.Linear(channels, vocab_size, rng=rng)

    def forward(self, idx: Ids, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens idx (B, T), and the last state: an array (layers, B, C), or two for an
        LSTM, (h, c). `state` is the state before the first token, zeros by default. Raises IndexError for
        tokens outside the vocabulary, ValueError for a state of another shape."""
        h, state = self.layers(self.embedding(idx), state)  # (B, T, C)
        return self.head(self.drop(h)), state

    def loss(self, idx: Ids, targets: TensorLike) -> Tensor:
        """The mean loss in nats, from the state zero on: targets[b, t] is the token after idx[b, t], or -1
        where it does not count."""
        logits, _ = self(idx)
        return ops.cross_entropy(logits, targets, ignore_index=-1)

    def segment_losses(self, idx: Ids, targets: Ids, length: int, state: Any = None) -> Iterator[Tensor]:
        """Truncated backpropagation through time: the mean loss of each `length` tokens of long texts idx
        (B, T), one after the other. Each segment starts with the last state of the one before as a constant,
        so a gradient reaches back to the start of its segment. Call backward and the optimizer's step
        between two of them.

        The last segment is shorter if `length` does not divide T. Raises ValueError if it is below 1, or if
        idx and targets have different shapes."""
        if length < 1:
            raise ValueError(f"a segment has at least one token, got length={length}")
        if np.shape(idx) != np.shape(targets):
            raise ValueError(f"idx {np.shape(idx)} and targets {np.shape(targets)} must have the same shape")
        for start in range(0, np.shape(idx)[1], length):
            logits, state = self(idx[:, start : start + length], state)
            yield ops.cross_entropy(logits, targets[:, start : start + length], ignore_index=-1)
            state = constant(state)

    def reader(self) -> Callable[[Any], Any]:
        state: Any = None

        def read(new: Ids) -> NumpyArray:
            nonlocal state
            logits, state = self(new, state)
            return logits[:, -1].numpy()  # (B, V)

        return read


class Tagger(nn.Module):
    """`model(idx)` -> logits of the tag of each token, from the tokens on both sides of it."""

    def __init__(
        self,
        vocab_size: int,
        tags: int,
        channels: int = 64,
        layers: int = 1,
        kind: str = "lstm",
        dropout: float = 0.0,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.embedding = nn.Embedding(vocab_size, channels, rng=rng)
        make = layer_of_kind(kind)
        self.layers = make(channels, channels, layers, bidirectional=True, dropout=dropout, rng=rng)
        self.head = nn.Linear(2 * channels, tags, rng=rng)

    def forward(self, idx: Ids, lengths: Ids | None = None) -> Tensor:
        """Logits (B, T, tags) for tokens idx (B, T). `lengths` (B) gives the number of tokens of each text
        when shorter ones are padded at the end; padding does not change the logits of real tokens."""
        h, _ = self.layers(self.embedding(idx), lengths=lengths)  # (B, T, 2C)
        return self.head(h)

    def loss(self, idx: Ids, tags: TensorLike, lengths: Ids | None = None) -> Tensor:
        """The mean loss in nats; tags (B, T) are -1 where they do not count, as for padding."""
        return ops.cross_entropy(self(idx, lengths), tags, ignore_index=-1)


def layer_of_kind(kind: str) -> type[nn.RNN | nn.LSTM | nn.GRU]:
    if kind not in LAYERS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, LAYERS))}, got {kind!r}")
    return LAYERS[kind]


def constant(state: Any) -> Any:
    """The same state, off the tape: one Tensor, or several."""
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()

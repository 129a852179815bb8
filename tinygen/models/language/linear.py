"""The linear language model: the mean of the last tokens' embeddings, and a matrix. No layer has a nonlinear
function, and the order of the tokens in the context does not matter.

It is the smallest neural language model: a log-bilinear model (Mnih & Hinton 2007, *Three new graphical
models for statistical language modelling*) whose positions all have the same weight. The mean is attention
that looks at all tokens alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.arrays import to_device
from tinygen.models.language.causal_lm import LanguageModel
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Floats, Ids, NumpyArray, TensorLike


class LinearLM(LanguageModel):
    """`model(idx)` -> logits of the token that follows each token, from the last `context` tokens.

    At the start of a text the mean is over the tokens that are there. With context 1 and channels >= V - 1 it
    can be any bigram model: the logits are one row of a matrix of rank `channels`.

    Eq.: p(w | x) = softmax(Vᵀ W Σ_t e_t / N), with one-hot vectors e_t of N tokens, the embedding W (C, V)
        and the output matrix V (C, V)  (the log-bilinear model: Mnih & Hinton 2007)
    Held by: tests/models/language/test_linear.py::test_the_formula
    """

    def __init__(self, vocab_size: int, context: int = 8, channels: int = 64, *, rng: RNGLike) -> None:
        if context < 1:
            raise ValueError(f"the model needs a context of at least one token, got {context}")
        rng = as_generator(rng)
        self.context = context
        self.embedding = nn.Embedding(vocab_size, channels, rng=rng)
        self.head = nn.Linear(channels, vocab_size, bias=False, rng=rng)

    def forward(self, idx: Ids) -> Tensor:
        """Logits (B, T, V) for tokens idx (B, T). Raises IndexError for tokens outside the vocabulary."""
        x = self.embedding(idx)  # (B, T, C)
        means = window_means(x.shape[1], self.context).astype(x.dtype)  # (T, T)
        return self.head(to_device(means, x.device) @ x)

    def loss(self, idx: Ids, targets: TensorLike) -> Tensor:
        """The mean loss in nats: targets[b, t] is the token after idx[b, t], or -1 where it does not
        count."""
        return ops.cross_entropy(self(idx), targets, ignore_index=-1)

    def reader(self) -> Callable[[Any], Any]:
        text: Any = None  # the last tokens, (B, T)

        def read(new: Ids) -> NumpyArray:
            nonlocal text
            text = new if text is None else np.concatenate([text, new], axis=1)
            text = text[:, -self.context :]
            return self(text)[:, -1].numpy()  # (B, V)

        return read


def window_means(length: int, context: int) -> Floats:
    """A matrix (T, T). Row t of its product with x (T, C) is the mean of the last `context` rows of x up to
    row t, or of all rows up to t if these are fewer."""
    ones = np.tri(length) - np.tri(length, k=-context)  # (T, T) 1 where t - context < column <= t
    means: Floats = ones / ones.sum(axis=1, keepdims=True)
    return means

"""word2vec: vectors of words, learned from the words around them.

Mikolov et al. 2013a, *Efficient estimation of word representations in vector space* (arXiv:1301.3781): the
skip-gram model predicts each neighbor of a word from the word, CBOW (continuous bag of words) predicts a word
from the mean of all its neighbors. Mikolov et al. 2013b, *Distributed representations of words and phrases
and their compositionality* (arXiv:1310.4546), section 2.2: negative sampling takes the place of the softmax.
The model tells the true word from k words that are drawn from a noise distribution.

Both have two tables: `inputs` for the words that are given, `outputs` for the words that are predicted. Levy
& Goldberg 2014, *Neural word embedding as implicit matrix factorization*, found the product of the two tables
that is best: it is known exactly, and `best_scores` has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import nn, ops
from tinygen.nn.module import widen
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Floats, Ids


class Word2Vec(nn.Module):
    """Vectors of V words, learned with `negatives` words of noise for each true word.

    `counts` (V) are how often each word occurs in the text; a word is drawn as noise with a probability
    proportional to counts^power. The tables start as in Mikolov's program: `inputs` (V, C) uniform in
    ±1/(2C), `outputs` (V, C) zero. Raises ValueError if counts are not (V,), negative, or all 0, or if there
    are no negatives."""

    def __init__(
        self,
        counts: ArrayLike,
        channels: int = 64,
        negatives: int = 5,
        power: float = 0.75,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        occurrences = np.asarray(counts, np.float64)
        if occurrences.ndim != 1 or not np.all(occurrences >= 0) or not np.any(occurrences):
            raise ValueError(f"counts must be (V,), at least 0 and not all 0, got {occurrences.shape}")
        if negatives < 1:
            raise ValueError(f"negative sampling needs at least one word of noise, got {negatives}")
        weights = np.where(occurrences > 0, occurrences**power, 0.0)
        self.noise: Floats = weights / weights.sum()  # (V,)
        self.negatives = negatives
        shape = (len(occurrences), channels)
        self.inputs = nn.Parameter((rng.random(shape, np.float32) - np.float32(0.5)) / np.float32(channels))
        self.outputs = nn.Parameter(np.zeros(shape, np.float32))

    def forward(self, given: Any, words: Any) -> Tensor:
        """Scores (B, M) of `words` (B, M) beside the words `given` (B, N): the products of their output
        vectors with the mean of the N input vectors. σ(score) is the probability that a word is no noise."""
        mean = widen(ops.embedding(self.inputs, given)).mean(axis=1, keepdims=True)  # (B, 1, C)
        return (widen(ops.embedding(self.outputs, words)) * mean).sum(axis=2)

    def loss(self, given: Any, words: Any, *, rng: RNGLike) -> Tensor:
        """The mean loss of the true words (B,) beside the words `given` (B, N), as `skip_grams` and `cbow`
        return them; the noise is drawn from `rng`.

        Eq.: -ln σ(v'_O·v_I) - Σ_{i=1..k} ln σ(-v'_i·v_I), the words i drawn from the noise
            (Mikolov et al. 2013b, eq. 4)
        Held by: tests/models/language/test_word2vec.py::test_the_loss_by_hand
        """
        words = np.asarray(words)
        drawn = as_generator(rng).choice(len(self.noise), (len(words), self.negatives), p=self.noise)
        scores = self(given, np.concatenate([words[:, None], drawn], axis=1))  # (B, 1 + k)
        return -(ops.log_sigmoid(scores[:, :1]).sum() + ops.log_sigmoid(-scores[:, 1:]).sum()) / len(words)

    # -- exactly, for a small vocabulary -----------------------------------------------------------

    def expected_loss(self, pairs: ArrayLike) -> Tensor:
        """The mean of skip-gram's loss over all draws of noise, and over `pairs` (V, V): pairs[w, c] is how
        often the word c is next to the word w, or its probability. Training on it has no randomness."""
        p = shares(pairs, len(self.noise))
        scores = self.inputs @ self.outputs.T  # (V, V)
        noise = self.negatives * p.sum(axis=1, keepdims=True) * self.noise  # (V, V)
        losses = p * ops.log_sigmoid(scores) + noise * ops.log_sigmoid(-scores)
        return -losses.sum()

    def best_scores(self, pairs: ArrayLike) -> Floats:
        """The scores (V, V) at which `expected_loss` is least: tables with at least V channels reach them.
        With power 1 they are the pointwise mutual information of both words, minus ln k. Pairs that never
        occur have -inf.

        Eq.: w·c = ln(p(w, c) / (p(w) p(c))) - ln k  (Levy & Goldberg 2014, section 3.1)
        Held by: tests/models/language/test_word2vec.py::test_the_best_scores_are_the_shifted_pmi,
            tests/models/language/test_word2vec.py::test_training_finds_the_best_scores
        """
        p = shares(pairs, len(self.noise))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = p / (self.negatives * p.sum(axis=1, keepdims=True) * self.noise)
            best: Floats = np.log(ratio)
        return best


def shares(pairs: ArrayLike, vocab_size: int) -> Floats:
    """Counts of pairs, divided by their sum."""
    counts = np.asarray(pairs, np.float64)
    if counts.shape != (vocab_size, vocab_size):
        raise ValueError(f"pairs must be ({vocab_size}, {vocab_size}), got {counts.shape}")
    return counts / counts.sum()


# -- from a text to words and their neighbors --------------------------------------------------------


def windows(tokens: Ids, radius: int) -> tuple[Ids, Ids]:
    """The words (N - 2r,) of a text (N,) that have `radius` words on each side, and these neighbors
    (N - 2r, 2r), from left to right. Raises ValueError if the text is too short, or radius below 1."""
    ids: Ids = np.asarray(tokens)
    if radius < 1 or ids.ndim != 1 or len(ids) <= 2 * radius:
        raise ValueError(f"a text {ids.shape} has no word with radius={radius} >= 1 words on each side")
    places = np.arange(radius, len(ids) - radius)
    around = np.concatenate([np.arange(-radius, 0), np.arange(1, radius + 1)])
    return ids[places], ids[places[:, None] + around]


def skip_grams(tokens: Ids, radius: int) -> tuple[Ids, Ids]:
    """The training set of the skip-gram model: each word is given, (M, 1), and each of its neighbors is
    predicted, (M,)."""
    words, neighbors = windows(tokens, radius)
    return np.repeat(words, 2 * radius)[:, None], neighbors.reshape(-1)


def cbow(tokens: Ids, radius: int) -> tuple[Ids, Ids]:
    """The training set of CBOW: all neighbors are given, (M, 2r), and the word between them is predicted,
    (M,)."""
    words, neighbors = windows(tokens, radius)
    return neighbors, words

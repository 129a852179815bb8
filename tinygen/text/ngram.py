"""The n-gram language model with Witten-Bell smoothing: the baseline that a neural language model must beat.

Shannon 1948, section 3 (text as a Markov chain); the smoothing is method C of Witten & Bell, *The
zero-frequency problem*, IEEE Trans. Inf. Theory 37(4), 1991, in the interpolated form of Chen &
Goodman, *An empirical study of smoothing techniques for language modeling* (1998), section 2.5.

A model of order n predicts a token from the n-1 tokens before it, its context h. Let c(h, w) be the
number of times that w followed h in training, c(h) their sum over w, T(h) the number of different
tokens that followed h, and h' the context without its oldest token. Then

    Eq.: p(w | h) = (c(h, w) + T(h) p(w | h')) / (c(h) + T(h))  (Chen & Goodman 1998, section 2.5)
    Held by: tests/text/test_ngram.py::test_by_hand

T(h) counts how often a token followed h for the first time: how often h surprised us. This is the
weight of the shorter context. The recursion ends after the empty context with p = 1 / V. If a context
never occurred, c(h) = T(h) = 0, and the prediction is the shorter context's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen.text.tokenizers import Tokens, checked_ids
from tinygen.types import Floats, Ids

MISSING = -1  # row index of an unseen context: -1 reads the last row, which is all zeros


@dataclass(frozen=True)
class Level:
    """All distinct k-grams of the training text: one level of a trie, stored in sorted arrays.

    A k-gram consists of its first k-1 tokens, which are a row of the level of (k-1)-grams, and its last
    token w. `keys` holds row * V + w, sorted, so that all successors of a context are adjacent.
    """

    keys: Ids  # (K,)
    counts: Ids  # (K,) c(h, w)
    total: Ids  # (rows above + 1,) c(h)
    types: Ids  # (rows above + 1,) T(h)

    def find(self, keys: Ids) -> Ids:
        """The row of each key, or `MISSING`."""
        rows = np.searchsorted(self.keys, keys)
        found = self.keys.take(rows, mode="clip") == keys
        return np.where(found, rows, MISSING)


class NGram:
    """An n-gram model over token ids 0 .. vocab_size - 1 (characters, bytes or BPE tokens alike).

    `order` is n, from 1 (no context) to 6. Order 1 to 6 reach 3.347, 2.486, 2.049, 1.774, 1.669 and
    1.698 nats a character on the last tenth of tiny Shakespeare after counting the rest.
    """

    def __init__(self, order: int) -> None:
        if not 1 <= order <= 6:
            raise ValueError(f"order must be between 1 and 6, got {order}")
        self.order = order
        self.vocab_size = 0
        self._levels: list[Level] = []

    def fit(self, tokens: Tokens, vocab_size: int) -> NGram:
        """Count every k-gram, k = 1 .. order, of `tokens` (N,) and return self.

        The start of the text is not padded: its first tokens are counted in their shorter contexts.
        ValueError if `tokens` is empty, not 1-D, not of integers, or not within the vocabulary.
        """
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
        ids = checked_ids(tokens, vocab_size)
        if len(ids) == 0:
            raise ValueError("cannot fit an n-gram model to an empty text")
        self.vocab_size = vocab_size
        self._levels = []
        contexts, n_contexts = np.zeros(len(ids), np.int64), 1  # every token follows the empty one
        for k in range(1, min(self.order, len(ids)) + 1):  # a short text has no longer k-grams
            keys, rows, counts = np.unique(
                contexts * vocab_size + ids[k - 1 :], return_inverse=True, return_counts=True
            )
            parents = keys // vocab_size
            total, types = np.zeros((2, n_contexts + 1), np.int64)
            np.add.at(total, parents, counts)
            np.add.at(types, parents, 1)
            self._levels.append(Level(keys, counts, total, types))
            contexts, n_contexts = rows[:-1], len(keys)  # the last k-gram has no token after it
        return self

    def log_prob(self, tokens: Tokens) -> Floats:
        """ln p of each token given up to order - 1 tokens before it in `tokens`: (N,) -> (N,).

        The first tokens are scored in their shorter contexts, so every token counts. (A common mistake
        leaves the first order - 1 tokens out of the sum, but still divides by N. This counts them as
        known: 1.711 instead of 1.712 nats at order 3 on 46,505 tokens.)
        """
        ids = self._check_tokens(tokens)
        prob = np.full(len(ids), 1 / self.vocab_size)
        context = np.zeros(len(ids), np.int64)
        for level in self._levels:
            rows = level.find(context * self.vocab_size + ids)  # a missing context is never found
            count = np.where(rows == MISSING, 0, level.counts[rows])
            total, types = level.total[context], level.types[context]
            np.divide(count + types * prob, total + types, out=prob, where=total > 0)
            # One longer: the k-gram that ends just before this token. The first token has none.
            context = np.concatenate([[MISSING], rows[:-1]])
        log_prob: Floats = np.log(prob)
        return log_prob

    def cross_entropy(self, tokens: Tokens) -> float:
        """Mean of -ln p over `tokens` (N,), in nats a token; ValueError when there are none."""
        log_prob = self.log_prob(tokens)
        if len(log_prob) == 0:
            raise ValueError("the cross-entropy of an empty text is undefined")
        return float(-log_prob.mean())

    def next_probs(self, context: Tokens) -> Floats:
        """p(w | context) for every w: (V,), summing to one. Only the last order - 1 tokens count."""
        ids = self._check_tokens(context)
        probs = np.full(self.vocab_size, 1 / self.vocab_size)
        for k, level in enumerate(self._levels[: len(ids) + 1]):
            row = self._row(ids[len(ids) - k :])
            total, types = level.total[row], level.types[row]
            if total == 0:
                break  # never followed by anything, and so no longer context was either
            span = np.array([row, row + 1]) * self.vocab_size
            first, last = np.searchsorted(level.keys, span)
            probs *= types
            probs[level.keys[first:last] % self.vocab_size] += level.counts[first:last]
            probs /= total + types
        return probs

    def sample(self, n: int, rng: np.random.Generator, prompt: Tokens = ()) -> Ids:
        """Draw `n` tokens after `prompt`, one at a time: (n,), the prompt not included."""
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        text = list(self._check_tokens(prompt))
        start = len(text)
        for _ in range(n):
            probs = self.next_probs(np.array(text[-self.order :], np.int64))
            text.append(rng.choice(self.vocab_size, p=probs))
        return np.array(text[start:], np.int64)

    def _row(self, ids: Ids) -> int:
        """The row of the k-gram `ids` (k,) on level k of the trie; 0 for the empty one."""
        row = 0
        for level, token in zip(self._levels, ids, strict=False):
            row = int(level.find(row * self.vocab_size + token))  # below a missing one, none is found
        return row

    def _check_tokens(self, tokens: Tokens) -> Ids:
        if not self._levels:
            raise RuntimeError("this n-gram model has counted nothing yet: call fit first")
        return checked_ids(tokens, self.vocab_size)

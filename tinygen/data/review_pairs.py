"""Pairs of film reviews for BERT's two tasks, and the best possible answers to both.

    [CLS] the film was dull . [SEP] the cast felt really awful . i hated it . [SEP]

In half of the pairs the second review follows the first: its writer starts in the same mood. In the others it
is any review. Some words are hidden as BERT hides them (`text/masking.py`). The reviews are a hidden Markov
chain, so the forward-backward algorithm (Rabiner 1989) sums over all reviews that fit what can be seen. This
gives the exact probability of each hidden word, and that the second review follows: no model can have a lower
loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygen.data.reviews import END, NUMBER, WORDS, Reviews
from tinygen.types import Floats, Ids

CLS, SEP, MASK = range(len(WORDS), len(WORDS) + 3)
VOCAB_SIZE = len(WORDS) + 3
SPECIAL = (CLS, SEP, NUMBER[END])
"""Ids that are never hidden: END is the padding."""
AS_MASK, AS_RANDOM = 0.8, 0.1  # parts of the hidden words that are seen as [MASK], and as a random token
MOODS = np.array([[0.375, 0.125], [0.125, 0.375]])
"""The probability of the moods of both reviews: equal if the second follows, else independent."""


class Pairs(NamedTuple):
    """n pairs of reviews of L words: ids and segments (n, 2L + 3); random_next (n,) is 0 if the second review
    follows the first, and 1 if it is any review."""

    ids: Ids
    segments: Ids
    random_next: Ids


class Answers(NamedTuple):
    """The best possible predictions: p(word | all that can be seen, the word is hidden here), (n, 2L + 3,
    VOCAB_SIZE), 0 at special tokens; p(the second review follows), (n,)."""

    words: Floats
    follows: Floats


def write_pairs(n: int, length: int, *, rng: np.random.Generator) -> Pairs:
    """n pairs of reviews of `length` words each."""
    reviews, moods, random_next = Reviews(), rng.integers(0, 2, (2, n)), rng.integers(0, 2, n)
    moods[1] = np.where(random_next == 1, moods[1], moods[0])
    first, second = (reviews.write(n, length, rng, mood) for mood in moods)
    ids = np.concatenate([column(n, CLS), first, column(n, SEP), second, column(n, SEP)], axis=1)
    segments = np.repeat([[0] * (length + 2) + [1] * (length + 1)], n, axis=0)
    return Pairs(ids, segments, random_next)


def column(n: int, token: int) -> Ids:
    return np.full((n, 1), token)


def best_answers(ids: Any, rate: float = 0.15) -> Answers:
    """The best answers for pairs (n, 2L + 3) with hidden words, which were chosen with probability `rate`.

    Eq.: p(w_t | seen) ∝ Σ_m p(moods m) p(w_t, seen | m), by forward-backward sums α_t(i) a_ij b_j β_{t+1}(j)
        (Rabiner 1989, eq. 27)
    Held by: tests/data/test_review_pairs.py::test_the_answers_by_summing_over_all_reviews
    """
    ids = np.asarray(ids)
    length = (ids.shape[1] - 3) // 2
    places = (slice(1, 1 + length), slice(2 + length, 2 + 2 * length))
    evidence, joint = zip(*(read_review(ids[:, place], rate) for place in places), strict=True)
    words: Floats = np.zeros((*ids.shape, VOCAB_SIZE))
    for place, mine, other, moods in zip(places, joint, evidence[::-1], (MOODS, MOODS.T), strict=True):
        weight = other @ moods.T  # (n, 2) p(my mood, the other review as seen)
        p = np.einsum("nm,nmtw->ntw", weight, mine)
        total = p.sum(axis=-1, keepdims=True)
        words[:, place, : len(WORDS)] = np.divide(p, total, out=np.zeros_like(p), where=total > 0)
    together = np.einsum("nm,nk,mk->n", evidence[0], evidence[1], MOODS)
    follows: Floats = 0.25 * np.sum(evidence[0] * evidence[1], axis=1) / together
    return Answers(words, follows)


def read_review(seen: Ids, rate: float) -> tuple[Floats, Floats]:
    """For reviews as they are seen (n, L) and each mood at the start: the probability of what is seen,
    (n, 2); and the same jointly with each word at each place, if it is hidden there, (n, 2, L, words)."""
    n, length = seen.shape
    reviews, hidden = Reviews(), np.arange(len(WORDS)) != NUMBER[END]
    same = seen[..., None] == np.arange(len(WORDS))  # (n, L, words)
    as_mask = (seen == MASK)[..., None]
    if_hidden = hidden * (AS_MASK * as_mask + AS_RANDOM / VOCAB_SIZE + (1 - AS_MASK - AS_RANDOM) * same)
    p = np.where(hidden, (1 - rate) * same + rate * if_hidden, same)  # p(seen | word)
    chain = reviews.chain  # (from, word, to)
    moves = np.einsum("swr,ntw->ntsr", chain, p)  # (n, L, states, states)
    states = len(chain)
    evidence, joint = np.zeros((n, 2)), np.zeros((n, 2, length, len(WORDS)))
    for mood, noun in enumerate(reviews.nouns):
        alpha, beta = np.zeros((n, length + 1, states)), np.ones((n, length + 1, states))
        alpha[:, 0, reviews.start] = 1.0
        for t in range(length):
            alpha[:, t + 1] = np.einsum("ns,nsr->nr", alpha[:, t], moves[:, t])
            if t == 0:  # the first word is the same in both moods, with probability 1/2 each
                alpha[:, 1] = np.where(np.arange(states) == noun, 2 * alpha[:, 1], 0.0)
        for t in reversed(range(length)):
            beta[:, t] = np.einsum("nsr,nr->ns", moves[:, t], beta[:, t + 1])
        evidence[:, mood] = alpha[:, -1].sum(axis=-1)
        after = beta[:, 1:].copy()
        after[:, 0] = np.where(np.arange(states) == noun, 2 * after[:, 0], 0.0)
        joint[:, mood] = np.einsum("nts,swr,ntr->ntw", alpha[:, :-1], chain, after) * if_hidden
    return evidence, joint

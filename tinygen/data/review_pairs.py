"""Pairs of film reviews for BERT's two tasks, and the best possible answers to both.

    [CLS] the cast was dull . [SEP] the cast felt really awful . i hated it . [SEP]

In half of the pairs the second review follows the first: it is about the same thing, and its writer starts in
the same mood. In the others it is any review. Some words are hidden as BERT hides them (`text/masking.py`).
The reviews are a hidden Markov chain, so the forward-backward algorithm (Rabiner 1989) sums over all reviews
that fit the visible words. This gives the exact probability of each hidden word, and that the second review
follows: no model can have a lower loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygen.data.reviews import END, NOUNS, NUMBER, WORDS, Reviews
from tinygen.types import Floats, Ids

CLS, SEP, MASK = range(len(WORDS), len(WORDS) + 3)
VOCAB_SIZE = len(WORDS) + 3
SPECIAL = (CLS, SEP, NUMBER[END])
"""Ids that are never hidden: END is the padding."""
AS_MASK, AS_RANDOM = 0.8, 0.1  # parts of the hidden words that are seen as [MASK], and as a random token
KINDS = 2 * len(NOUNS)
"""The kinds of reviews, by mood and noun; all are equally probable."""


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
    kinds, random_next = rng.integers(0, KINDS, (2, n)), rng.integers(0, 2, n)
    kinds[1] = np.where(random_next == 1, kinds[1], kinds[0])
    first, second = (write_kinds(kind, length, rng) for kind in kinds)
    ids = np.concatenate([column(n, CLS), first, column(n, SEP), second, column(n, SEP)], axis=1)
    segments = np.repeat([[0] * (length + 2) + [1] * (length + 1)], n, axis=0)
    return Pairs(ids, segments, random_next)


def write_kinds(kinds: Ids, length: int, rng: np.random.Generator) -> Ids:
    """Reviews of these kinds (n,): (n, length)."""
    moods, nouns = np.divmod(kinds, len(NOUNS))
    reviews = Reviews().write(len(kinds), length, rng, moods)
    reviews[:, 1] = np.array([NUMBER[noun] for noun in NOUNS])[nouns]
    return reviews


def column(n: int, token: int) -> Ids:
    return np.full((n, 1), token)


def best_answers(ids: Any, rate: float = 0.15) -> Answers:
    """The best answers for pairs (n, 2L + 3) with hidden words, which were chosen with probability `rate`.

    Eq.: p(w_t | seen) ∝ Σ_k p(k, the other review) p(w_t, seen | kind k), by sums over all reviews,
        α_t(i) a_ij b_j β_{t+1}(j)  (Rabiner 1989, eq. 27)
    Held by: tests/data/test_review_pairs.py::test_the_answers_by_summing_over_all_reviews
    """
    ids = np.asarray(ids)
    length = ids.shape[1] // 2 - 1
    first, second = slice(1, 1 + length), slice(2 + length, 2 + 2 * length)
    evidence, joint = read_review(ids[:, first], rate)
    its_evidence, its_joint = read_review(ids[:, second], rate)
    words: Floats = np.zeros((*ids.shape, VOCAB_SIZE))
    for place, mine, other in ((first, joint, its_evidence), (second, its_joint, evidence)):
        # p(my kind k, the other review): the same kind in half of the pairs, else any
        weight = 0.5 * other + 0.5 * other.mean(axis=1, keepdims=True)  # (n, K)
        p = np.einsum("nk,nktw->ntw", weight, mine)
        total = p.sum(axis=-1, keepdims=True)
        words[:, place, : len(WORDS)] = p / np.maximum(total, np.finfo(np.float64).tiny)  # 0 / 0 is 0
    same = np.mean(evidence * its_evidence, axis=1)
    follows: Floats = same / (same + evidence.mean(axis=1) * its_evidence.mean(axis=1))
    return Answers(words, follows)


def read_review(seen: Ids, rate: float) -> tuple[Floats, Floats]:
    """For reviews as they are seen (n, L), L >= 2, and each kind K: the probability of the visible words,
    (n, K); and the same jointly with each word at each place, if it is hidden there, (n, K, L, words)."""
    (n, length), reviews = seen.shape, Reviews()
    hidden = np.arange(len(WORDS)) != NUMBER[END]
    same = seen[..., None] == np.arange(len(WORDS))  # (n, L, words)
    as_mask = (seen == MASK)[..., None]
    if_hidden = hidden * (AS_MASK * as_mask + AS_RANDOM / VOCAB_SIZE + (1 - AS_MASK - AS_RANDOM) * same)
    p = np.where(hidden, (1 - rate) * same + rate * if_hidden, same)  # p(seen | word)
    the, nouns = NUMBER["the"], [NUMBER[noun] for noun in NOUNS]
    evidence, joint = [], []
    for verb in reviews.verbs:  # the two moods
        rest, words = read_rest(reviews.chain, int(verb), p[:, 2:], if_hidden[:, 2:])
        for noun in nouns:
            start = p[:, 0, the] * p[:, 1, noun]
            whole = np.zeros((n, length, len(WORDS)))
            whole[:, 0, the] = if_hidden[:, 0, the] * p[:, 1, noun] * rest
            whole[:, 1, noun] = p[:, 0, the] * if_hidden[:, 1, noun] * rest
            whole[:, 2:] = start[:, None, None] * words
            evidence.append(start * rest)
            joint.append(whole)
    return np.stack(evidence, axis=1), np.stack(joint, axis=1)


def read_rest(chain: Floats, state: int, p: Floats, if_hidden: Floats) -> tuple[Floats, Floats]:
    """The forward-backward algorithm from a state on. `chain` (S, words, S) has the probabilities of a
    word and the next state; p and if_hidden (n, L, words) are the probabilities of the visible words.
    Returns the probability of all that is seen, (n,), and the same jointly with each word if it is hidden,
    (n, L, words)."""
    moves = np.einsum("swr,ntw->ntsr", chain, p)  # (n, L, S, S)
    n, length, states, _ = moves.shape
    alpha, beta = np.zeros((n, length + 1, states)), np.ones((n, length + 1, states))
    alpha[:, 0, state] = 1.0
    for t in range(length):
        alpha[:, t + 1] = np.einsum("ns,nsr->nr", alpha[:, t], moves[:, t])
    for t in reversed(range(length)):
        beta[:, t] = np.einsum("nsr,nr->ns", moves[:, t], beta[:, t + 1])
    words = np.einsum("nts,swr,ntr->ntw", alpha[:, :-1], chain, beta[:, 1:], optimize=True) * if_hidden
    return alpha[:, -1].sum(axis=-1), words

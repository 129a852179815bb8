"""Helpers of `bert_reviews.py`: reviews with a label, and BERT's verdict on a review, as its answer to a
question with a hidden word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen import Tensor, ops
from tinygen.data.review_pairs import CLS, MASK, SEP, column
from tinygen.data.reviews import BAD, END, GOOD, NUMBER, Reviews, sentiment
from tinygen.models import BERT

UNSEEN = (*GOOD[2:], *BAD[2:])  # no labeled review has these


def labeled_reviews(n: int, length: int, without: Sequence[str], rng: np.random.Generator) -> tuple[Any, Any]:
    """n reviews (n, length) that do not have these words, and labels (n,): 0 if praise outweighs blame, 1 the
    other way."""
    reviews = Reviews().write(8 * n + 400, length, rng)
    unwanted = np.isin(reviews, [NUMBER[word] for word in without]).any(axis=1)
    reviews = reviews[(sentiment(reviews) != 0) & ~unwanted][:n]
    return reviews, (sentiment(reviews) < 0).astype(np.int64)


def ask(reviews: Any) -> Any:
    """Pairs (n, 2L + 3) of reviews (n, L): the second one is "the film was [MASK] .", about the same
    thing."""
    question = np.full_like(reviews, NUMBER[END])
    question[:, :5] = [NUMBER["the"], 0, NUMBER["was"], MASK, NUMBER["."]]
    question[:, 1] = reviews[:, 1]
    parts = (column(len(reviews), CLS), reviews, column(len(reviews), SEP), question)
    return np.concatenate([*parts, column(len(reviews), SEP)], axis=1)


def verdict(model: BERT, reviews: Any) -> Tensor:
    """Logits (B, 2) of praise and blame for reviews (B, L): the means of the logits of all praising, and of
    all blaming adjectives, where `ask` has its [MASK]."""
    ids, length = ask(reviews), reviews.shape[1]
    segments = np.repeat([[0] * (length + 2) + [1] * (length + 1)], len(ids), axis=0)
    logits = model.token_logits(model.features(ids, segments, None)[:, length + 5])  # (B, V)
    return ops.stack(
        [logits[:, [NUMBER[word] for word in words]].mean(axis=1) for words in (GOOD, BAD)], axis=1
    )

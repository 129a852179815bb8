"""Exercises on language models: cells, word vectors, positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.models.language.word2vec import Word2Vec
from tinygen.tape import op


def lstm_step(lstm_cell: Callable[..., Any], x: Any, u: Any, c: Any) -> Any:
    """h' and c' of one time step, as an op of x, u and c."""
    h = np.zeros((2, 2))

    @op
    def step(x: Any, u: Any, c: Any) -> Any:
        new, back = lstm_cell(x, u, h, c)

        def rule(gradients: Any) -> Any:
            dx, du, _, dc = back(*gradients)
            return dx, du, dc

        return new, rule

    return step(x, u, c)


LSTM = Exercise(
    "lstm",
    "tinygen.ops.recurrent:lstm_cell",
    "one time step of an LSTM, and its gradient",
    hints=(
        "Three gates between 0 and 1 decide what is kept of the cell, what enters it, and what is seen "
        "of it.",
        "x + u holds the four parts i, f, g, o side by side. c' = f c + i g and h' = o tanh(c'), where "
        "i, f, o are sigmoids and g is tanh.",
        "Back: dc = dc + dh o (1 - tanh²(c')); then di = dc g, df = dc c, dg = dc i, do = dh tanh(c'), "
        "each times the slope of its own sigmoid or tanh. Return da, da, 0.0, dc f.",
    ),
    given=lambda: {
        "x": numbers(2, 8),
        "u": numbers(2, 8, seed=1),
        "h": numbers(2, 2),
        "c": numbers(2, 2, seed=1),
        "lstm_step": lstm_step,
    },
    checks=(
        Values("lstm_cell(x, u, h, c)[0]"),
        Gradient("lstm_step(lstm_cell, x, u, c)", by="x u c"),
    ),
    mistakes=(
        Mistake(
            "new = f * c + i * g",
            "new = i * c + f * g",
            "",
            "the input gate is on the old cell, and the forget gate on the candidate",
        ),
        Mistake(
            "np.tanh(ag)",
            "sigmoid(ag)",
            "",
            "the candidate is a sigmoid, so that the cell can only grow",
        ),
        Mistake(
            "dc = dc + dh * o",
            "dc = dh * o",
            "detached or wrong term",
            "the gradient that comes back along the cell, from later steps, is lost",
        ),
    ),
)


def gru_step(gru_cell: Callable[..., Any], x: Any, u: Any, h: Any) -> Any:
    """h' of one time step, as an op of x, u and h."""

    @op
    def step(x: Any, u: Any, h: Any) -> Any:
        (new,), back = gru_cell(x, u, h)
        return new, lambda g: back(g)

    return step(x, u, h)


GRU = Exercise(
    "gru",
    "tinygen.ops.recurrent:gru_cell",
    "one time step of a GRU, and its gradient",
    hints=(
        "One gate mixes the old state with a candidate. Another decides how much of the old state the "
        "candidate sees.",
        "x and u hold r, z, n side by side. r and z are sigmoids of sums; n = tanh(xn + r · un); h' = "
        "(1 - z) n + z h.",
        "Back: dn = dh (1 - z)(1 - n²), dz = dh (h - n) z (1 - z), dr = dn un r (1 - r). x gets [dr, "
        "dz, dn], u gets [dr, dz, dn r], h gets dh z.",
    ),
    given=lambda: {"x": numbers(2, 6), "u": numbers(2, 6, seed=1), "h": numbers(2, 2), "gru_step": gru_step},
    checks=(Values("gru_cell(x, u, h)[0]"), Gradient("gru_step(gru_cell, x, u, h)", by="x u h")),
    mistakes=(
        Mistake(
            "return ((1 - z) * n + z * h,), backward",
            "return (z * n + (1 - z) * h,), backward",
            "",
            "the update gate is on the candidate, not on the old state",
        ),
        Mistake(
            "n = np.tanh(xn + r * un)",
            "n = np.tanh(r * (xn + un))",
            "",
            "the reset gate is on the input, too",
        ),
        Mistake(
            "[dr, dz, dn * r]",
            "[dr, dz, dn]",
            "wrong slope or wrong mask",
            "the gradient of u lacks the reset gate",
        ),
    ),
)


def word_vectors() -> Word2Vec:
    """Five words; the noise is always the last one."""
    model = Word2Vec([0, 0, 0, 0, 1], channels=3, negatives=2, rng=0).astype(np.float64)
    model.inputs.data = numbers(5, 3)
    model.outputs.data = numbers(5, 3, seed=1)
    return model


SKIP_GRAM = Exercise(
    "skip_gram",
    "tinygen.models.language.word2vec:Word2Vec.loss",
    "word2vec with negative sampling",
    hints=(
        "The model tells the true neighbor from words of noise. So it is a classifier, and its loss is "
        "a cross-entropy of two classes.",
        "Draw self.negatives words for each true one, with the probabilities self.noise. self(given, "
        "words) gives the scores (B, 1 + k). The loss of a true word is -ln σ(score), of noise -ln "
        "σ(-score).",
        "scores[:, :1] are true, scores[:, 1:] noise; sum both ops.log_sigmoid, and divide by minus "
        "the number of true words.",
    ),
    given=lambda: {"model": word_vectors(), "given": np.array([[0], [1], [2]]), "words": np.array([1, 0, 3])},
    checks=(Values("loss(model, given, words, rng=0)"),),
    mistakes=(
        Mistake(
            "ops.log_sigmoid(-scores[:, 1:])",
            "ops.log_sigmoid(scores[:, 1:])",
            "",
            "the noise is taught to be true: its score needs a minus",
        ),
        Mistake(" / len(words)", "", "the factor is 3", "the loss is summed over the words, not averaged"),
        Mistake(
            " + ops.log_sigmoid(-scores[:, 1:]).sum()",
            "",
            "",
            "the words of noise are left out, so that all scores may grow without end",
        ),
    ),
)

T5_BUCKETS = Exercise(
    "t5_buckets",
    "tinygen.models.language.t5:bucket",
    "T5's buckets of distances",
    hints=(
        "Near keys are told apart one by one, far ones in groups that grow with the distance.",
        "Up to m = buckets // 2 each distance has its own bucket. Beyond, the bucket is m + "
        "ln(n/m)/ln(max_distance/m) · (buckets - m), rounded down, at most buckets - 1.",
        "both_ways: halve the buckets, add that half where distance > 0, and take |distance|. "
        "Otherwise n = max(-distance, 0): keys behind the query are hidden.",
    ),
    given=lambda: {"distance": np.arange(-24, 25)},
    checks=(
        Values("bucket(distance, 8, 20, False)"),
        Values("bucket(distance, 8, 20, True)"),
        Values("bucket(distance, 32, 128, True)"),
    ),
    mistakes=(
        Mistake(
            "np.maximum(-distance, 0)",
            "np.maximum(distance, 0)",
            "it is in reverse order along axis 0",
            "the distance is key - query: keys before the query have negative ones",
        ),
        Mistake(
            "np.minimum(far, buckets - 1)",
            "far",
            "",
            "distances beyond max_distance get buckets that do not exist",
        ),
        Mistake(
            "np.where(distance > 0, buckets, 0)",
            "np.where(distance < 0, buckets, 0)",
            "it is in reverse order along axis 0",
            "the half of the buckets for keys behind the query is given to those before it",
        ),
    ),
)

WINDOWS = Exercise(
    "windows",
    "tinygen.models.language.word2vec:windows",
    "each word of a text, and its neighbors",
    hints=(
        "Which words have `radius` neighbors on each side?",
        "The places are radius ... N - radius - 1. The neighbors of a place p are p - radius ... p - 1 "
        "and p + 1 ... p + radius.",
        "around = [-radius ... -1, 1 ... radius]; return ids[places], ids[places[:, None] + around].",
    ),
    given=lambda: {"tokens": np.array([5, 3, 8, 1, 9, 2, 7])},
    checks=(Values("windows(tokens, 1)"), Values("windows(tokens, 2)")),
    mistakes=(
        Mistake(
            "np.arange(1, radius + 1)",
            "np.arange(0, radius)",
            "all of them at index 1 of axis 1",
            "the word itself is among its neighbors",
        ),
        Mistake(
            "np.arange(radius, len(ids) - radius)",
            "np.arange(radius, len(ids) - radius - 1)",
            "shape (4,), expected (5,)",
            "the last word that has enough neighbors is missing",
        ),
        Mistake(
            "[np.arange(-radius, 0), np.arange(1, radius + 1)]",
            "[np.arange(1, radius + 1), np.arange(-radius, 0)]",
            "it is in reverse order along axis 1",
            "the neighbors on the right come before those on the left",
        ),
    ),
)

CHAPTER = Chapter("Language models", (WINDOWS, SKIP_GRAM, LSTM, GRU, T5_BUCKETS))

"""Exercises on decoding: which token comes next."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values

TOP_K = Exercise(
    "top_k",
    "tinygen.text.decoding:keep_top_k",
    "keep the k most probable tokens",
    hints=(
        "Which probability must a token have at least to stay?",
        "That of the k-th largest of its row: np.partition(probs, -k)[..., -k, None]. Tokens with an "
        "equal one stay, too.",
        "normalize(np.where(probs >= kth, probs, 0)), with k at most V.",
    ),
    given=lambda: {"probs": np.array([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.4, 0.1]])},
    checks=(
        Values("keep_top_k(probs, 2)"),
        Values("keep_top_k(probs, 1)"),
        Values("keep_top_k(probs, 10)"),
        Values("keep_top_k(probs[None], 2)"),
    ),
    mistakes=(
        Mistake("probs >= kth", "probs > kth", "", "the k-th token itself is left out"),
        Mistake(
            "normalize(np.where(probs >= kth, probs, 0))",
            "np.where(probs >= kth, probs, 0)",
            "the sums along axis 1 should all be 1",
            "the kept probabilities are not divided by their sum",
        ),
        Mistake(
            "np.partition(probs, -k)[..., -k, None]",
            "np.partition(probs, k - 1)[..., k - 1, None]",
            "all of them at index 0 of axis 0",
            "the k-th smallest probability is taken for the k-th largest",
        ),
    ),
)

TOP_P = Exercise(
    "top_p",
    "tinygen.text.decoding:keep_top_p",
    "keep the smallest set with mass p",
    hints=(
        "Take tokens from the most probable on, until they have the mass p. Does the token that "
        "crosses p belong to the set?",
        "Sort each row (argsort of -probs, kind='stable'); a token stays if the mass of the tokens "
        "before it is below p.",
        "before = cumsum of the sorted row, shifted by one; put `before < p` back to the tokens' "
        "places with np.put_along_axis; normalize.",
    ),
    given=lambda: {"probs": np.array([[0.1, 0.4, 0.2, 0.3], [0.5, 0.2, 0.2, 0.1]])},
    checks=(
        Values("keep_top_p(probs, 0.6)"),
        Values("keep_top_p(probs, 0.45)"),
        Values("keep_top_p(probs, 0.01)"),
        Values("keep_top_p(probs, 0.5)"),
        Values("keep_top_p(probs[None], 1.0)"),
    ),
    mistakes=(
        Mistake(
            "before < p",
            "before + falling <= p",
            "",
            "the token that crosses p is left out, so that the set has less than p",
        ),
        Mistake(
            "np.argsort(-probs",
            "np.argsort(probs",
            "",
            "tokens are taken from the least probable on",
        ),
        Mistake(
            "np.put_along_axis(kept, order, before < p, axis=-1)",
            "kept[...] = before < p",
            "all of them at index 0 of axis 0",
            "the marks stay in the order of the sorted row, and hit other tokens",
        ),
    ),
)

MARKOV = np.log(
    np.array(
        [
            [0.01, 0.55, 0.43, 0.01],
            [0.01, 0.35, 0.33, 0.31],
            [0.01, 0.04, 0.05, 0.9],
            [0.25, 0.25, 0.25, 0.25],
        ]
    )
)
"""ln p of the next token, by the last one: the best first token has no good continuation."""


def next_log_probs(ids: Any) -> Any:
    """ln p (N, 4) of the token after beginnings (N, t)."""
    return MARKOV[ids[:, -1]]


BEAM = Exercise(
    "beam",
    "tinygen.text.beam:beam_search",
    "the most probable sequences",
    hints=(
        "A sequence's log-probability is a sum. So every alive sequence, continued by every token, has "
        "one: N · V sums, of which the best `width` stay.",
        "best = np.argsort(-sums, axis=None, kind='stable')[:width]; rows, tokens = np.divmod(best, "
        "V). Sequences that end with `end`, or have max_length tokens, are complete.",
        "Complete ones become Hypothesis(tokens without begin, log_prob, log_prob / "
        "length_penalty(length, alpha)); keep the `width` best. Return them, the best score first.",
    ),
    given=lambda: {"next_log_probs": next_log_probs},
    checks=(
        Values("beam_search(next_log_probs, 1, 4, begin=0, end=3)"),
        Values("beam_search(next_log_probs, 2, 3, begin=0, end=3)"),
        Values("beam_search(next_log_probs, 3, 4, 0.0, begin=0, end=3)"),
        Values("beam_search(next_log_probs, 4, 5, 2.0, begin=0, end=3)"),
    ),
    mistakes=(
        Mistake(
            "sums = log_probs[:, None] + following",
            "sums = 0 * log_probs[:, None] + following",
            "",
            "only the last token's probability counts, not the sum over the sequence",
        ),
        Mistake(
            "[live[rows], tokens",
            "[live[: len(rows)] if len(live) >= len(rows) else live[rows], tokens",
            "",
            "tokens are appended to other sequences than those that they continue",
        ),
        Mistake(
            "log_prob / length_penalty(length, alpha)))",
            "log_prob))",
            "it is what value 2 should be",
            "the score is not divided by the length penalty",
        ),
    ),
)

CHAPTER = Chapter("Decoding", (TOP_K, TOP_P, BEAM))

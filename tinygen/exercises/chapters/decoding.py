"""Exercises on decoding and scores: which token comes next, and how good a text is."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
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

BLEU = Exercise(
    "bleu",
    "tinygen.text.bleu:clipped_matches",
    "the n-grams of a candidate that are in a reference",
    hints=(
        "'the the the' has three times a word that is in the reference. How often may it count?",
        "An n-gram counts at most as often as in the reference that has it most often. A Counter knows "
        "| (the larger of two counts) and & (the smaller).",
        "allowed |= ngrams(text, n) for each reference; return (ngrams(candidate, n) & allowed).total().",
    ),
    given=lambda: {
        "the": ["the"] * 3,
        "cat": ["the", "cat", "is", "on", "the", "mat"],
        "there": ["there", "is", "a", "cat", "on", "the", "mat"],
    },
    checks=(
        Values("clipped_matches(the, [cat], 1)"),
        Values("clipped_matches(the, [cat, there], 1)"),
        Values("clipped_matches(cat, [there], 2)"),
        Values("clipped_matches(the, [cat], 4)"),
    ),
    mistakes=(
        Mistake(
            "(ngrams(candidate, n) & allowed).total()",
            "sum(c for g, c in ngrams(candidate, n).items() if g in allowed)",
            "the factor is 3/2",
            "matches are not clipped: a repeated word counts each time",
        ),
        Mistake(
            "allowed |=",
            "allowed +=",
            "the factor is 3/2",
            "the counts of the references are added: the largest one counts",
        ),
        Mistake(
            "ngrams(candidate, n) &",
            "ngrams(candidate, 1) &",
            "it is 0",
            "the candidate is cut into words instead of n-grams",
        ),
    ),
)

BREVITY = Exercise(
    "brevity",
    "tinygen.text.bleu:brevity_penalty",
    "BLEU's penalty for short candidates",
    hints=(
        "A long candidate needs no penalty: precision lowers its score already.",
        "1 if the candidates are longer than the references, else exp(1 - r/c), with r the references' "
        "and c the candidates' length.",
        "math.exp(min(0.0, 1 - reference_length / length)), and 0 for length 0.",
    ),
    given=dict,
    checks=(
        Values("brevity_penalty(8, 10)"),
        Values("brevity_penalty(12, 10)"),
        Values("brevity_penalty(0, 10)"),
    ),
    mistakes=(
        Mistake(
            "reference_length / length",
            "length / reference_length",
            "",
            "the ratio is upside down: short candidates have no penalty",
        ),
        Mistake(
            "min(0.0, 1 - reference_length / length)",
            "1 - reference_length / length",
            "",
            "long candidates are rewarded: the exponent must not pass 0",
        ),
        Mistake(
            "math.exp(min(0.0, 1 - reference_length / length))",
            "min(1.0, length / reference_length)",
            "",
            "the penalty is the ratio itself, without exp",
        ),
    ),
)

PERPLEXITY = Exercise(
    "perplexity",
    "tinygen.text.decoding:perplexity",
    "from nats a token to the sides of a die",
    hints=(
        "A fair die with V sides costs ln V nats a throw. Which function takes ln V to V?",
        "The mean negative log-likelihood is in nats, so the base is e.",
        "return math.exp(nll_mean).",
    ),
    given=dict,
    checks=(Values("perplexity(np.log(6))"), Values("perplexity(0.0)"), Values("perplexity(2.5)")),
    mistakes=(
        Mistake(
            "math.exp(nll_mean)",
            "2**nll_mean",
            "",
            "the base is 2: that is right for bits, and these are nats",
        ),
        Mistake(
            "math.exp(nll_mean)",
            "math.exp(-nll_mean)",
            "it is 1 divided by the right one",
            "it is the mean probability of a token: 1 divided by the perplexity",
        ),
        Mistake(
            "math.exp(nll_mean)",
            "nll_mean",
            "it is the logarithm of the right one",
            "it is the cross-entropy itself",
        ),
    ),
)

SEQUENCE_LOG_PROB = Exercise(
    "sequence_log_prob",
    "tinygen.text.decoding:sequence_log_prob",
    "ln p of a whole text, from logits",
    hints=(
        "The probability of a text is a product over its tokens. What becomes of it under ln?",
        "ln p of one token is its logit minus log Σ exp of all logits at its place. Subtract the "
        "maximum first.",
        "chosen = np.take_along_axis(shifted, tokens[..., None], -1)[..., 0]; (chosen - "
        "np.log(np.exp(shifted).sum(-1))).sum(-1).",
    ),
    given=lambda: {
        "logits": numbers(2, 3, 4),
        "tokens": np.array([[0, 3, 1], [2, 2, 0]]),
        "large": numbers(3, 4) + 2000,
    },
    checks=(
        Values("sequence_log_prob(logits, tokens)"),
        Values("sequence_log_prob(logits[None], tokens[None])"),
        Values("sequence_log_prob(large, tokens[0])"),
    ),
    mistakes=(
        Mistake(
            "logits - logits.max(axis=-1, keepdims=True)",
            "logits",
            "it is not finite",
            "the maximum is not subtracted, so that exp overflows",
        ),
        Mistake(
            "np.exp(shifted).sum(axis=-1))).sum(axis=-1)",
            "np.exp(shifted).sum(axis=-1))).mean(axis=-1)",
            "every entry has the factor 1/3",
            "the log-probabilities are averaged over the tokens instead of summed",
        ),
        Mistake(
            "(chosen - np.log(np.exp(shifted).sum(axis=-1)))",
            "chosen",
            "",
            "the logits are not normalized: log Σ exp is missing",
        ),
    ),
)

CHAPTER = Chapter(
    "Decoding and scores",
    (
        TOP_K,
        TOP_P,
        SEQUENCE_LOG_PROB,
        PERPLEXITY,
        BEAM,
        BLEU,
        BREVITY,
    ),
)

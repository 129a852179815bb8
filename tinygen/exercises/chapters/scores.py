"""Exercises on scores: how probable a text is, and how good a translation."""

from __future__ import annotations

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values

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

CHAPTER = Chapter("Scores of texts", (SEQUENCE_LOG_PROB, PERPLEXITY, BLEU, BREVITY))

"""Exercises on text: tokenizers, decoding, scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values
from tinygen.text.masking import IGNORED
from tinygen.text.wordpiece import WordPiece

MERGE = Exercise(
    "merge",
    "tinygen.text.merges:merge",
    "one merge of byte-pair encoding",
    hints=(
        "Read the ids from the left. At each place there are two cases.",
        "If the pair begins here, write new_id and go on behind it: two places. Otherwise copy one id. "
        "Mind the last id, which has no neighbor.",
        "while i < len(ids): if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair: append new_id, i += "
        "2; else append ids[i], i += 1.",
    ),
    given=dict,
    checks=(
        Values("merge([1, 2, 3, 1, 2], (1, 2), 9)"),
        Values("merge([1, 1, 1], (1, 1), 9)"),
        Values("merge([2, 1, 2], (1, 2), 9)"),
        Values("merge([3, 1], (1, 2), 9)"),
        Values("merge([], (1, 2), 9)"),
    ),
    mistakes=(
        Mistake(
            "i += 2",
            "i += 1",
            "5 values, expected 3",
            "after a merge the second id of the pair is read again",
        ),
        Mistake(
            "while i < len(ids):",
            "while i + 1 < len(ids):",
            "1 values, expected 2",
            "the last id is lost when it is in no pair",
        ),
        Mistake(
            "(ids[i], ids[i + 1]) == pair",
            "{ids[i], ids[i + 1]} == set(pair)",
            "the factor is 9/2 (it is what value 2 should be)",
            "the pair is merged in either order",
        ),
    ),
)


def pieces() -> WordPiece:
    """A small vocabulary."""
    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "un",
        "aff",
        "##aff",
        "able",
        "##able",
        "u",
        "##a",
        "a",
        "##n",
    ]
    return WordPiece({name: i for i, name in enumerate(names)})


WORDPIECE = Exercise(
    "wordpiece",
    "tinygen.text.wordpiece:WordPiece.encode_word",
    "cut a word into the longest known pieces",
    hints=(
        "Which piece comes first? The longest one of the vocabulary with which the word begins. And then?",
        "Pieces that are not at the start are in `self.vocab` with ## in front (INSIDE). If no piece "
        "fits anywhere, the whole word is unknown.",
        "for end in range(len(word), start, -1): if mark + word[start:end] is in the vocabulary, take "
        "it and go on at end; `else` of the loop: return [self.vocab[self.unknown]].",
    ),
    given=lambda: {"wp": pieces(), "names": lambda wp, ids: [wp.pieces[i] for i in ids]},
    checks=(
        Values("names(wp, encode_word(wp, 'unaffable'))"),
        Values("names(wp, encode_word(wp, 'una'))"),
        Values("names(wp, encode_word(wp, 'unable'))"),
        Values("names(wp, encode_word(wp, 'unx'))"),
        Values("names(wp, encode_word(wp, 'u' * 200))"),
    ),
    mistakes=(
        Mistake(
            "range(len(word), start, -1)",
            "range(start + 1, len(word) + 1)",
            "1 values, expected 3",
            "the shortest piece is taken instead of the longest",
        ),
        Mistake(
            'INSIDE if start else ""',
            '""',
            "",
            "pieces inside the word are looked up without ##",
        ),
        Mistake(
            "else:\n            return [self.vocab[self.unknown]]",
            "else:\n            found, end = self.vocab[self.unknown], start + 1",
            "2 values, expected 1",
            "only a part of the word becomes unknown, not the whole word",
        ),
    ),
)

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
    checks=(Values("keep_top_k(probs, 2)"), Values("keep_top_k(probs, 1)"), Values("keep_top_k(probs, 10)")),
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
        Values("keep_top_p(probs, 1.0)"),
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


def shares_of(mask_tokens: Callable[..., Any]) -> dict[str, Any]:
    """What becomes of many tokens: shares, and counts of what must not be."""
    ids = np.random.default_rng(0).integers(5, 1000, 50_000)
    ids[::10] = 1  # special
    inputs, targets = mask_tokens(ids, 1000, 4, special=(1,), rate=0.2, rng=0)
    chosen = targets != IGNORED
    masked, kept = chosen & (inputs == 4), chosen & (inputs == ids)
    of = max(chosen.sum(), 1)
    return {
        "special tokens chosen": int(np.sum(chosen & (ids == 1))),
        "other tokens changed": int(np.sum(~chosen & (inputs != ids))),
        "targets that are not the token": int(np.sum(chosen & (targets != ids))),
        "shares chosen, masked, random, kept": np.array(
            [chosen.mean() / 0.9, masked.sum() / of, 1 - (masked | kept).sum() / of, kept.sum() / of]
        ),
    }


MASK_TOKENS = Exercise(
    "mask_tokens",
    "tinygen.text.masking:mask_tokens",
    "BERT's masked words, 80 : 10 : 10",
    hints=(
        "Two draws for each token: is it chosen, and if so, what becomes of it?",
        "Chosen with probability `rate`, but never a special token. Of the chosen, AS_MASK become "
        "mask_id, AS_RANDOM a random token, the rest stays; the target is the token itself.",
        "fate = rng.random(ids.shape): below AS_MASK the mask, from 1 - AS_RANDOM on a random token. "
        "Targets: np.where(chosen, ids, IGNORED).",
    ),
    given=lambda: {"shares_of": shares_of},
    checks=(Values("shares_of(mask_tokens)", within=0.03),),
    mistakes=(
        Mistake(
            " & ~np.isin(ids, list(special))",
            "",
            "['special tokens chosen']",
            "special tokens are chosen, too",
        ),
        Mistake(
            "inputs = np.where(chosen & (fate < AS_MASK), mask_id, ids)",
            "inputs = np.where(fate < AS_MASK, mask_id, ids)",
            "['other tokens changed']",
            "tokens that were not chosen are hidden",
        ),
        Mistake(
            "chosen & (fate < AS_MASK)",
            "chosen & (fate < 1.0)",
            "['shares chosen, masked, random, kept']",
            "every chosen token is hidden: none stays as it is",
        ),
    ),
)

CHAPTER = Chapter(
    "Text",
    (MERGE, WORDPIECE, MASK_TOKENS, TOP_K, TOP_P, SEQUENCE_LOG_PROB, PERPLEXITY, BEAM, BLEU, BREVITY),
)

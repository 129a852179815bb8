"""Exercises on texts: tokenizers, masked words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

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
    "Texts",
    (
        MERGE,
        WORDPIECE,
        MASK_TOKENS,
    ),
)

"""BLEU: how much of a translation is also in human translations of the same text.

Papineni et al. 2002, *BLEU: a method for automatic evaluation of machine translation*, sections 2.1 and 2.3.
The score is of a whole corpus: n-grams and lengths are added up over all its texts before anything is
divided. A text is a sequence of tokens, words or ids. How a text is cut into words changes the score, so
compare only scores of the same tokenizer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

Text = Sequence[Hashable]


class BLEU(NamedTuple):
    """The score, from 0 to 1, and its parts."""

    score: float
    precisions: tuple[float, ...]  # p_n for n = 1, 2, ...
    brevity_penalty: float
    length: int  # c, the number of tokens in all candidates
    reference_length: int  # r, the same in the reference of each candidate whose length is closest


def corpus_bleu(candidates: Sequence[Text], references: Sequence[Sequence[Text]], max_order: int = 4) -> BLEU:
    """BLEU of `candidates`; `references[i]` are the correct translations, at least one, for candidate i.

    There is no smoothing: without a common n-gram of the longest order, the score is 0. Raises ValueError if
    there are no candidates, not as many lists of references, an empty list, or a string in place of tokens.

    Eq.: BLEU = BP exp(Σ_n ln p_n / N)  (Papineni et al. 2002, section 2.3)
    Held by: tests/text/test_bleu.py::test_a_score_by_hand
    """
    if max_order < 1:
        raise ValueError(f"max_order must be at least 1, got {max_order}")
    if len(candidates) == 0 or len(candidates) != len(references):
        raise ValueError(
            f"BLEU needs candidates, and a list of references for each: "
            f"got {len(candidates)} candidates and {len(references)} lists"
        )
    matches, totals = [0] * max_order, [0] * max_order
    length = reference_length = 0
    for i, (candidate, correct) in enumerate(zip(candidates, references, strict=True)):
        if any(isinstance(text, str) for text in (candidate, correct, *correct)):
            raise ValueError(f"text {i} has a string in place of tokens: cut it, for example with .split()")
        if len(correct) == 0:
            raise ValueError(f"candidate {i} has no reference")
        length += len(candidate)
        reference_length += closest_length(len(candidate), [len(text) for text in correct])
        for n in range(1, max_order + 1):
            matches[n - 1] += clipped_matches(candidate, correct, n)
            totals[n - 1] += max(len(candidate) - n + 1, 0)
    precisions = tuple(matches[i] / max(totals[i], 1) for i in range(max_order))
    penalty = brevity_penalty(length, reference_length)
    mean = sum(math.log(p) for p in precisions) / max_order if all(precisions) else -math.inf
    return BLEU(penalty * math.exp(mean), precisions, penalty, length, reference_length)


def clipped_matches(candidate: Text, references: Sequence[Text], n: int) -> int:
    """The n-grams of the candidate that are in a reference. Each counts at most as often as it occurs in
    the reference that has it most often: so "the the the" matches "the cat on the mat" only twice."""
    allowed: Counter[tuple[Hashable, ...]] = Counter()
    for text in references:
        allowed |= ngrams(text, n)  # the larger of two counts
    return (ngrams(candidate, n) & allowed).total()  # the smaller


def ngrams(text: Text, n: int) -> Counter[tuple[Hashable, ...]]:
    """How often each n-gram occurs in a text."""
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))


def closest_length(length: int, lengths: Sequence[int]) -> int:
    """The reference length that is closest to `length`; of two at the same distance, the smaller."""
    return min(lengths, key=lambda r: (abs(r - length), r))


def brevity_penalty(length: int, reference_length: int) -> float:
    """Precision alone would reward short candidates, so the score of a corpus that is too short is lowered.

    Eq.: BP = 1 if c > r, else exp(1 - r / c)  (Papineni et al. 2002, section 2.3)
    Held by: tests/text/test_bleu.py::test_the_brevity_penalty
    """
    if length == 0:
        return 0.0
    return math.exp(min(0.0, 1 - reference_length / length))

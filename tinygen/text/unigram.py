"""The unigram tokenizer: of all ways to cut a text into known pieces, the most probable one.

Kudo 2018 (arXiv:1804.10959), *Subword regularization*, section 3.2; it is the tokenizer of T5. Each piece has
a probability, the pieces of a text are drawn independently, and the Viterbi algorithm finds the best cut. A
space is written ▁ and belongs to the word after it:

    "unaffable cat"  ->  ▁un aff able ▁cat

Training starts from many frequent pieces. Expectation-maximization gives each piece its probability, summed
over all ways to cut the text. Then the pieces that the text needs least are dropped, and so on, until the
vocabulary is small enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tinygen.text.bpe import require_utf8
from tinygen.text.tokenizers import Tokens, checked_ids, split_special
from tinygen.types import Ids

SPACE = "▁"
UNKNOWN = "<unk>"
UNKNOWN_COST = 10.0  # nats: an unknown character is so much less probable than the rarest piece
DROPPED = 0.25  # share of the pieces that one round of training drops


def mark_words(text: str) -> list[str]:
    """The words of a text, each with its ▁; the text gets one at its start."""
    marked = text.replace(" ", SPACE)
    if text and not marked.startswith(SPACE):
        marked = SPACE + marked
    return [SPACE + word for word in marked.split(SPACE)[1:]]


class Unigram:
    """`scores` is {piece: ln p}, in the order of the ids 0 .. V - 1, and has `unknown`. `special` are the
    names of pieces that `encode(text, "all")` finds in the text as they are written. `words` cuts a text into
    words, each with its ▁."""

    def __init__(
        self,
        scores: Mapping[str, float],
        special: Collection[str] = (),
        unknown: str = UNKNOWN,
        words: Callable[[str], list[str]] = mark_words,
    ) -> None:
        if missing := [name for name in (unknown, *special) if name not in scores]:
            raise ValueError(f"the vocabulary has no {missing[0]!r}")
        if bad := [name for name, score in scores.items() if not math.isfinite(score)]:
            raise ValueError(f"the score of {bad[0]!r} must be a finite number, got {scores[bad[0]]}")
        self.pieces, self.scores = list(scores), dict(scores)
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.special, self.unknown = {name: self.ids[name] for name in special}, unknown
        self.words = words
        self.usable = set(self.pieces) - {unknown, *special}  # in plain text
        self.longest = max(map(len, self.pieces))
        self.worst = min(scores.values()) - UNKNOWN_COST

    @property
    def vocab_size(self) -> int:
        """The number of pieces."""
        return len(self.pieces)

    def encode(self, text: str, allowed_special: Collection[str] | str = ()) -> Ids:
        """The ids of `text`: (T,). Unknown characters in a row are one unknown piece. No end token is added.

        The name of a special piece in the text becomes this piece only if `allowed_special` has it, or is
        "all". ValueError for a name that is not special, and for a lone surrogate."""
        require_utf8(text)
        ids: list[int] = []
        for i, part in enumerate(split_special(text, self.special, allowed_special, ())):
            if i % 2:
                ids.append(self.special[part])
                continue
            for word in self.words(part):
                ids += [self.ids[x if x in self.usable else self.unknown] for x in self.cut(word)]
        return np.array(ids, np.int64)

    def cut(self, word: str) -> list[str]:
        """The most probable cut of a word; of equally probable ones the one that the search finds first.

        Eq.: x* = argmax over cuts x of Σ_i ln p(x_i)  (Kudo 2018, section 3.2, by the Viterbi algorithm)
        Held by: tests/text/test_unigram.py::test_the_cut_is_the_best_of_all_cuts
        """
        best = [0.0] + [-math.inf] * len(word)  # the best score of a cut that ends here
        begin = [0] * (len(word) + 1)  # where its last piece begins
        for start in range(len(word)):
            for end in range(start + 1, min(start + self.longest, len(word)) + 1):
                piece = word[start:end]
                if piece in self.usable:
                    score = self.scores[piece]
                else:
                    score = self.worst if end == start + 1 else -math.inf
                if best[start] + score > best[end]:
                    best[end], begin[end] = best[start] + score, start
        pieces: list[str] = []
        end, unknown = len(word), False
        while end:
            piece = word[begin[end] : end]
            known = piece in self.usable
            if not known and unknown:
                pieces[-1] = piece + pieces[-1]  # unknown characters in a row are one piece
            else:
                pieces.append(piece)
            end, unknown = begin[end], not known
        return pieces[::-1]

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,), without the space before it. ValueError for an id outside the
        vocabulary."""
        text = "".join(self.pieces[i] for i in checked_ids(ids, self.vocab_size))
        return text.replace(SPACE, " ").removeprefix(" ")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode a stream of ids piece by piece; the pieces, joined, equal the result of `decode`."""
        for i, token in enumerate(ids):
            (known,) = checked_ids([token], self.vocab_size)
            text = self.pieces[known].replace(SPACE, " ")
            yield text if i else text.removeprefix(" ")


# -- training ----------------------------------------------------------------------------------------


def train_unigram(
    text: str, vocab_size: int, special: Sequence[str] = (UNKNOWN,), longest: int = 16
) -> Unigram:
    """Learn the pieces and their probabilities from a text. Characters are never dropped. `special` has the
    unknown piece first. ValueError if vocab_size is too small for the characters, or the text is empty."""
    require_utf8(text)
    words = Counter(mark_words(text))
    characters = {char for word in words for char in word}
    room = vocab_size - len(special)
    if not words or len(characters) > room:
        needed = f"{len(characters)} characters and {len(special)} special pieces"
        raise ValueError(f"vocab_size={vocab_size} is too small, or the text empty: there are {needed}")
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                counts[word[start:end]] += times
    # frequent and long pieces first; ties by the piece, so that the order of the text has no effect
    seeds = sorted(
        (p for p in counts if len(p) > 1 and counts[p] > 1), key=lambda p: (-counts[p] * len(p), p)
    )
    logs = log_shares({piece: counts[piece] for piece in [*sorted(characters), *seeds[: 10 * vocab_size]]})
    while True:
        for _ in range(2):
            expected = expected_counts(words, logs, longest)
            logs = log_shares({p: max(expected[p], 1e-6) for p in logs if len(p) == 1 or expected[p] > 1e-3})
        if len(logs) <= room:
            break
        costs = {piece: expected[piece] * drop_cost(piece, logs, longest) for piece in logs if len(piece) > 1}
        keep = max(room - len(characters), int((1 - DROPPED) * len(costs)))
        best = sorted(costs, key=lambda piece: (-costs[piece], piece))[:keep]
        logs = log_shares({piece: expected[piece] for piece in [*sorted(characters), *best]})
    order = sorted(logs, key=lambda piece: (-logs[piece], piece))
    return Unigram({**dict.fromkeys(special, 0.0), **{p: logs[p] for p in order}}, special, special[0])


def log_shares(counts: Mapping[str, float]) -> dict[str, float]:
    """ln p of each piece, from counts."""
    total = sum(counts.values())
    return {piece: math.log(max(count, 1e-6) / total) for piece, count in counts.items()}


def expected_counts(words: Counter[str], logs: Mapping[str, float], longest: int) -> dict[str, float]:
    """How often each piece is used, on average over all ways to cut the words: the E-step.

    Eq.: E[n_x] = Σ over words of Σ over places (i, j) of x: α_i p(x) β_j / α_end, with the sums α_i over all
        cuts before i, and β_j over those after j  (the marginal likelihood: Kudo 2018, section 3.2)
    Held by: tests/text/test_unigram.py::test_expected_counts_by_summing_over_all_cuts
    """
    found = dict.fromkeys(logs, 0.0)
    for word, times in words.items():
        edges = [
            (start, end, math.exp(logs[word[start:end]]))
            for start in range(len(word))
            for end in range(start + 1, min(start + longest, len(word)) + 1)
            if word[start:end] in logs
        ]
        alpha, beta = [1.0] + [0.0] * len(word), [0.0] * len(word) + [1.0]
        for start, end, p in edges:
            alpha[end] += alpha[start] * p
        for start, end, p in reversed(edges):
            beta[start] += beta[end] * p
        for start, end, p in edges:
            found[word[start:end]] += times * alpha[start] * p * beta[end] / alpha[-1]
    return found


def drop_cost(piece: str, logs: Mapping[str, float], longest: int) -> float:
    """How many nats the text loses at each use of a piece if it is dropped, and the best cut of it into other
    pieces takes its place."""
    best = [0.0] + [-math.inf] * len(piece)
    for start in range(len(piece)):
        for end in range(start + 1, min(start + longest, len(piece)) + 1):
            part = piece[start:end]
            if part in logs and part != piece:
                best[end] = max(best[end], best[start] + logs[part])
    return logs[piece] - best[-1]

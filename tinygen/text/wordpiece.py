"""WordPiece, the tokenizer of BERT: words are cut into the longest known pieces, from the left.

Schuster & Nakajima 2012, *Japanese and Korean voice search*, section 4 (training); Wu et al. 2016
(arXiv:1609.08144), section 4.1; Devlin et al. 2019 (the published code of BERT) for how a text becomes words.
A piece inside a word is written with ##:

    unaffable  ->  un ##aff ##able

Training starts from characters. Byte-pair encoding joins the pair of neighbors that is most frequent.
WordPiece joins the pair that makes the training text most probable, if the pieces of a text are drawn
independently: the pair with the highest count(a b) / (count(a) count(b)).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from tinygen.text.bpe import require_utf8
from tinygen.text.tokenizers import Tokens, checked_ids, split_special
from tinygen.types import Ids

INSIDE = "##"
UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F)),
    *((0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
"""The blocks of Chinese characters, which are words of their own. 0x2B920 is the number in the library
`tokenizers`; BERT's published code has 0x2B820, where this block really begins."""


class WordPiece:
    """`vocab` is {piece: id}, with ids 0 .. V - 1, and has `unknown`. With `lowercase` (BERT "uncased") texts
    lose capitals and accents. A word longer than `longest` characters is unknown.

    `special` are the names of pieces that `encode(text, "all")` finds in the text as they are written."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        special: Collection[str] = SPECIAL,
        lowercase: bool = True,
        unknown: str = UNKNOWN,
        longest: int = 100,
    ) -> None:
        self.vocab = dict(vocab)
        if sorted(self.vocab.values()) != list(range(len(self.vocab))):
            raise ValueError(f"the ids must be 0 .. {len(self.vocab) - 1}, each once")
        if missing := [name for name in (unknown, *special) if name not in self.vocab]:
            raise ValueError(f"the vocabulary has no {missing[0]!r}")
        self.special = {name: self.vocab[name] for name in special}
        self.lowercase, self.unknown, self.longest = lowercase, unknown, longest
        self.pieces = sorted(self.vocab, key=self.vocab.__getitem__)

    @property
    def vocab_size(self) -> int:
        """The number of pieces."""
        return len(self.pieces)

    def encode(self, text: str, allowed_special: Collection[str] | str = ()) -> Ids:
        """The ids of `text`: (T,). [CLS] and [SEP] are not added.

        The name of a special piece in the text becomes this piece only if `allowed_special` has it, or is
        "all". ValueError for a name that is not special, and for a lone surrogate."""
        require_utf8(text)
        ids: list[int] = []
        for i, part in enumerate(split_special(text, self.special, allowed_special, ())):
            if i % 2:
                ids.append(self.special[part])
                continue
            for word in split_words(normalize(part, self.lowercase)):
                ids += self.encode_word(word)
        return np.array(ids, np.int64)

    def encode_word(self, word: str) -> list[int]:
        """The longest piece at the start, then the longest one after it, and so on; the unknown piece if that
        fails anywhere."""
        ids, start = [], 0
        if len(word) > self.longest:
            return [self.vocab[self.unknown]]
        while start < len(word):
            mark = INSIDE if start else ""
            for end in range(len(word), start, -1):
                if (found := self.vocab.get(mark + word[start:end])) is not None:
                    break
            else:
                return [self.vocab[self.unknown]]
            ids.append(found)
            start = end
        return ids

    def decode(self, ids: Tokens) -> str:
        """The pieces with spaces between them, and without a space before ##. What `encode` has lost does not
        come back: capitals, accents, the number of spaces. ValueError for an id outside the vocabulary."""
        text = " ".join(self.pieces[i] for i in checked_ids(ids, self.vocab_size))
        return text.replace(f" {INSIDE}", "")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode a stream of ids piece by piece; the pieces, joined, equal the result of `decode`."""
        for i, token in enumerate(ids):
            (known,) = checked_ids([token], self.vocab_size)
            text = " " * (i > 0) + self.pieces[known]
            yield text.removeprefix(f" {INSIDE}")

    @classmethod
    def train(
        cls, text: str, vocab_size: int, special: Sequence[str] = SPECIAL, lowercase: bool = True
    ) -> WordPiece:
        """Learn a vocabulary from a text: the special pieces, all characters, then one new piece after the
        other. ValueError if vocab_size is too small for the characters.

        Eq.: join the pair with the highest count(a b) / (count(a) count(b))
            (the gain in likelihood: Schuster & Nakajima 2012, section 4)
        Held by: tests/text/test_wordpiece.py::test_training_joins_the_pair_with_the_most_likelihood
        """
        require_utf8(text)
        times = Counter(split_words(normalize(text, lowercase)))
        words = {word: [word[0], *(INSIDE + char for char in word[1:])] for word in times}
        names = [*special, *sorted({piece for pieces in words.values() for piece in pieces})]
        if len(names) > vocab_size:
            raise ValueError(f"vocab_size={vocab_size}, but the characters alone need {len(names)}")
        while len(names) < vocab_size:
            pieces: Counter[str] = Counter()
            pairs: Counter[tuple[str, str]] = Counter()
            for word, spelled in words.items():
                for piece in spelled:
                    pieces[piece] += times[word]
                for pair in pairwise(spelled):
                    pairs[pair] += times[word]
            if not pairs:
                break  # each word is one piece
            best = min(pairs, key=lambda pair: (-pairs[pair] / (pieces[pair[0]] * pieces[pair[1]]), pair))
            joined = best[0] + best[1].removeprefix(INSIDE)
            words = {word: join(spelled, best, joined) for word, spelled in words.items()}
            if joined not in names:
                names.append(joined)
        return cls({name: i for i, name in enumerate(names)}, special, lowercase)


def join(pieces: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    """The pieces with each `pair` replaced, from the left."""
    found: list[str] = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] = joined
        else:
            found.append(piece)
    return found


# -- from a text to words ----------------------------------------------------------------------------


def normalize(text: str, lowercase: bool) -> str:
    """BERT's first step: no control characters, spaces for all white space and around Chinese characters;
    with `lowercase` no accents, and no capitals."""
    clean = []
    for char in text:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
            clean.append(" ")
        elif category not in ("Cc", "Cf", "Co") and char != "\ufffd":
            chinese = any(low <= ord(char) <= high for low, high in CHINESE)
            clean.append(f" {char} " if chinese else char)
    found = "".join(clean)
    if lowercase:
        letters = (c for c in unicodedata.normalize("NFD", found) if unicodedata.category(c) != "Mn")
        found = "".join(char.lower() for char in letters)
    return found


def split_words(text: str) -> list[str]:
    """The words between white space; each punctuation mark is a word."""
    return "".join(f" {char} " if is_punctuation(char) else char for char in text).split()


def is_punctuation(char: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is visible and no letter or digit, such as $ and +."""
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char)[0] == "P"

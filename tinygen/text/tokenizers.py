"""From text to integers: a tokenizer with one id per character, and the splitting of text into words for BPE.

`CharTokenizer` is the tokenizer of char-rnn (Karpathy 2015): the sorted alphabet. `pretokenize` is
the first step of GPT-2's byte-pair encoding (Radford et al. 2019, section 2.2): splitting prevents
merges across words, numbers and punctuation. The second step is in `bpe.py`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinygen.types import Ids

Tokens = Sequence[int] | NDArray[np.integer]

# -- characters ------------------------------------------------------------------------------------


class CharTokenizer:
    """One token per character: the id of a character is its index in the sorted alphabet `chars`.

    `text` gives the alphabet: every different character in it becomes a token. ValueError if it
    is empty. `CharTokenizer(tokenizer.chars)` makes an equal tokenizer.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("cannot make an alphabet of an empty text")
        self.chars = "".join(sorted(set(text)))
        self.vocab_size = len(self.chars)
        self._codes = code_points(self.chars)  # (V,), ascending

    def encode(self, text: str) -> Ids:
        """The ids of `text`: (T,). ValueError names the first character not in the alphabet."""
        codes = code_points(text)
        ids = np.searchsorted(self._codes, codes)
        unknown = np.flatnonzero(self._codes.take(ids, mode="clip") != codes)
        if len(unknown):
            at = int(unknown[0])
            raise ValueError(
                f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at} is not among "
                f"the {self.vocab_size} characters of this tokenizer"
            )
        return ids

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,). ValueError names the first id outside 0 .. vocab_size - 1."""
        ids = checked_ids(ids, self.vocab_size)
        return self._codes[ids].tobytes().decode("utf-32-le", "surrogatepass")


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of `text`: (T,). A lone surrogate is a character like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def checked_ids(ids: Tokens, vocab_size: int) -> Ids:
    """`ids` as an int64 array (T,), after a check that each is a token of this vocabulary."""
    array = np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.int64)  # an empty list makes a float array
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"tokens must be one row of integers, got shape {array.shape} and dtype {array.dtype}"
        )
    bad = np.flatnonzero((array < 0) | (array >= vocab_size))
    if len(bad):
        raise ValueError(
            f"token {array[bad[0]]} at position {bad[0]} is outside the vocabulary 0 .. {vocab_size - 1}"
        )
    return array.astype(np.int64)


def split_special(
    text: str,
    special: Collection[str],
    allowed: Collection[str] | Literal["all"],
    lstrip: Collection[str],
) -> list[str]:
    """The parts of a text before, between and after the special tokens that are allowed: parts at odd indices
    are their names. If two could begin at one place, the longest wins. Those in `lstrip` take in the white
    space before them. ValueError for an unknown name."""
    names = set(special if allowed == "all" else allowed)
    if unknown := sorted(names.difference(special)):
        raise ValueError(f"{unknown} are no special tokens of this tokenizer; it has {sorted(special)}")
    pattern = "|".join(map(re.escape, sorted(names, reverse=True)))  # of two that fit, the longer one first
    parts = re.split(f"({pattern})", text) if names else [text]
    for i in range(1, len(parts), 2):
        if parts[i] in lstrip:
            parts[i - 1] = parts[i - 1].rstrip(SPACES)
    return parts


# -- words -----------------------------------------------------------------------------------------

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space property. `str.isspace` and `\\s` of `re` also include \\x1c to \\x1f."""
SPACES = "".join(re.findall(f"[{WHITE_SPACE}]", "".join(map(chr, range(0x3001)))))


def pretokenize(text: str) -> list[str]:
    """Cut `text` into words, which joined again give the text.

    The words are the matches of GPT-2's pattern

        's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

    where this Python's `unicodedata` defines letters and numbers. A word includes one space before it;
    the other characters of a longer run of white space form a word of their own.
    """
    return (ascii_words() if text.isascii() else unicode_words()).findall(text)


@cache
def ascii_words() -> re.Pattern[str]:
    return word_pattern("A-Za-z", "0-9")


@cache
def unicode_words() -> re.Pattern[str]:
    """The pattern for any text. Building it takes more than 0.1 s, so it is built only if needed."""
    return word_pattern(*unicode_ranges())


@cache
def unicode_ranges() -> tuple[str, str]:
    """Unicode's letters and its numbers, each as the inside of a regular expression's [...]."""
    codes = range(sys.maxunicode)  # the last one, U+10FFFF, is no character
    majors = np.array([unicodedata.category(chr(code))[0] for code in codes])
    return ranges(majors == "L"), ranges(majors == "N")


def word_pattern(letters: str, numbers: str) -> re.Pattern[str]:
    """GPT-2's pattern for `re`. As `re` has no \\p{...}, the characters of each class are listed."""
    space = WHITE_SPACE
    return re.compile(
        f"{CONTRACTIONS}| ?[{letters}]+| ?[{numbers}]+| ?[^{space}{letters}{numbers}]+"
        f"|[{space}]+(?![^{space}])|[{space}]+"
    )


def ranges(member: NDArray[np.bool_]) -> str:
    """The inside of a regular expression's [...] for the code points marked in `member`."""
    edges = np.flatnonzero(np.diff(member, prepend=False, append=False))
    return "".join(f"\\U{a:08x}-\\U{b - 1:08x}" for a, b in edges.reshape(-1, 2))

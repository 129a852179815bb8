"""`CharTokenizer`, and the cutting into words against GPT-2's own regular expression."""

import re
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.text.tokenizers import CharTokenizer, checked_ids, pretokenize, ranges, unicode_ranges

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# -- characters ------------------------------------------------------------------------------------


def test_ids_are_places_in_the_sorted_alphabet() -> None:
    tokenizer = CharTokenizer("hello")
    assert tokenizer.chars == "ehlo"
    assert tokenizer.vocab_size == 4
    assert tokenizer.encode("hello").tolist() == [1, 0, 2, 2, 3]
    assert tokenizer.decode([1, 0, 2, 2, 3]) == "hello"


@given(st.text(st.characters(exclude_categories=[]), min_size=1))  # lone surrogates included
def test_any_text_comes_back(text: str) -> None:
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert CharTokenizer(tokenizer.chars).encode(text).tolist() == ids.tolist()


def test_nothing_is_encoded_as_nothing() -> None:
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.decode([]) == ""


def test_an_unknown_character_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"'z' \(U\+007A\) at position 2 .* 3 characters"):
        CharTokenizer("abc").encode("abzaz")
    with pytest.raises(ValueError, match=r"U\+0041\) at position 0"):  # below the whole alphabet
        CharTokenizer("abc").encode("A")


@pytest.mark.parametrize("bad", [-1, 3])
def test_an_unknown_id_is_named_with_its_place(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"token {bad} at position 1 .* 0 \.\. 2"):
        CharTokenizer("abc").decode([0, bad])


def test_ids_must_be_one_row_of_integers() -> None:
    with pytest.raises(ValueError, match="float64"):
        CharTokenizer("abc").decode([0.0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"\(1, 1\)"):
        CharTokenizer("abc").decode([[0]])  # type: ignore[list-item]


def test_an_alphabet_needs_a_text() -> None:
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer("")


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("I'll say it's 'tis", ["I", "'ll", " say", " it", "'s", " '", "tis"]),
        ("DON'T", ["DON", "'", "T"]),  # contractions are known in lower case only
        ("don\u2019t", ["don", "\u2019", "t"]),  # and with the straight apostrophe only
        ("in 2019, x=3.5!", ["in", " 2019", ",", " x", "=", "3", ".", "5", "!"]),
        ("a   b", ["a", "  ", " b"]),  # a word takes one space along, the others stand alone
        ("a \n b", ["a", " \n", " b"]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),  # only a space is taken along
        ("end  ", ["end", "  "]),
        ("naïve 日本語 ½²", ["naïve", " 日本語", " ½²"]),
        ("a\x1cb", ["a", "\x1c", "b"]),  # str.isspace calls \x1c a space, Unicode does not
        (" \x1c", [" \x1c"]),
        ("a\x85\u3000b", ["a", "\x85", "\u3000", "b"]),  # both are white space
        ("नमस्ते", ["नमस", "्", "त", "े"]),  # marks are not letters: this is what GPT-2 does
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert pretokenize(text) == words


def test_ranges_by_hand() -> None:
    member = np.isin(np.arange(9), [0, 1, 4, 7, 8])
    assert ranges(member) == r"\U00000000-\U00000001\U00000004-\U00000004\U00000007-\U00000008"


def test_letters_and_numbers() -> None:
    """Computed once, since it takes a tenth of a second."""
    letters, numbers = unicode_ranges.__wrapped__()
    assert re.findall(f"[{letters}]", "aé中\u0663½² !_\u0300") == ["a", "é", "中"]
    assert re.findall(f"[{numbers}]", "aé中\u0663½² !_\u0300") == ["\u0663", "½", "²"]
    assert unicode_ranges() is unicode_ranges()


@given(st.text())
def test_the_words_make_the_text(text: str) -> None:
    assert "".join(pretokenize(text)) == text


@given(st.text(st.characters(max_codepoint=127)))
def test_the_short_pattern_for_ascii_cuts_like_the_long_one(text: str) -> None:
    # A Greek letter at the end forces the long pattern; the space before keeps it a separate word.
    assert pretokenize(text + "!") == pretokenize(text + "!" + "λ")[:-1]


def assigned() -> list[str]:
    """Every character that this Python knows: a newer library knows more of them as letters."""
    codes = map(chr, range(sys.maxunicode + 1))
    return [char for char in codes if unicodedata.category(char) not in ("Cn", "Cs")]


def test_every_character_is_in_the_class_that_regex_puts_it_in() -> None:
    regex = pytest.importorskip("regex")
    gpt2 = regex.compile(GPT2)
    # Between a letter, a number, a sign and a space, each class of character cuts differently.
    for char in assigned():
        text = f"a{char}1{char}!{char} {char}"
        assert pretokenize(text) == gpt2.findall(text), f"U+{ord(char):04X}"


@given(st.text(st.one_of(st.sampled_from("'stremvld \n\t\x1c\xa0\u2028aé1½!😀"), st.characters())))
def test_any_text_is_cut_as_regex_cuts_it(text: str) -> None:
    regex = pytest.importorskip("regex")
    text = "".join(char for char in text if unicodedata.category(char) != "Cn")
    assert pretokenize(text) == regex.findall(GPT2, text)


def test_the_first_wrong_token_is_named():
    with pytest.raises(ValueError, match=r"token 9 at position 1 is outside the vocabulary 0 \.\. 2"):
        checked_ids([0, 9, 1, -1], 3)

"""The tokenizer on GPT-2's own vocabulary: known ids, round trips, and the ids of two other libraries.

The two files, vocab.json and merges.txt, are looked for in the folder that TINYGEN_DATA names, and in
vocabularies/gpt2 below it; where they are not, these tests are skipped.
"""

import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_texts import published

from tinygen.text import BPE

END = "<|endoftext|>"
VOCABULARY = published("gpt2", "vocab.json")
FOLDER = VOCABULARY and VOCABULARY.parent

pytestmark = pytest.mark.skipif(FOLDER is None, reason="TINYGEN_DATA names no folder with GPT-2's vocab.json")


@pytest.fixture(scope="module")
def gpt2() -> BPE:
    assert FOLDER is not None
    return BPE.load(FOLDER, special=[END])


KNOWN = {
    "Hello world": [15496, 995],
    " Hello world": [18435, 995],
    "Hello, world!": [15496, 11, 995, 0],
    "The quick brown fox jumps over the lazy dog.": [
        464,
        2068,
        7586,
        21831,
        18045,
        625,
        262,
        16931,
        3290,
        13,
    ],
    "Once upon a time": [7454, 2402, 257, 640],
    "": [],
    " ": [220],
    "\n": [198],
    "\n\n": [628],
    "a\tb": [64, 197, 65],
}
"""Ids as they have been printed many times: the first three in the documentation of `transformers` and
`tiktoken`."""


def test_what_is_known_of_it(gpt2: BPE) -> None:
    assert (gpt2.vocab_size, len(gpt2.merges), gpt2.special) == (50257, 50000, {END: 50256})
    for text, ids in KNOWN.items():
        assert gpt2.encode(text).tolist() == ids, text
    assert gpt2.tokens[262] == b" the"
    assert gpt2.encode(f"a{END}", "all").tolist() == [64, 50256]
    assert 50256 not in gpt2.encode(f"a{END}")


# -- strings of all kinds --------------------------------------------------------------------------

KINDS = {
    "white space": " \t\n\r\x0b\x0c\x85\xa0\u2003\u2028\u3000a",
    "contractions": [
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "’s",
        "don",
        "it",
        " ",
        "'",
        "''",
        "1",
    ],
    "digits": "0123456789,. ²½Ⅷ٣९",
    "emoji": ["😀", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "1️⃣", " ", "ok"],
    "scripts": "aéßñ 中文字かなカナ한국어русскийعربيעבריתहिन्दीไทย",
    "marks": "e\u0301a\u0308\u200d\u200b\ufeff\u0000\u001c\u001f\u007f ",
    "punctuation": "!?.,;:-–—_()[]{}<>@#$%^&*+=/\\|~`\"' a1",
    "code": [
        "def ",
        "    ",
        "\n",
        "return",
        "x",
        " = ",
        "[i]",
        "()",
        "# ",
        "\t",
        "self.",
        "0x1F",
        "__init__",
    ],
    "words": ["the", " the", "The", " quick", "ing", " of", " antidisestablishmentarianism", "zzzq", " "],
}


def character(rng: random.Random) -> str:
    """Any that all versions of Unicode's tables in use know."""
    while True:
        char = chr(rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x110000)]))
        if unicodedata.category(char) not in ("Cn", "Cs"):
            return char


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """10,000 strings: of each kind, of two of them mixed, of any characters, and long runs of one."""
    rng = random.Random(0)
    found = list(KNOWN)
    for _ in range(10_000):
        kinds = [rng.choice(list(KINDS.values())) for _ in range(rng.choice([1, 1, 2]))]
        length, wild = rng.randrange(30), rng.random() < 0.15
        found.append(
            "".join(character(rng) if wild else rng.choice(rng.choice(kinds)) for _ in range(length))
        )
    found += [char * n for char in " \na1é😀'" for n in (2, 3, 7, 16, 33, 300)]
    return found


def test_every_string_comes_back(gpt2: BPE, texts: list[str]) -> None:
    for text in texts:
        ids = gpt2.encode(text)
        assert gpt2.decode(ids) == text
        assert "".join(gpt2.decode_stream(ids)) == text


def test_every_token_is_its_bytes_and_its_bytes_are_it(gpt2: BPE) -> None:
    """In text that is one word, the merges find each token again: but for those that no word can hold."""
    assert len(set(gpt2.tokens)) == 50257
    rng, found = np.random.default_rng(0), 0
    for i in rng.choice(50256, 3000, replace=False):
        text = gpt2.tokens[i].decode(errors="replace")
        if "\ufffd" not in text:
            assert gpt2.decode(gpt2.encode(text)) == text
            found += gpt2.encode(text).tolist() == [i]
    assert found > 2900


def test_written_and_read_again(gpt2: BPE, tmp_path: Path) -> None:
    assert FOLDER is not None
    gpt2.save(tmp_path)
    assert (tmp_path / "merges.txt").read_text("utf-8").split() == (FOLDER / "merges.txt").read_text(
        "utf-8"
    ).split()
    again = BPE.load(tmp_path, special=[END])
    assert (again.tokens, again.special) == (gpt2.tokens, gpt2.special)
    assert list(again.merges.items()) == list(gpt2.merges.items())


# -- parity ----------------------------------------------------------------------------------------


def test_parity_with_tokenizers(gpt2: BPE, texts: list[str]) -> None:
    tokenizers: Any = pytest.importorskip("tokenizers")
    assert FOLDER is not None
    files = [str(FOLDER / name) for name in ("vocab.json", "merges.txt")]
    other = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    other.decoder = tokenizers.decoders.ByteLevel()
    for text in texts:
        ids = gpt2.encode(text).tolist()
        assert ids == other.encode(text).ids, repr(text[:80])
        assert gpt2.decode(ids) == other.decode(ids)
    other.add_special_tokens([END])
    text = f"one{END} two {END}{END}"
    assert gpt2.encode(text, "all").tolist() == other.encode(text).ids


def test_parity_with_tiktoken(gpt2: BPE, texts: list[str]) -> None:
    tiktoken: Any = pytest.importorskip("tiktoken")
    other = tiktoken.Encoding(
        "gpt2 from its files",
        pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
        mergeable_ranks={token: i for i, token in enumerate(gpt2.tokens) if i != gpt2.special[END]},
        special_tokens=gpt2.special,
    )
    for text in texts:
        assert gpt2.encode(text).tolist() == other.encode_ordinary(text), repr(text[:80])
    text = f"one{END} two {END}{END}"
    assert gpt2.encode(text, "all").tolist() == other.encode(text, allowed_special="all")

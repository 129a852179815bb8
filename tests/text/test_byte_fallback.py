"""BPE on characters with bytes for the others: by hand, beside the plain way to merge, and the ids of
`tokenizers`: on a vocabulary made here and, where TINYGEN_DATA has one, on a published vocabulary."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_texts import published, random_texts

from tinygen.data import load_text
from tinygen.storage.files import CheckpointError
from tinygen.text import load_tokenizer
from tinygen.text.byte_fallback import SPACE, ByteFallbackBPE
from tinygen.text.merges import learn_merges, merge

PUBLISHED = published("llama2", "tokenizer.json")


def described() -> dict[str, Any]:
    """A small vocabulary: <unk>, <s>, </s>, the bytes, characters, and merges learned from English."""
    text = load_text("topics")[:20_000]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted({*text.replace(" ", SPACE)} - {"\n"})
    vocab = {name: i for i, name in enumerate(names)}
    words: dict[bytes, int] = {}
    for word in text.replace("\n", " ").split(" "):
        if word.isascii():
            words[word.encode()] = words.get(word.encode(), 0) + 1
    spelled = [bytes([byte]) for byte in range(256)]
    merges = []
    for left, right in learn_merges(words, 200):
        spelled.append(spelled[left] + spelled[right])
        merges.append((spelled[left].decode(), spelled[right].decode()))
    merges += [(SPACE, SPACE), (SPACE, "t"), (SPACE, "the"), (SPACE + SPACE, SPACE + SPACE)]
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    merges = [pair for pair in merges if all(name in vocab for name in pair)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **plain} for i, name in enumerate(names[:3])],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                strip,
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory: Any) -> Path:
    file = tmp_path_factory.mktemp("llama2") / "tokenizer.json"
    file.write_text(json.dumps(described()))
    return file


@pytest.fixture(scope="module")
def ours(path: Path) -> ByteFallbackBPE:
    found = load_tokenizer(path)
    assert isinstance(found, ByteFallbackBPE)
    return found


def tiny(**merges: str) -> ByteFallbackBPE:
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for name in (SPACE, *"abc", *merges):
        vocab.setdefault(name, len(vocab))
    pairs = {(vocab[left], vocab[name.removeprefix(left)]): vocab[name] for name, left in merges.items()}
    return ByteFallbackBPE(vocab, pairs, {})


def test_by_hand() -> None:
    found = tiny(bc="b", ab="a")
    names = {name: 256 + i for i, name in enumerate((SPACE, "a", "b", "c", "bc", "ab"))}
    assert found.encode("abc").tolist() == [names[SPACE], names["a"], names["bc"]]  # bc was learned first
    assert found.encode("ab ab").tolist() == [names[SPACE], names["ab"], names[SPACE], names["ab"]]
    assert found.encode("é").tolist() == [names[SPACE], 0xC3, 0xA9]  # no character of the vocabulary: bytes
    assert found.encode("e\u0301").tolist() == [names[SPACE], ord("e"), 0xCC, 0x81]  # stays two characters
    assert found.encode("a\0").tolist() == [names[SPACE], names["a"], 0]  # the byte 00 has the id 0 here
    assert found.encode("").tolist() == []
    assert found.decode([names[SPACE], names["a"], 0xC3, 0xA9]) == "aé"
    assert found.decode([names["a"], 0xC3]) == "a\ufffd"


def test_equal_pairs_merge_from_the_left() -> None:
    names = {"aa": 260}
    assert tiny(aa="a").encode("aaa").tolist() == [256, names["aa"], 257]


def test_a_pair_that_was_waiting_when_its_left_token_became_the_last() -> None:
    """(a, b) waits while b joins c, and a joins that: then nothing is right of a."""
    names = {"bc": 260, "abc": 261, "ab": 262}
    assert tiny(bc="b", abc="a", ab="a").encode("abc").tolist() == [256, names["abc"]]


def test_every_byte_is_decoded_as_that_byte() -> None:
    """Also those that are in no text in UTF-8, such as FF."""
    found = tiny()
    for byte in range(256):
        assert found.decode([byte, 257]) == (bytes([byte]) + b"a").decode(errors="replace").removeprefix(" ")


def plainly(tokenizer: ByteFallbackBPE, text: str) -> list[int]:
    """Look through all pairs each time."""
    characters = {t.decode(): i for i, t in enumerate(tokenizer.tokens) if i >= 259 and len(t.decode()) == 1}
    ids: list[int] = []
    for char in f" {text}" if text else "":
        ids += [characters[char]] if char in characters else [3 + byte for byte in char.encode()]
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    while pairs := [pair for pair in pairwise(ids) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        ids = merge(ids, best, tokenizer.merges[best])
    return ids


@given(text=st.text(st.sampled_from("the aoni\né中  s"), max_size=30))
def test_the_heap_merges_as_the_plain_way(ours: ByteFallbackBPE, text: str) -> None:
    ids = ours.encode(text).tolist()
    assert ids == plainly(ours, text)
    assert ours.decode(ids) == text
    assert "".join(ours.decode_stream(ids)) == text


def test_what_it_cannot_be(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds all 256 bytes; 256 are missing: <0x00>"):
        ByteFallbackBPE({"a": 0}, {}, {})
    with pytest.raises(ValueError, match="byte-level BPE, and this is another kind"):
        load_tokenizer(path).save(tmp_path)
    changes: list[tuple[str, Any, str]] = [
        ("pre_tokenizer", {"type": "Metaspace"}, "the field pre_tokenizer: expected None"),
        ("normalizer", None, "the field normalizer: expected the steps Prepend and Replace"),
        ("normalizer", {"type": "NFC"}, "the field normalizer: expected the steps Prepend and Replace"),
    ]
    for field, value, message in changes:
        (tmp_path / "tokenizer.json").write_text(json.dumps(described() | {field: value}))
        with pytest.raises(CheckpointError, match=message):
            load_tokenizer(tmp_path / "tokenizer.json")


# -- parity ----------------------------------------------------------------------------------------


PIECES = " \n\t\r'sté中😀1.aeiou the and  ▁"


def require_same(path: Path, texts: list[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ours, other = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in [*texts, "a</s>b<s> c <unk>", "", " ", " a", "  a"]:
        ids = ours.encode(text, "all").tolist()
        assert ids == other.encode(text, add_special_tokens=False).ids, repr(text[:80])
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False)


def test_parity_with_tokenizers(path: Path) -> None:
    require_same(path, [*random_texts(10_000, PIECES), load_text("topics")[:30_000]])


@pytest.mark.skipif(PUBLISHED is None, reason="TINYGEN_DATA names no folder with such a tokenizer.json")
def test_parity_on_a_published_vocabulary() -> None:
    assert PUBLISHED is not None
    ours = load_tokenizer(PUBLISHED)
    assert (ours.vocab_size, ours.special) == (32000, {"<unk>": 0, "<s>": 1, "</s>": 2})
    require_same(PUBLISHED, [*random_texts(10_000, PIECES), load_text("topics")[:100_000]])

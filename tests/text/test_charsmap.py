"""SentencePiece's table of characters: by hand, damaged tables, and the texts and ids of `tokenizers` with a
table made here and with the one that `sentencepiece` gives T5."""

import base64
import io
import json
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_texts import random_texts

from tinygen.data import load_text
from tinygen.storage.files import CheckpointError
from tinygen.text import charsmap, load_tokenizer
from tinygen.text.charsmap import LIMIT, apply_rules, clusters, read_rules

RULES = {
    "½": "1⁄2",
    "ﬁ": "fi",
    "e\u0301": "é",
    "\x01": "",
    "\r": " ",
    "\n": " ",
    "²": "2",
    "𝐚": "a",
    "中": "in",
}
RULES |= {"\u0600": "n°", "A\u0301": "Á", "A\u0301\u0308": "never: a shorter beginning is there"}


def table(rules: dict[str, str], wide: bool = False) -> bytes:
    """A trie in which each node has 256 places of its own for its children. Wide offsets count in steps of
    256."""
    nodes, texts, below = [0] * 512, b"", {b"": 256}
    nodes[0] = 256 << 10
    for key, text in ((key.encode(), text.encode()) for key, text in rules.items()):
        for n in range(1, len(key) + 1):
            place = below[key[: n - 1]] ^ key[n - 1]
            if key[:n] not in below:
                below[key[:n]] = len(nodes) + (place % 256) * wide
                offset = place ^ below[key[:n]]
                nodes[place] = (offset >> 8 << 10 | 1 << 9 if wide else offset << 10) | key[n - 1]
                nodes += [0] * 256
        nodes[place] |= 1 << 8
        nodes[below[key]] = 1 << 31 | len(texts)
        texts += text + b"\0"
    trie = b"".join(node.to_bytes(4, "little") for node in nodes)
    return len(trie).to_bytes(4, "little") + trie + texts


@pytest.mark.parametrize("wide", [False, True])
def test_the_rules_of_a_table(wide: bool) -> None:
    assert read_rules(table(RULES, wide)) == RULES
    assert read_rules(table(RULES | {"abcdef": "too long"}, wide)) == RULES


def test_a_value_is_no_child() -> None:
    """In the published tables, nodes with values lie between those of other nodes' children."""
    found = bytearray(table({"a": "b"}))
    place = 4 + 4 * (256 + ord("c"))
    found[place : place + 4] = (1 << 31 | ord("c")).to_bytes(4, "little")
    assert read_rules(bytes(found)) == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("½ ﬁne", "1⁄2 fine"),
        ("e\u0301", "é"),
        ("ﬁ\u0301ne", "fine"),  # the cluster becomes what its beginning becomes: the accent is lost
        ("A\u0301\u0308", "Á"),
        ("e\u0301" + "\u0301" * 2, "e\u0301\u0301\u0301"),  # 7 bytes: character by character
        ("a\r\nb", "a b"),  # one cluster
        ("a\n\rb", "a  b"),
        ("\x01a\x01", "a"),
        ("\x01\u0301", "\u0301"),  # nothing extends a control character
        ("²\u102b", "2\u102b"),  # a vowel sign that is a cluster of its own
        ("²\u0903", "2"),  # one that is not
        ("²\u200d", "2"),
        ("\u0600²", "n°"),  # a sign before numbers, and its number
        ("\u0600\n", "n° "),
        ("𝐚中", "ain"),
        ("", ""),
    ],
)
def test_by_hand(text: str, expected: str) -> None:
    assert apply_rules(RULES, text) == expected


@given(st.text())
def test_clusters_joined_are_the_text(text: str) -> None:
    assert "".join(clusters(text)) == text
    assert apply_rules({}, text) == text


# -- damaged tables --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"", "the table has 0 bytes"),
        (table(RULES)[:2000], "the table has 2000 bytes, and a trie of"),
        (b"\x03\0\0\0abc", "and a trie of 3"),
        (b"\x06\0\0\0abcdef", "and a trie of 6"),
        (b"\x08\0\0\0abcd", "the table has 8 bytes, and a trie of 8"),
        (table(RULES) + bytes(LIMIT), "bytes, and a trie of"),
        (table({"a": "b"})[:-1], "subsection not found"),
        ((4).to_bytes(4, "little") + bytes(4) + b"a\0", "the trie has 1 nodes, and a child at 255"),
        ((1020).to_bytes(4, "little") + bytes(1020), "the trie has 255 nodes, and a child at 255"),
        (table({"a": "b"}).replace(b"b\0", b"\xff\0"), "can't decode"),
    ],
)
def test_damaged_tables(damaged: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rules(damaged)


def test_a_trie_with_circles() -> None:
    """Every node leads to the block it is in: 255 ** 5 ways."""
    nodes = b"".join((c | c << 10).to_bytes(4, "little") for c in range(256))  # place ^ offset = 0
    with pytest.raises(ValueError, match="256 nodes, and more ways through them"):
        read_rules(len(nodes).to_bytes(4, "little") + nodes + b"a\0")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_what_a_stranger_writes_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    found = bytearray(table({"a": "b", "é": "e"}))
    for place, value in changes:
        found[place % len(found)] = value
    try:
        rules = read_rules(bytes(found))
    except ValueError:
        return
    assert len(rules) <= len(found)


# -- the tokenizer of T5 ---------------------------------------------------------------------------

NAMES = ["<pad>", "</s>", "<unk>"]


def t5(charsmap: bytes, pieces: list[str]) -> dict[str, Any]:
    """A tokenizer.json as the published ones of T5."""
    added = [{"id": i, "content": name, "special": True, "normalized": False} for i, name in enumerate(NAMES)]
    last = len(NAMES) + len(pieces)
    added += [{"id": last, "content": "<extra_id_0>", "special": True, "normalized": False}]
    added = [token | dict.fromkeys(("single_word", "lstrip", "rstrip"), False) for token in added]
    marks = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "always"}
    scores = [[name, 0.0] for name in NAMES] + [[piece, -3.0 - len(piece) / 9] for piece in pieces]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marks]},
        "post_processor": None,
        "decoder": marks,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [*scores, ["<extra_id_0>", 0.0]]},
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder / "tokenizer.json"


def test_the_tokenizer_of_t5(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write(tmp_path, t5(table(RULES), ["▁", "▁fi", "ne", "é", "1", "⁄", "2"])))
    found = [tokenizer.pieces[i] for i in tokenizer.encode("ﬁne\t\n½ e\u0301<extra_id_0>ne", "all")]
    assert found == ["▁fi", "ne", "▁", "1", "⁄", "2", "▁", "é", "<extra_id_0>", "▁", "ne"]
    assert tokenizer.decode(tokenizer.encode(" ﬁne  ½")) == "fine 1⁄2"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}, r"normalizers\[0\]\.type"),
        (
            ("normalizer", "precompiled_charsmap"),
            "*",
            r"precompiled_charsmap: expected a table of characters",
        ),
        (
            ("normalizer", "precompiled_charsmap"),
            base64.b64encode(table(RULES)).decode() + "*",
            r"precompiled_charsmap: expected a table of characters",
        ),
        (
            ("normalizer", "precompiled_charsmap"),
            None,
            r"precompiled_charsmap: expected a table of characters",
        ),
        (("normalizer", "more"), 1, r"normalizer\.more: expected no such field"),
        (("pre_tokenizer",), None, "pre_tokenizer: expected an object"),
        (("pre_tokenizer", "pretokenizers", 0), {"type": "Whitespace"}, "expected 'WhitespaceSplit'"),
        (("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), False, "expected True or None"),
        (("added_tokens", 1, "lstrip"), True, r"added_tokens\[1\]\.lstrip: expected False or None"),
        (("added_tokens", 1, "normalized"), True, r"added_tokens\[1\]\.normalized: expected False or None"),
    ],
)
def test_what_is_not_equal_is_refused(tmp_path: Path, place: Any, value: Any, message: str) -> None:
    content = t5(table(RULES), ["▁"])
    *outer, last = place
    inner: Any = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(write(tmp_path, content))


def test_two_tables(tmp_path: Path) -> None:
    content = t5(table(RULES), ["▁"])
    content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"]] * 2}
    with pytest.raises(CheckpointError, match="normalizer: expected none, or one step Precompiled"):
        load_tokenizer(write(tmp_path, content))


# -- parity ----------------------------------------------------------------------------------------

PIECES = [
    *" \n\t\r½²①ﬁ中ｶﾞé\u0301\u0308\u200d\u0600ae\u3000\x01…™▁",
    "the ",
    "<extra_id_0>",
    "</s>",
    "<unk>",
    "ﬀ\u0301",
]


def published_table() -> bytes:
    """The table `nmt_nfkc`, which T5 has, out of a model that sentencepiece trains."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(load_text("topics")[:5000].split("\n")),
        model_writer=model,
        vocab_size=80,
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    fields = pytest.importorskip("sentencepiece.sentencepiece_model_pb2").ModelProto()
    fields.ParseFromString(model.getvalue())
    return bytes(fields.normalizer_spec.precompiled_charsmap)


@pytest.mark.parametrize("kind", ["small", "wide", "published"])
def test_parity_with_tokenizers(tmp_path: Path, kind: str) -> None:
    """The changed texts, and the ids: of 10,000 random strings, and of English."""
    tokenizers = pytest.importorskip("tokenizers")
    charsmap = published_table() if kind == "published" else table(RULES, kind == "wide")
    rules, theirs = read_rules(charsmap), tokenizers.normalizers.Precompiled(charsmap)
    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz1⁄2éｶガ.", "▁the", "fi", "▁a", "ff", "in", "er", "TM"]
    path = write(tmp_path, t5(charsmap, pieces))
    ours, other = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in [*random_texts(10_000, PIECES), load_text("topics")[:30_000]]:
        assert apply_rules(rules, text) == theirs.normalize_str(text), repr(text[:80])
        wanted = other.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, "all").tolist() == wanted, repr(text[:80])


def test_every_character_with_the_published_table() -> None:
    """Alone, and behind a character that the table changes: which characters make a cluster with it."""
    tokenizers = pytest.importorskip("tokenizers")
    charsmap = published_table()
    rules, theirs = read_rules(charsmap), tokenizers.normalizers.Precompiled(charsmap)
    assert len(rules) > 5000
    codes = (*range(0x20, 0x20000), *range(0xE0000, 0xE0200))
    known = [c for c in map(chr, codes) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    for text in ("x".join(known), "x²".join(known)):
        assert apply_rules(rules, text) == theirs.normalize_str(text)


@pytest.mark.parametrize(
    ("characters", "digest"),
    [(charsmap.MORE, 0x1B1FEF39), (charsmap.SPACING, 0x17A711C5), (charsmap.PREPENDED, 0xB80EDD6F)],
)
def test_the_tables_of_clusters_are_those_that_were_compared(characters: Any, digest: int) -> None:
    """The parity tests above compare what they do with `tokenizers`; here no other library is needed."""
    assert zlib.crc32(str(sorted(characters)).encode()) == digest

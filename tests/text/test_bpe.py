"""Byte-pair encoding: the textbook example, a naive trainer, and the ids of two other libraries."""

import errno
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from foreign_files import JSON
from hypothesis import given, settings
from hypothesis import strategies as st
from random_texts import random_texts

from tinygen.data import DataError, load_text
from tinygen.storage.files import CheckpointError
from tinygen.text.bpe import BPE, Pair, learn_merges, merge, spell
from tinygen.text.tokenizers import pretokenize

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def english() -> BPE:
    return BPE.train(load_text("topics")[:200_000], 1000, special=[END])


# -- exact -----------------------------------------------------------------------------------------


def test_the_example_of_wikipedia() -> None:
    tokenizer = BPE.train("aaabdaaabac", 256 + 3)
    assert tokenizer.tokens[256:] == [b"aa", b"ab", b"aaab"]
    assert tokenizer.encode("aaabdaaabac").tolist() == [258, 100, 258, 97, 99]


def test_merging_goes_from_the_left_without_overlap() -> None:
    assert merge([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]


def test_the_most_frequent_pair_goes_first_and_the_smaller_ids_among_equals() -> None:
    assert list(learn_merges(Counter({b"yz": 1, b"ab": 2}), 2)) == [(97, 98), (121, 122)]
    assert list(learn_merges(Counter({b"yz": 1, b"ac": 1, b"ab": 1}), 3)) == [
        (97, 98),
        (97, 99),
        (121, 122),
    ]


def naive_merges(words: Counter[bytes], n_merges: int) -> dict[Pair, int]:
    """The definition: count everything anew at each step."""
    spelled = [(list(word), times) for word, times in words.items()]
    merges: dict[Pair, int] = {}
    while len(merges) < n_merges:
        counts: Counter[Pair] = Counter()
        for ids, times in spelled:
            for pair in pairwise(ids):
                counts[pair] += times
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = 256 + len(merges)
        spelled = [(merge(ids, best, merges[best]), times) for ids, times in spelled]
    return merges


few_letters = st.text(alphabet="ab c", max_size=60)  # so that pairs overlap, repeat and tie


@settings(max_examples=300)
@given(st.one_of(few_letters, st.text(max_size=60)), st.integers(0, 40))
def test_counting_by_differences_learns_what_counting_anew_learns(text: str, n: int) -> None:
    words = Counter(word.encode() for word in pretokenize(text))
    assert list(learn_merges(words, n).items()) == list(naive_merges(words, n).items())


def test_both_trainers_agree_on_english() -> None:
    words = Counter(word.encode() for word in pretokenize(load_text("topics")[:20_000]))
    assert learn_merges(words, 300) == naive_merges(words, 300)


def test_training_stops_when_every_word_is_one_token() -> None:
    tokenizer = BPE.train("abab abab", 1000, special=[END])
    assert tokenizer.tokens[256:] == [b"ab", b"abab", b" abab", END.encode()]
    assert tokenizer.vocab_size == 260


@given(few_letters, few_letters)
def test_encoding_applies_the_merges_in_the_order_they_were_learned(train: str, text: str) -> None:
    tokenizer = BPE.train(train, 290)
    expected = []
    for word in pretokenize(text):
        ids = list(word.encode())
        for pair, new_id in tokenizer.merges.items():
            ids = merge(ids, pair, new_id)
        expected += ids
    assert tokenizer.encode(text).tolist() == expected


@given(few_letters)
def test_no_two_tokens_have_the_same_bytes(text: str) -> None:
    tokens = BPE.train(text, 400).tokens
    assert len(set(tokens)) == len(tokens)


# -- round trips -----------------------------------------------------------------------------------


@given(st.text())
def test_any_text_comes_back(english: BPE, text: str) -> None:
    assert english.decode(english.encode(text)) == text


def test_english_comes_back_and_shrinks(english: BPE) -> None:
    text = load_text("topics")
    ids = english.encode(text)
    assert english.decode(ids) == text
    assert len(ids) < len(text) / 2


def test_half_a_character_is_decoded_as_a_replacement(english: BPE) -> None:
    ids = [*"é".encode()]  # bytes are their own ids after training
    assert english.decode(ids) == "é"
    assert english.decode(ids[:1]) == "\ufffd"


def test_a_stream_holds_half_a_character_back(english: BPE) -> None:
    ids = [*b"a", *"é".encode(), *"😀".encode(), *b"b"]
    assert list(english.decode_stream(ids)) == ["a", "é", "😀", "b"]
    assert list(english.decode_stream("é".encode()[:1])) == ["\ufffd"]
    assert list(english.decode_stream([*"é".encode()[:1], *b"a"])) == ["\ufffda"]
    assert list(english.decode_stream([])) == []


@given(st.lists(st.integers(0, 999)))
def test_a_stream_says_what_decode_says(english: BPE, ids: list[int]) -> None:
    assert "".join(english.decode_stream(ids)) == english.decode(ids)


def test_a_stream_comes_token_by_token(english: BPE) -> None:
    taken = []

    def source() -> Iterator[int]:
        for i in english.encode("one two three"):
            taken.append(i)
            yield int(i)

    pieces = english.decode_stream(source())
    assert taken == []
    assert next(pieces) == english.decode(taken)
    assert len(taken) == 1


# -- special tokens --------------------------------------------------------------------------------


def test_special_tokens_come_last_and_only_when_allowed(english: BPE) -> None:
    end = english.special[END]
    assert end == english.vocab_size - 1 == 999
    text = f"one{END}two"
    assert end not in english.encode(text)
    expected = [*english.encode("one"), end, *english.encode("two")]
    assert english.encode(text, allowed_special=[END]).tolist() == expected
    assert english.encode(text, allowed_special="all").tolist() == expected
    assert english.decode(expected) == english.decode(english.encode(text)) == text


def test_the_longest_special_token_wins() -> None:
    tokenizer = BPE.train("", 258, special=["<a>", "<a>b"])
    assert tokenizer.encode("<a>b<a>", allowed_special="all").tolist() == [257, 256]
    assert tokenizer.encode("<a>b", allowed_special=["<a>"]).tolist() == [256, ord("b")]


def test_a_special_token_may_look_like_a_byte() -> None:
    tokenizer = BPE.train("", 257, special=["a"])
    assert tokenizer.encode("a").tolist() == [97]
    assert tokenizer.encode("a", allowed_special="all").tolist() == [256]


# -- errors ----------------------------------------------------------------------------------------


def test_a_special_token_must_be_known(english: BPE) -> None:
    with pytest.raises(ValueError, match=r"\['<pad>'\] are no special tokens .*endoftext"):
        english.encode("x", allowed_special=["<pad>"])


def test_a_special_token_is_no_half_of_a_character() -> None:
    with pytest.raises(ValueError, match=r"lone surrogate, U\+D800, at position 1"):
        BPE.train("abc", 300, special=["x\ud800"])


@pytest.mark.parametrize("special", [END, ["x", "x"], [""]])
def test_special_tokens_must_be_a_list_of_different_texts(special: Any) -> None:
    with pytest.raises(ValueError, match="different strings"):
        BPE.train("abc", 300, special=special)


def test_a_lone_surrogate_is_named_with_its_place(english: BPE) -> None:
    with pytest.raises(ValueError, match=r"lone surrogate, U\+D800, at position 2"):
        english.encode("ab\ud800")
    with pytest.raises(ValueError, match=r"lone surrogate, U\+DC00, at position 0"):
        BPE.train("\udc00", 300)


def test_a_vocabulary_must_hold_the_bytes() -> None:
    with pytest.raises(ValueError, match=r"at least 257.*got 256"):
        BPE.train("abc", 256, special=[END])
    with pytest.raises(ValueError, match=r"255 are missing, the first is 0x00"):
        BPE([b"a"], {}, {})


def test_an_unknown_id_is_named(english: BPE) -> None:
    with pytest.raises(ValueError, match="token 1000 at position 1"):
        english.decode([0, 1000])
    with pytest.raises(ValueError, match="token 1000"):
        list(english.decode_stream([0, 1000]))


# -- GPT-2's files ---------------------------------------------------------------------------------


def test_files_bring_the_tokenizer_back(english: BPE, tmp_path: Path) -> None:
    english.save(tmp_path / "new")
    loaded = BPE.load(tmp_path / "new", special=[END])
    assert loaded.tokens == english.tokens
    assert list(loaded.merges.items()) == list(english.merges.items())
    assert loaded.special == english.special


def test_special_tokens_are_written_as_they_are(tmp_path: Path) -> None:
    BPE.train("", 257, special=["<la fin é>"]).save(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text("utf-8"))["<la fin é>"] == 256
    loaded = BPE.load(tmp_path, special=["<la fin é>"])
    assert loaded.decode(loaded.encode("é<la fin é>", "all")) == "é<la fin é>"


def test_the_files_are_written_as_gpt2_writes_them(tmp_path: Path) -> None:
    BPE.train("é é", 259).save(tmp_path)
    # é is the bytes C3 A9, both printable in Latin-1; a space is the 33rd byte that is not.
    assert (tmp_path / "merges.txt").read_bytes().decode() == "#version: 0.2\nÃ ©\nĠ Ã©\n"
    written = (tmp_path / "vocab.json").read_text("utf-8")
    assert '"Ġ"' in written  # and not as \\u0120: this file is read by people, too
    vocab = json.loads(written)
    assert {"!": 33, "Ā": 0, "Ġ": 32, "ÿ": 255, "Ń": 173, "Ã©": 256, "ĠÃ©": 257}.items() <= (vocab.items())
    assert len(vocab) == 258


def test_ids_are_those_of_the_file_and_a_merge_may_begin_with_a_hash(tmp_path: Path) -> None:
    names = [spell(bytes([byte])) for byte in range(256)][::-1]  # byte b is id 255 - b
    vocab = {name: i for i, name in enumerate([*names, "##", "##a"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    (tmp_path / "merges.txt").write_text("# #\n## a\n", "utf-8")  # without a version line
    tokenizer = BPE.load(tmp_path)
    assert tokenizer.encode("##b").tolist() == [256, 255 - ord("b")]
    assert tokenizer.encode("#").tolist() == [255 - ord("#")]
    assert tokenizer.decode([256, 255 - ord("b")]) == "##b"


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ({"a": 0, "b": 2}, "", r"must be 0 \.\. 1"),
        ({"a": 0, "b": True}, "", "vocab.json must hold an object"),
        ({"a": 0, "b": [1]}, "", "vocab.json must hold an object"),
        ({"a": 0, "a b": 1}, "", "'a b' in vocab.json is not written in GPT-2's byte alphabet"),
        ({"a": 0, "\u0144": 1}, "", "'\u0144' in vocab.json is not written in"),  # beside its last letter
        ({"a": 0, "b": 1}, "#version: 0.2\na b\n", "line 2 of merges.txt, 'a b'"),
        ({"a": 0, "b": 1}, "ab\n", "line 1 of merges.txt, 'ab'"),
        ({"a": 0, "aa": 1}, "a a\na a\n", "line 2 of merges.txt, 'a a', comes twice"),
        ({"a": 0, "b": 0}, "", r"must be 0 \.\. 1"),
        ({"a": 0, "b": 1}, "", "254 are missing, the first is 0x00"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, vocab: Any, merges: str, message: str) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    with pytest.raises(ValueError, match=message):
        BPE.load(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
@pytest.mark.parametrize("kind", ["none", "pipe", "folder", "device", "long", "not UTF-8", "no object"])
def test_files_that_must_not_be_read(english: BPE, tmp_path: Path, name: str, kind: str) -> None:
    """A pipe would wait for ever; a terabyte of nothing takes no place on the disk."""
    english.save(tmp_path)
    path = tmp_path / name
    if kind == "no object":
        path = tmp_path / "vocab.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "long":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "not UTF-8":
        path.write_bytes(b"\xff")
    elif kind == "no object":
        path.write_text('["a"]' if name == "vocab.json" else "[" * 100_000)
    with pytest.raises(CheckpointError, match=rf"{path.name}: (cannot be read|too long): expected") as caught:
        BPE.load(tmp_path, special=[END])
    assert "\n" not in str(caught.value)


NAMES = st.sampled_from(["!", "\u0120", "a", "x\ud800", "", END])


@given(st.dictionaries(NAMES, JSON, max_size=2), st.text())
def test_what_a_stranger_writes_is_refused_or_read(
    english: BPE, tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], line: str
) -> None:
    folder, contents = tmp_path_factory.getbasetemp() / "strange", english.files()
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(json.loads(contents["vocab.json"]) | changes))
    (folder / "merges.txt").write_bytes(contents["merges.txt"] + line.encode())
    with suppress(CheckpointError, ValueError):
        loaded = BPE.load(folder, special=[END])
        assert loaded.decode(loaded.encode(line)) == line


def test_tokens_that_were_added_later(english: BPE, tmp_path: Path) -> None:
    english.save(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 1000, "<é>": 1001}', "utf-8")
    loaded = BPE.load(tmp_path, special=[END, "<pad>", "<é>"])
    assert loaded.vocab_size == 1002
    assert loaded.encode(f"a<pad><é>{END}", "all").tolist() == [97, 1000, 1001, 999]
    assert loaded.decode([97, 1000, 1001]) == "a<pad><é>"
    for text, message in (('{"<pad>": 1001}', r"0 \.\. 1000, each once"), ('{"<pad>": "x"}', "their ids")):
        (tmp_path / "added_tokens.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            BPE.load(tmp_path, special=[END])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer_class": "CLIPTokenizer"}, "tokenizer_class: expected 'GPT2Tokenizer' or 'GPT2Tok.*CLIP"),
        ({"tokenizer_class": ["GPT2Tokenizer"]}, r"tokenizer_class: .*found \['GPT2Tokenizer'\]"),
        ({"add_prefix_space": True}, "add_prefix_space: expected False, found True"),
        ({"add_bos_token": True}, "add_bos_token: expected False, found True"),
        ({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "errors": "replace"}, None),
        ({"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": False, "model_max_length": 1}, None),
    ],
)
def test_other_tokenizers_with_such_files_are_refused(
    english: BPE, tmp_path: Path, options: dict[str, Any], message: str | None
) -> None:
    """They would give other ids, and nothing would say so."""
    english.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    if message is None:
        assert BPE.load(tmp_path, special=[END]).tokens == english.tokens
    else:
        with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: the option {message}"):
            BPE.load(tmp_path, special=[END])


def test_lines_may_end_as_windows_ends_them(english: BPE, tmp_path: Path) -> None:
    english.save(tmp_path)
    path = tmp_path / "merges.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert BPE.load(tmp_path, special=[END]).merges == english.merges


def test_files_are_whole_or_as_they_were(
    english: BPE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the disk is full; and where there can be no folder."""
    english.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(CheckpointError, match=r"cannot be written.*No space left"):
            BPE.train("abab", 257).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(CheckpointError, match=r"vocab\.json: cannot be written"):
        english.save(tmp_path / "vocab.json")


def test_a_special_token_must_be_in_the_file(english: BPE, tmp_path: Path) -> None:
    english.save(tmp_path)
    with pytest.raises(ValueError, match=r"\['<pad>'\] are not in vocab.json"):
        BPE.load(tmp_path, special=["<pad>"])


def test_two_tokens_of_one_name_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two tokens are written 'a'"):
        BPE.train("", 257, special=["a"]).save(tmp_path)


# -- parity ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """10,000 strings of all kinds, and English. Only characters known to every version."""
    strings = random_texts(10_000, " \n\t'sté中😀1.aeiou the and")
    english = [load_text("topics")]
    with (
        mock.patch("urllib.request.urlopen", side_effect=OSError("tests stay offline")),
        suppress(DataError),
    ):
        english.append(load_text("shakespeare"))
    return [*strings, *english]


def byte_level(tokenizers: Any, folder: Path) -> Any:
    """GPT-2's tokenizer in `tokenizers`, from the two files in the folder."""
    files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    other = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    other.decoder = tokenizers.decoders.ByteLevel()
    return other


def test_parity_with_tokenizers(english: BPE, texts: list[str], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    english.save(tmp_path)
    other = byte_level(tokenizers, tmp_path)
    for text in texts:
        ids = english.encode(text).tolist()
        assert ids == other.encode(text).ids, repr(text[:80])
        assert english.decode(ids) == other.decode(ids)


def test_parity_with_tokenizers_on_its_own_vocabulary(texts: list[str], tmp_path: Path) -> None:
    """Larger, and with ids in another order than training gives here."""
    tokenizers = pytest.importorskip("tokenizers")
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator([load_text("topics")], 5000, min_frequency=2, show_progress=False)
    trained.save_model(str(tmp_path))
    ours, other = BPE.load(tmp_path), byte_level(tokenizers, tmp_path)
    assert ours.vocab_size == 5000
    for text in texts:
        assert ours.encode(text).tolist() == other.encode(text).ids, repr(text[:80])


def test_parity_with_tiktoken(english: BPE, texts: list[str]) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    # tiktoken's merge order is the order of the ids, as it is here after training.
    other = tiktoken.Encoding(
        "tinygen",
        pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
        mergeable_ranks={token: i for i, token in enumerate(english.tokens[:-1])},
        special_tokens=english.special,
    )
    for text in texts:
        assert english.encode(text).tolist() == other.encode_ordinary(text), repr(text[:80])
    text = f"a{END} b{END}{END}"
    assert english.encode(text, "all").tolist() == other.encode(text, allowed_special="all")
    assert english.encode(text).tolist() == other.encode(text, disallowed_special=())

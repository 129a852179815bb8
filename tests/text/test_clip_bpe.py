"""CLIP's tokenizer: words by hand, rows for a text encoder, files, and the ids of `transformers`."""

import gzip
import json

import numpy as np
import pytest
from random_texts import published, random_texts
from sd_folders import MERGES, vocabulary, write_tokenizer

from tinygen.storage.files import CheckpointError
from tinygen.text.bpe import BYTES, LETTERS
from tinygen.text.clip_bpe import BEGIN, END, LAST, WORDS, CLIPTokenizer

VOCAB, _ = vocabulary()
PUBLISHED = published("clip", "bpe_simple_vocab_16e6.txt.gz")
PIECES = " \n\tSTé中😀1.aeiou the And  ΣİSs'll 'S! red"


def made(**given):
    return CLIPTokenizer(VOCAB, MERGES, **given)


def names(text):
    back = {i: name for name, i in VOCAB.items()}
    return [back[i] for i in made().encode(text).tolist()]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a red cat", ["a</w>", "red</w>", "cat</w>"]),
        ("A ReD\n\n  CAT", ["a</w>", "red</w>", "cat</w>"]),
        ("cats", ["ca", "t", "s</w>"]),  # no merge makes the cat of one word in another
        ("bobcat", ["b", "o", "b", "cat</w>"]),
        ("the1red2", ["the</w>", "1</w>", "red</w>", "2</w>"]),
        ("it's", ["i", "t</w>", "'", "s</w>"]),
        ("!?", ["!", "?</w>"]),
        ("é", ["Ã", "©</w>"]),
        ("e\u0301", ["Ã", "©</w>"]),
        ("ΑΣ", [*(LETTERS[byte] for byte in "ασ".encode()[:3]), LETTERS["σ".encode()[1]] + LAST]),
        ("", []),
        (f"a{END}red", ["a</w>", END, "red</w>"]),
    ],
)
def test_words(text, wanted):
    assert names(text) == wanted


def test_decode_separates_words():
    tokenizer = made()
    assert tokenizer.decode(tokenizer.encode("The RED  cat, it's 12 中!")) == "the red cat , it 's 1 2 中 !"
    assert tokenizer.vocab_size == 520
    with pytest.raises(ValueError, match=r"token 520 at position 1 is outside the vocabulary"):
        tokenizer.decode([3, 520])


@pytest.mark.parametrize("pad", [END, "!"])
def test_rows(pad):
    rows = made(pad=pad, length=6).prompt_ids(["a red cat", "the"])
    begin, end, fill = VOCAB[BEGIN], VOCAB[END], VOCAB[pad]
    a, red, cat, the = (VOCAB[name + LAST] for name in ("a", "red", "cat", "the"))
    np.testing.assert_array_equal(rows, [[begin, a, red, cat, end, fill], [begin, the, end, *[fill] * 3]])


def test_what_does_not_fit_is_cut_with_a_warning():
    with pytest.warns(
        UserWarning, match=r"has 6 tokens, and 4 fit between begin and end. Cut off: 'the red'"
    ):
        rows = made(length=6).prompt_ids(["a red cat a the red"])
    assert rows[0].tolist() == made(length=6).prompt_ids(["a red cat a"])[0].tolist()
    with pytest.raises(TypeError, match=r"\['a'\]"):
        made().prompt_ids("a")
    with pytest.raises(ValueError, match="lone surrogate"):
        made().encode("\udcff")


def test_what_it_cannot_be():
    lost = {name: i for name, i in VOCAB.items() if name != END}
    for vocab, merges, given, message in (
        (lost, MERGES, {}, r"1 tokens are missing in the vocabulary, the first is '<\|endoftext\|>'"),
        (VOCAB | {"new": 600}, MERGES, {}, r"must be 0 \.\. 520, each once"),
        (VOCAB, [("a", "b")], {}, "the merge 'a' 'b' needs 'ab'"),
        (VOCAB, MERGES, {"pad": "<pad>"}, "the first is '<pad>'"),
        (VOCAB, MERGES, {"length": 2}, "no room for a text"),
    ):
        with pytest.raises(ValueError, match=message):
            CLIPTokenizer(vocab, merges, **given)


# -- files -----------------------------------------------------------------------------------------


DESCRIBED = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [{"type": "NFC"}, {"type": "Replace"}, {"type": "Lowercase"}],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Split", "pattern": {"Regex": WORDS}}, {"type": "ByteLevel"}],
    },
    "model": {
        "type": "BPE",
        "end_of_word_suffix": LAST,
        "vocab": VOCAB,
        "merges": [" ".join(m) for m in MERGES],
    },
}


def test_both_kinds_of_files(tmp_path):
    write_tokenizer(tmp_path)
    one = CLIPTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(DESCRIBED))
    (tmp_path / "vocab.json").unlink()
    two = CLIPTokenizer.load(tmp_path)
    for tokenizer in (one, two):
        assert (tokenizer.length, tokenizer.pad) == (77, END)
        assert tokenizer.encode("The red cats!").tolist() == made().encode("The red cats!").tolist()


def test_padding_and_length_are_options(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 9, "pad_token": END}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!"}}))
    tokenizer = CLIPTokenizer.load(tmp_path)
    assert (tokenizer.length, tokenizer.pad) == (9, "!")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{}", "vocab.json: not a vocabulary of CLIP.*tokens are missing"),
        ("vocab.json", '{"a": "b"}', "vocab.json: not a vocabulary"),
        ("vocab.json", "[", "vocab.json: cannot be read"),
        ("merges.txt", "a\n", "merges.txt: not a merge: expected two tokens, found"),
        ("merges.txt", "a b\n", "the merge 'a' 'b' needs 'ab'"),
        ("tokenizer_config.json", '{"tokenizer_class": "GPT2Tokenizer"}', "option tokenizer_class.*GPT2"),
        ("tokenizer_config.json", '{"model_max_length": 1e30}', "option model_max_length"),
        ("special_tokens_map.json", '{"pad_token": 7}', "a token for padding"),
        ("tokenizer.json", json.dumps(DESCRIBED | {"normalizer": {"type": "NFC"}}), "the field normalizer"),
        ("tokenizer.json", json.dumps(DESCRIBED | {"pre_tokenizer": None}), "the field pre_tokenizer"),
        ("tokenizer.json", json.dumps(DESCRIBED | {"model": {"type": "Unigram"}}), "the field model.type"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    write_tokenizer(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        CLIPTokenizer.load(tmp_path)


# -- parity ----------------------------------------------------------------------------------------


def require_same(folder, vocab, merges, pad):
    transformers = pytest.importorskip("transformers")
    other = transformers.CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)
    other.save_pretrained(folder)
    tokenizer = CLIPTokenizer.load(folder)
    texts = [*random_texts(2000, PIECES), "A photo of a cat!!! it's", f"{END}x", BEGIN.upper(), "", "½ ²  x"]
    for text in texts:
        assert tokenizer.encode(text).tolist() == other(text, add_special_tokens=False).input_ids, repr(text)
    rows = other(texts, padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
    np.testing.assert_array_equal(tokenizer.prompt_ids(texts), rows)


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
@pytest.mark.parametrize("pad", [END, "!"])
def test_parity_with_transformers(tmp_path, pad):
    require_same(tmp_path, VOCAB, MERGES, pad)


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
@pytest.mark.skipif(PUBLISHED is None, reason="TINYGEN_DATA names no folder with CLIP's vocabulary")
def test_the_published_vocabulary(tmp_path):
    lines = gzip.decompress(PUBLISHED.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1:48895]]
    letters = [LETTERS[byte] for byte in BYTES]
    tokens = [*letters, *(letter + LAST for letter in letters), *map("".join, merges), BEGIN, END]
    vocab = {name: i for i, name in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab, merges)
    assert tokenizer.encode("a photo of a cat").tolist() == [320, 1125, 539, 320, 2368]
    assert tokenizer.prompt_ids([""])[0, :3].tolist() == [49406, 49407, 49407]
    require_same(tmp_path, vocab, merges, "!")

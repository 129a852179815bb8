"""tokenizer.json of WordPiece and the unigram tokenizer: read as `tokenizers` reads it, or refused."""

import copy
import json
import random
from typing import Any

import numpy as np
import pytest

from tinygen.storage.files import CheckpointError
from tinygen.text import Unigram, WordPiece, load_tokenizer, train_unigram

TEXT = "the cat sat on the mat and the hat was flat a cat in a hat is that the fattest cat sat flat " * 2
COMMON: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "post_processor": None,
    "decoder": None,
}


def added(names):
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [{"id": i, "content": name, **options, "special": True} for i, name in enumerate(names)]


def wordpiece(lowercase=True):
    vocab = WordPiece.train(TEXT, 60, lowercase=lowercase).vocab
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    normalizer |= {"strip_accents": None, "lowercase": lowercase}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    model |= {"max_input_chars_per_word": 100, "vocab": vocab}
    return COMMON | {
        "added_tokens": added(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": model,
    }


def unigram():
    scores = train_unigram(TEXT, 40, ("<unk>", "</s>")).scores
    words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [[*x] for x in scores.items()]}
    return COMMON | {
        "added_tokens": added(["<unk>", "</s>"]),
        "normalizer": None,
        "pre_tokenizer": words,
        "model": model,
    }


KINDS = {"wordpiece": wordpiece, "cased": lambda: wordpiece(False), "unigram": unigram}


def written(folder, content):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_it_is_the_tokenizer_that_was_trained(tmp_path):
    found = load_tokenizer(written(tmp_path, wordpiece()))
    assert isinstance(found, WordPiece)
    trained = WordPiece.train(TEXT, 60)
    np.testing.assert_array_equal(found.encode("The flattest CAT"), trained.encode("The flattest CAT"))
    found = load_tokenizer(written(tmp_path, unigram()))
    assert isinstance(found, Unigram)
    trained = train_unigram(TEXT, 40, ("<unk>", "</s>"))
    np.testing.assert_array_equal(found.encode("the flattest x"), trained.encode("the flattest x"))


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        ("wordpiece", "normalizer.type", "NFC", "the field normalizer.type: expected 'BertNormalizer'"),
        ("wordpiece", "normalizer.strip_accents", False, "normalizer.strip_accents: expected None or True"),
        ("wordpiece", "normalizer.other", 1, "normalizer.other: expected no such field"),
        ("wordpiece", "pre_tokenizer.type", "Whitespace", "expected 'BertPreTokenizer', found 'Whitespace'"),
        ("wordpiece", "model.unk_token", None, "model.unk_token: expected a token, found None"),
        ("wordpiece", "model.unk_token", "x!", "the vocabulary has no 'x!'"),
        ("wordpiece", "model.max_input_chars_per_word", "9", "max_input_chars_per_word: expected a whole"),
        ("wordpiece", "model.continuing_subword_prefix", "@@", "expected '##', found '@@'"),
        ("wordpiece", "model.vocab", {"a": 6}, "model.vocab"),
        ("unigram", "normalizer", {"type": "NFKC"}, "normalizer.type: expected 'Precompiled', found 'NFKC'"),
        ("unigram", "normalizer", {"type": "Precompiled", "x": 1}, "precompiled_charsmap: expected a table"),
        (
            "unigram",
            "normalizer",
            {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
            "normalizer.precompiled_charsmap: expected a table of characters, in base64, found",
        ),
        (
            "unigram",
            "pre_tokenizer.prepend_scheme",
            "first",
            "prepend_scheme: expected 'always' or None, found 'first'",
        ),
        ("unigram", "pre_tokenizer.replacement", "_", "replacement: expected '▁', found '_'"),
        ("unigram", "model.byte_fallback", True, "byte_fallback: expected False or None, found True"),
        ("unigram", "model.unk_id", 99, "model.unk_id: expected the number of a token, 0 .. 30, found 99"),
        ("unigram", "model.unk_id", None, "model.unk_id: expected the number of a token"),
        ("unigram", "model.vocab", [["a", "b"]], "model.vocab: expected a list of"),
        ("unigram", "model.vocab", ["a"], "model.vocab: expected a list of"),
        ("unigram", "model.vocab", [["a", 1.0, 2]], "model.vocab: expected a list of"),
        ("unigram", "model.vocab", [["a", 1.0], ["a", 2.0]], "model.vocab: expected each token once"),
        ("unigram", "model.vocab", [["<unk>", 0.0], ["x", 0.0]], "'</s>' of added_tokens at 1"),
        ("unigram", "model.other", 1, "model.other: expected no such field"),
    ],
)
def test_what_is_not_equal_is_refused_by_its_place(tmp_path, kind, place, value, message):
    content = copy.deepcopy(KINDS[kind]())
    *outer, last = place.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(CheckpointError) as info:
        load_tokenizer(written(tmp_path, content))
    assert message in str(info.value)
    assert "tokenizer.json" in str(info.value)


@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_may_be_normalized(tmp_path, kind):
    """The reader takes them either way."""
    content = copy.deepcopy(KINDS[kind]())
    plain = load_tokenizer(written(tmp_path, content)).special
    for token in content["added_tokens"]:
        token["normalized"] = True
    assert load_tokenizer(written(tmp_path, content)).special == plain


@pytest.mark.parametrize("kind", KINDS)
def test_parity_with_tokenizers(tmp_path, kind):
    tokenizers = pytest.importorskip("tokenizers")
    path = written(tmp_path, KINDS[kind]())
    ours, theirs = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    rng = random.Random(0)
    names = ["the ", "Cat", " flat", "é", "[CLS]", "</s>", "<unk>", "  ", "ss", "中", "x", ",", "▁"]
    for _ in range(10_000):
        text = "".join(rng.choices(names, k=rng.randrange(12)))
        wanted = theirs.encode(text, add_special_tokens=False).ids
        np.testing.assert_array_equal(ours.encode(text, "all"), wanted, repr(text))

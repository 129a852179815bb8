"""Compares the tokenizer with golden ids, and the golden ids with the present results of `tokenizers`."""

import json

import pytest
from golden.tokenizer import HERE, TEXTS, made

from tinygen.text.bpe import BPE

KEPT = json.loads((HERE / "tokenizer.json").read_text())


def test_golden_ids(tmp_path):
    for name, content in KEPT["files"].items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    tokenizer = BPE.load(tmp_path)
    for text, ids in zip(TEXTS, KEPT["ids"], strict=True):
        assert tokenizer.encode(text).tolist() == ids, repr(text)
        assert tokenizer.decode(ids) == text


def test_they_are_what_the_library_says():
    pytest.importorskip("tokenizers")
    assert made() | {"source": ""} == KEPT | {"source": ""}

"""The tokenizer.json that `transformers` writes for each family is read here, and gives the same ids, special
tokens in the text included."""

import json

import pytest
from random_texts import random_texts

from tinygen.data import load_text
from tinygen.text import BPE, load_tokenizer, train_unigram
from tinygen.text.bpe import spell
from tinygen.text.wordpiece import WordPiece

TEXT = load_text("topics")[:20_000]
MARKS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_level(special):
    """The vocabulary and the merges of a byte-level BPE, in their names in the file."""
    trained = BPE.train(TEXT, 320)
    names = [*special, *(spell(token) for token in trained.tokens)]
    merges = [(spell(trained.tokens[a]), spell(trained.tokens[b])) for a, b in trained.merges]
    return {"vocab": {name: i for i, name in enumerate(names)}, "merges": merges}


def mask():
    """As in the published tokenizers."""
    tokenizers = pytest.importorskip("tokenizers")
    return {"mask_token": tokenizers.AddedToken("<mask>", lstrip=True, special=True)}


def pieces():
    scores = train_unigram(TEXT[:3000], 120, ("<pad>", "</s>", "<unk>")).scores
    return [*scores.items(), *((f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1))]


TOKENIZERS = {
    "GPT2Tokenizer": lambda: byte_level(["<|endoftext|>"]),
    "Qwen2Tokenizer": lambda: byte_level(["<|endoftext|>"]),
    "RobertaTokenizer": lambda: byte_level(MARKS) | mask(),
    "BartTokenizer": lambda: byte_level(MARKS) | mask(),
    "BertTokenizer": lambda: {"vocab": WordPiece.train(TEXT, 200).vocab},
    "T5Tokenizer": lambda: {"vocab": pieces()},
}
PIECES = [
    "<mask>",
    " <mask>",
    "</s>",
    "<s>",
    "[MASK]",
    "<extra_id_0>",
    "<|endoftext|>",
    " the",
    "It's",
    "é",
    "\n",
    " ",
]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_parity_with_transformers(transformers, tmp_path, name):
    other = getattr(transformers, name)(**TOKENIZERS[name]())
    other.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    assert ours.vocab_size == len(other)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    found = {token["content"]: token["lstrip"] for token in file["added_tokens"]}
    assert found.get("<mask>", False) == (name in ("RobertaTokenizer", "BartTokenizer"))
    for text in [*random_texts(500, PIECES), TEXT[:2000]]:
        wanted = other.encode(text, add_special_tokens=False)
        assert ours.encode(text, "all").tolist() == wanted, repr(text[:80])

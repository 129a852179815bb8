"""WordPiece: BERT's words, the longest piece first, training by likelihood, and parity with tokenizers."""

import itertools
import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_texts import published, random_texts

from tinygen.data import load_text
from tinygen.text.wordpiece import WordPiece, join, normalize, split_words

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "aff",
    "##aff",
    "##able",
    "##a",
    "##f",
    "able",
    "the",
    "##s",
    ",",
    ".",
    "中",
]
TEXT = "low low low low low lower lower newest newest newest newest newest newest widest widest widest"


def tokenizer(**more):
    return WordPiece({name: i for i, name in enumerate(VOCAB)}, **more)


def pieces(tokenizer, text, **more):
    return [tokenizer.pieces[i] for i in tokenizer.encode(text, **more)]


def test_the_longest_piece_first():
    found = tokenizer()
    assert pieces(found, "unaffable") == ["un", "##aff", "##able"]
    assert pieces(found, "unaffaf the") == ["un", "##aff", "##a", "##f", "the"]
    assert pieces(found, "unx the") == ["[UNK]", "the"]  # the whole word is unknown
    assert pieces(found, "Thes,ABLE.") == ["the", "##s", ",", "able", "."]
    assert pieces(tokenizer(lowercase=False), "The the") == ["[UNK]", "the"]
    assert pieces(tokenizer(longest=3), "able the") == ["[UNK]", "the"]
    assert found.encode("").shape == (0,)


def test_special_pieces_only_where_they_are_allowed():
    found = tokenizer()
    assert pieces(found, "[CLS] the", allowed_special="all") == ["[CLS]", "the"]
    assert pieces(found, "[CLS] the[SEP]", allowed_special=["[SEP]"])[-2:] == ["the", "[SEP]"]
    assert "[CLS]" not in pieces(found, "[CLS] the")
    with pytest.raises(ValueError, match="no special tokens"):
        found.encode("the", ["[NO]"])


def test_decoding_joins_the_pieces():
    found = tokenizer()
    assert found.decode(found.encode("unaffable ,THE")) == "unaffable , the"
    with pytest.raises(ValueError, match="outside the vocabulary"):
        found.decode([99])


@given(st.lists(st.integers(0, len(VOCAB) - 1)))
def test_a_stream_of_pieces_joined_is_the_text(ids):
    assert "".join(tokenizer().decode_stream(iter(ids))) == tokenizer().decode(ids)
    stream = tokenizer().decode_stream(tokenizer().encode("unaffable").tolist())
    assert list(stream) == ["un", "aff", "able"]
    with pytest.raises(ValueError, match="outside the vocabulary"):
        next(tokenizer().decode_stream([len(VOCAB)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Héllo\tWörld\u200b!", ["hello", "world", "!"]),
        ("a中b", ["a", "中", "b"]),
        ("$1.50+x_y", ["$", "1", ".", "50", "+", "x", "_", "y"]),
        ("«a» …", ["«", "a", "»", "…"]),
        ("ΑΣ İ", ["ας".replace("ς", "σ"), "i"]),
        ("a\U0002b91fb\U0002b920c", ["a\U0002b91fb", "\U0002b920", "c"]),  # as in `tokenizers`
    ],
)
def test_words(text, words):
    assert split_words(normalize(text, True)) == words


@pytest.mark.parametrize(
    ("first", "last"),
    [
        *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF)),
        *((0x2A700, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
    ],
)
def test_the_first_and_the_last_of_a_block_of_chinese_characters(first, last):
    words = lambda code: len(split_words(normalize(f"a{chr(code)}b", False)))
    assert [words(code) for code in (first - 1, first, last, last + 1)] == [1, 3, 3, 1]


def test_without_lowercase_accents_stay():
    assert split_words(normalize("Héllo, W", False)) == ["Héllo", ",", "W"]


def test_a_vocabulary_that_does_not_fit():
    with pytest.raises(ValueError, match="no '\\[UNK\\]'"):
        WordPiece({"a": 0}, special=["[CLS]"])
    with pytest.raises(ValueError, match=r"the ids must be 0 \.\. 1"):
        WordPiece({"[UNK]": 0, "a": 2}, special=())
    with pytest.raises(ValueError, match="surrogate"):
        tokenizer().encode("\ud800")


# -- training ----------------------------------------------------------------------------------------


def test_training_joins_the_pair_with_the_most_likelihood():
    """One step by brute force: of all pairs, the one with the highest count(ab) / (count(a) count(b))."""
    spelled = {word: [word[0], *(f"##{c}" for c in word[1:])] for word in TEXT.split()}
    times = Counter(TEXT.split())
    start = len({p for ps in spelled.values() for p in ps}) + 1
    count = Counter(p for word, ps in spelled.items() for p in ps * times[word])
    pairs = Counter(pair for word, ps in spelled.items() for pair in [*itertools.pairwise(ps)] * times[word])
    score = {pair: n / (count[pair[0]] * count[pair[1]]) for pair, n in pairs.items()}
    best = max(score.values())
    winners = sorted(a + b.removeprefix("##") for (a, b), x in score.items() if x == best)
    found = WordPiece.train(TEXT, start + 1, special=["[UNK]"])
    assert found.pieces[0] == "[UNK]"
    assert found.pieces[1:start] == sorted({p for ps in spelled.values() for p in ps})
    assert found.pieces[start] in winners
    assert WordPiece.train(TEXT, start, special=["[UNK]"]).pieces == found.pieces[:start]
    with pytest.raises(ValueError, match=f"the characters alone need {start}"):
        WordPiece.train(TEXT, start - 1, special=["[UNK]"])


def test_what_training_returns_reads_its_text():
    found = WordPiece.train(TEXT, 60)
    assert "[UNK]" not in pieces(found, TEXT)
    assert found.decode(found.encode(TEXT)) == TEXT
    assert found.vocab_size < 60  # each word is one piece before that
    assert {"low", "lower", "newest", "widest"} <= set(found.pieces)
    with pytest.raises(ValueError, match="the characters alone need"):
        WordPiece.train(TEXT, 5)
    assert join(["a", "##b", "##b", "##b"], ("##b", "##b"), "##bb") == ["a", "##bb", "##b"]


# -- parity ------------------------------------------------------------------------------------------


ALPHABETS = [
    "abc the cat's, UN-affable ",
    "éàüñ Σσς İ中文字\U0002b81f\U0002b820\U0002b91f\U0002b920 \t\n",
    "$+<=>^`|~[]{} .!?«»…",
    "\u200b\u00ad\x00\x1fa b",
]


def real_vocabulary():
    path = published("bert", "vocab.json")
    if path is None:
        return None
    found = json.loads(path.read_text())
    return [x.removeprefix("▁") if x.startswith(("▁", "[")) else f"##{x}" for x in found]


@pytest.mark.parametrize("lowercase", [True, False])
def test_parity_with_tokenizers(lowercase):
    theirs = pytest.importorskip("tokenizers")
    older = unicodedata.ucd_3_2_0  # the tables of `tokenizers` are older than Python's
    texts = [text for alphabet in ALPHABETS for text in random_texts(2500, alphabet + "ab ", tables=older)]
    names = real_vocabulary() or WordPiece.train(" ".join(texts[:300]), 2000, lowercase=lowercase).pieces
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    special = [name for name in ("[CLS]", "[SEP]") if name in vocab]
    ours = WordPiece(vocab, special, lowercase)
    model = theirs.Tokenizer(theirs.models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    model.normalizer = theirs.normalizers.BertNormalizer(lowercase=lowercase)
    model.pre_tokenizer = theirs.pre_tokenizers.BertPreTokenizer()
    for text in [*texts, "x" * 101, load_text("topics")[:30_000]]:
        np.testing.assert_array_equal(
            ours.encode(text), model.encode(text, add_special_tokens=False).ids, repr(text)
        )

"""tokenizer.json: words by hand, a vocabulary made here, what is refused, and the ids of `tokenizers`."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_texts import random_texts

from tinygen.data import load_text
from tinygen.storage.files import CheckpointError
from tinygen.text import BPE, load_tokenizer, pretokenize
from tinygen.text.bpe import spell
from tinygen.text.patterns import DIGITS, GPT2, LLAMA3, QWEN, compile_pattern, cut

END = "<|end|>"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


SHORT = {"type": "ByteLevel", "add_prefix_space": False}  # the others have these defaults


def split(pattern: str) -> dict[str, Any]:
    steps = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}]
    return {"type": "Sequence", "pretokenizers": [*steps, BYTES | {"use_regex": False}]}


@pytest.fixture(scope="module")
def english() -> BPE:
    return BPE.train(load_text("topics")[:30_000], 400, special=[END])


@pytest.fixture(scope="module")
def described(english: BPE) -> dict[str, Any]:
    """The vocabulary of `english` as a tokenizer.json."""
    names = [spell(token) for token in english.tokens[:-1]]
    token = {"id": 399, "content": END, "special": True, "single_word": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [token | {"lstrip": False, "rstrip": False}],
        "normalizer": None,
        "pre_tokenizer": BYTES,
        "post_processor": {"type": "ByteLevel"},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [f"{names[left]} {names[right]}" for left, right in english.merges],
        },
    }


def written(folder: Path, content: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def test_it_is_the_tokenizer_that_was_written(english: BPE, described: Any, tmp_path: Path) -> None:
    found = load_tokenizer(written(tmp_path, described))
    assert (found.tokens, found.merges, found.special) == (english.tokens, english.merges, english.special)
    text = f"It's 2024 —\n naïve 中文 😀{END}."
    for allowed in ((), "all"):
        assert found.encode(text, allowed).tolist() == english.encode(text, allowed).tolist()
    assert found.decode(found.encode(text, "all")) == text
    found.save(tmp_path / "gpt2")  # it cuts words as GPT-2 does
    assert load_tokenizer(written(tmp_path, described | {"pre_tokenizer": SHORT})).words is pretokenize
    pairs = [merge.split(" ") for merge in described["model"]["merges"]]  # as newer versions write them
    newer = described | {"model": described["model"] | {"merges": pairs}}
    assert load_tokenizer(written(tmp_path, newer)).merges == english.merges


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (GPT2, ["I", "'m", " 123456", "!", "  ", " abc", "\n", "\n", "É", "\n"]),
        (LLAMA3, ["I", "'m", " ", "123", "456", "!", "  ", " abc", "\n\n", "É", "\n"]),
        (QWEN, ["I", "'m", " ", *"123456", "!", "  ", " abc", "\n\n", "É", "\n"]),
        (LLAMA3, ["(hello", "'S", " world", "!!\n", " ", "\tx"]),
        (DIGITS[True], ["a ", "1", "2", " b"]),
        (DIGITS[False], ["a ", "12½", " b"]),
    ],
)
def test_words_by_hand(pattern: str, words: list[str]) -> None:
    assert cut(pattern, "".join(words)) == words


def test_a_pattern_is_compiled_once() -> None:
    """It lists all letters of Unicode."""
    assert compile_pattern(GPT2) is compile_pattern(GPT2)


@given(st.text(st.sampled_from(" \n\t\r'sSteé中😀1½.aA_"), max_size=30))
def test_words_joined_are_the_text(text: str) -> None:
    for pattern in (GPT2, LLAMA3, QWEN, *DIGITS.values()):
        assert "".join(cut(pattern, text)) == text
    assert cut(GPT2, text) == pretokenize(text)


def test_a_whole_word_needs_no_merges(described: Any, tmp_path: Path) -> None:
    """Llama 3's `ignore_merges`: "qqq" is a token that no merge makes."""
    vocab = described["model"]["vocab"] | {"qqq": 400}
    model = described["model"] | {"vocab": vocab}
    plain = load_tokenizer(written(tmp_path, described | {"model": model}))
    whole = load_tokenizer(written(tmp_path, described | {"model": model | {"ignore_merges": True}}))
    assert whole.encode("qqq").tolist() == [400]
    assert plain.encode("qqq").tolist() == [ord("q")] * 3
    assert whole.encode("qqqq").tolist() == plain.encode("qqqq").tolist()


def test_a_normal_form(described: Any, tmp_path: Path) -> None:
    """Qwen's: e and an accent become one letter, but not in the names of added tokens."""
    path = written(tmp_path, described | {"normalizer": {"type": "NFC"}})
    found = load_tokenizer(path)
    assert found.encode("e\u0301").tolist() == found.encode("é").tolist()
    plain = load_tokenizer(written(tmp_path, described))
    assert plain.encode("e\u0301").tolist() != plain.encode("é").tolist()


def test_a_token_that_takes_in_the_space_before_it(described: Any, tmp_path: Path) -> None:
    """RoBERTa's <mask>: all white space before it, up to the token before, and none behind it."""
    token = {"id": 400, "content": "<mask>", "lstrip": True, "normalized": False, "special": True}
    added = [*described["added_tokens"], token]
    found = load_tokenizer(written(tmp_path, described | {"added_tokens": added}))
    assert found.encode(f"a \n\u3000<mask> a{END} <mask>", "all").tolist() == [
        *(*found.encode("a"), 400, *found.encode(" a")),
        *(399, 400),
    ]
    before = found.encode(" a\x1c").tolist()  # no white space to Unicode, and the space at the begin stays
    assert found.encode(f"{END} a\x1c \n<mask>", "all").tolist() == [399, *before, 400]
    assert found.encode("a <mask>").tolist() == found.encode("a <mas").tolist() + found.encode("k>").tolist()
    assert found.decode([ord("a"), 400]) == "a<mask>"


@pytest.mark.parametrize("change", [{"pre_tokenizer": split(LLAMA3)}, {"normalizer": {"type": "NFC"}}])
def test_gpt2s_files_cannot_hold_the_others(described: Any, tmp_path: Path, change: Any) -> None:
    with pytest.raises(ValueError, match="GPT-2's way to cut a text into words, and this is another"):
        load_tokenizer(written(tmp_path, described | change)).save(tmp_path / "gpt2")
    assert not (tmp_path / "gpt2").exists()


# -- what is refused -------------------------------------------------------------------------------

ADDED = {"id": 400, "content": "<x>", "normalized": False}
REFUSED: list[tuple[tuple[Any, ...], Any, str]] = [
    (
        ("model", "type"),
        "WordLevel",
        r"model\.type: expected None or 'BPE' or 'WordPiece' or 'Unigram', found",
    ),
    (("model", "byte_fallback"), 1, r"model\.byte_fallback: expected True or False or None, found 1"),
    (("model", "byte_fallback"), True, r"the field pre_tokenizer: expected None, found"),
    (("model", "dropout"), 0.1, r"model\.dropout: "),
    (("model", "end_of_word_suffix"), "</w>", r"model\.end_of_word_suffix: "),
    (("model", "continuing_subword_prefix"), "##", r"model\.continuing_subword_prefix: "),
    (("model", "other"), 1, r"model\.other: expected no such field"),
    (("model", "vocab"), [1], r"model\.vocab: expected \{token: id\}"),
    (("model", "vocab", "a"), True, r"model\.vocab: expected \{token: id\}"),
    (
        ("model", "vocab", "more"),
        500,
        r"model\.vocab: expected with added_tokens, the ids 0 \.\. 400, each once",
    ),
    (("model", "vocab", "日"), 400, r"a vocabulary that does not fit: .*'日'"),
    (
        ("model", "vocab", END),
        5,
        r"model\.vocab: expected the id 399 of added_tokens for '<\|end\|>', found 5",
    ),
    (("model", "merges"), "t h", r"model\.merges: expected a list"),
    (("model", "merges", 3), "a", r"model\.merges\[3\]: expected two tokens of vocab"),
    (("model", "merges", 3), ["a", "日"], r"model\.merges\[3\]: expected two tokens"),
    (("model", "merges", 3), [["a"], "b"], r"model\.merges\[3\]: expected two tokens"),
    (("pre_tokenizer",), None, r"pre_tokenizer: expected a last step ByteLevel, found \[\]"),
    (
        ("pre_tokenizer", "type"),
        "Metaspace",
        r"pre_tokenizer: expected a last step ByteLevel, found \['Metaspace'\]",
    ),
    (
        ("pre_tokenizer", "add_prefix_space"),
        True,
        r"pre_tokenizer\.add_prefix_space: expected False, found True",
    ),
    (
        ("pre_tokenizer",),
        {"type": "Sequence", "pretokenizers": [BYTES, BYTES]},
        r"pretokenizers\[0\]\.type: ",
    ),
    (
        ("pre_tokenizer",),
        {"type": "Sequence", "pretokenizers": 1},
        r"pre_tokenizer\.pretokenizers: expected a list",
    ),
    (
        ("pre_tokenizer",),
        split(r"(a+)+$"),
        r"pretokenizers\[0\]\.pattern\.Regex: expected .*found '\(a\+\)\+\$'",
    ),
    (("normalizer",), {"type": "Lowercase"}, r"normalizer\.type: expected 'NFC', found 'Lowercase'"),
    (("truncation",), {"max_length": 5}, r"the field truncation: expected None"),
    (("added_tokens",), [1], r"added_tokens\[0\]: expected an object, found 1"),
    (("added_tokens",), [ADDED | {"lstrip": 1}], r"added_tokens\[0\]\.lstrip: expected False or None or T"),
    (("added_tokens",), [ADDED | {"rstrip": True}], r"added_tokens\[0\]\.rstrip: expected False or None"),
    (("added_tokens",), [ADDED | {"id": "5"}], r"added_tokens\[0\]\.id: expected a whole number"),
    (
        ("added_tokens",),
        [ADDED, ADDED],
        r"added_tokens\[1\]\.content: expected a text, not empty, and no other",
    ),
    (("steps",), 1, r"the field steps: expected no such field"),
]


@pytest.mark.parametrize(("place", "value", "message"), REFUSED)
def test_what_is_not_known_is_refused_by_its_place(
    described: Any, tmp_path: Path, place: Any, value: Any, message: str
) -> None:
    changed = copy.deepcopy(described)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(CheckpointError, match=message) as info:
        load_tokenizer(written(tmp_path, changed))
    assert info.value.file == str(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{" * 1000])
def test_files_that_are_no_json_object(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match="none with this name"):
        load_tokenizer(tmp_path / "none")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["model", "added_tokens", "pre_tokenizer", "normalizer", "truncation", "padding", "x"]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=2))
def test_what_a_stranger_writes_is_refused_or_read(tmp_path_factory: Any, changes: Any) -> None:
    tokens = {spell(bytes([i])): i for i in range(256)}
    usual = {"pre_tokenizer": BYTES, "model": {"type": "BPE", "vocab": tokens, "merges": []}}
    path = written(tmp_path_factory.getbasetemp(), usual | changes)
    try:
        found = load_tokenizer(path)
    except CheckpointError:
        return
    assert found.decode(found.encode("a b")) == "a b"


# -- parity ----------------------------------------------------------------------------------------


PIECES = [*" \n\t\r'sté中😀1.aeiou the and'S'LLſ12345½", END, "<think>", "<|e", "<mask>", " \u3000 "]


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "smollm2", "digits", "llama3", "qwen"])
def test_parity_with_tokenizers(tmp_path: Path, kind: str) -> None:
    """A vocabulary that `tokenizers` has trained and written, with added tokens that begin alike, and in
    RoBERTa's one that takes in the white space before it."""
    tokenizers = pytest.importorskip("tokenizers")
    steps = tokenizers.pre_tokenizers
    last = steps.ByteLevel(add_prefix_space=False)
    if kind in ("smollm2", "digits"):
        last = steps.Sequence([steps.Digits(individual_digits=kind == "smollm2"), last])
    if kind in ("llama3", "qwen"):
        pattern = tokenizers.Regex(LLAMA3 if kind == "llama3" else QWEN)
        plain = steps.ByteLevel(add_prefix_space=False, use_regex=False)
        last = steps.Sequence([steps.Split(pattern, "isolated"), plain])
    other = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=kind == "llama3"))
    other.pre_tokenizer, other.decoder = last, tokenizers.decoders.ByteLevel()
    if kind == "qwen":
        other.normalizer = tokenizers.normalizers.NFC()
    texts = [*random_texts(10_000, PIECES), load_text("topics")[:30_000]]
    texts.append(f"a{END}b<think> <|e e\u0301{END}{END}  <mask> <mask>\x1c<mask>\u2003{END} <mask>")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800,
        initial_alphabet=steps.ByteLevel.alphabet(),
        special_tokens=[END, "<|e"],
        show_progress=False,
    )
    other.train_from_iterator([texts[-2], *texts[:200]], trainer)
    new = ["<think>", "<mask>"] if kind == "roberta" else ["<think>"]
    other.add_tokens([tokenizers.AddedToken(x, normalized=False, lstrip=x == "<mask>") for x in new])
    other.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    assert ours.vocab_size == other.get_vocab_size() == 800 + len(new)
    for text in texts:
        ids = ours.encode(text, "all").tolist()
        assert ids == other.encode(text, add_special_tokens=False).ids, repr(text[:80])
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False)

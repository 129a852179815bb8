"""Reads the tokenizer.json of Hugging Face's `tokenizers`: byte-level BPE (`bpe.py`), as in Llama 3, Qwen and
SmolLM2; BPE on characters (`byte_fallback.py`), as in Llama 2 and Mistral; WordPiece (`wordpiece.py`), as in
BERT; and the unigram tokenizer (`unigram.py`).

    model            the vocabulary {token: id}, and the merges in the order in which they were learned, or
                     the logarithm of each token's probability
    added_tokens     tokens that are written as they are, such as <|endoftext|>
    pre_tokenizer    the rules that cut a text into words; no merge crosses a word
    normalizer       the first change of a text: none, Unicode's normal form C, a ▁ for each space, or a table
                     (`charsmap.py`)

Each is a tree of steps with a `type`. The supported steps are below. An error names the place in the file
of any other step or value, since it would give other tokens. A regular expression must be one of the
published models': an untrusted one could run forever.

`post_processor` is not applied: if a model needs a token before each text, add it yourself.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tinygen.storage.files import CheckpointError, read_json
from tinygen.text.bpe import BPE, LIMIT, unspell
from tinygen.text.byte_fallback import SPACE, ByteFallbackBPE
from tinygen.text.charsmap import apply_rules, read_rules
from tinygen.text.json_tree import Tree
from tinygen.text.merges import Pair
from tinygen.text.patterns import DIGITS, PATTERNS, cut
from tinygen.text.tokenizers import WHITE_SPACE, pretokenize
from tinygen.text.unigram import Unigram, mark_words
from tinygen.text.wordpiece import INSIDE, WordPiece

Words = Callable[[str], list[str]]

# -- words -----------------------------------------------------------------------------------------


def split_in_turn(steps: list[Words], text: str) -> list[str]:
    words = [text]
    for step in steps:
        words = [part for word in words for part in step(word)]
    return words


# -- the steps -------------------------------------------------------------------------------------


def read_words(tree: Tree) -> Words:
    """The function by which pre_tokenizer cuts a text. Its last step writes bytes as letters."""
    steps: list[Words] = []
    found = tree.steps("pre_tokenizer", "pretokenizers")
    if not found or found[-1].left.get("type") != "ByteLevel":
        tree.refuse("pre_tokenizer", "a last step ByteLevel", [step.left.get("type") for step in found])
    for step in found:
        kind = step.take("type")
        if kind == "ByteLevel" and step is found[-1]:
            step.take("add_prefix_space", False)
            step.take("trim_offsets", True, False, None)  # about places in the text, not about tokens
            if step.take("use_regex", True, False, None) is not False:
                steps.append(pretokenize)
        elif kind == "Digits":
            steps.append(partial(cut, DIGITS[bool(step.take("individual_digits", True, False, None))]))
        elif kind == "Split":
            pattern = step.subtree("pattern")
            steps.append(partial(cut, pattern.take("Regex", *PATTERNS)))
            pattern.end()
            step.take("behavior", "Isolated")
            step.take("invert", False, None)
        else:
            step.refuse("type", "ByteLevel at the end, Digits or Split before it", kind)
        step.end()
    return steps[0] if len(steps) == 1 else partial(split_in_turn, steps)


def read_normal_form(tree: Tree) -> bool:
    steps = tree.steps("normalizer", "normalizers")
    for step in steps:
        step.take("type", "NFC")
        step.end()
    return bool(steps)


def read_spaces(tree: Tree) -> None:
    """Refuse other steps than a ▁ before the text, and one for each space."""
    tree.take("pre_tokenizer", None)
    steps = tree.steps("normalizer", "normalizers")
    if [step.take("type") for step in steps] != ["Prepend", "Replace"]:
        tree.refuse("normalizer", "the steps Prepend and Replace", [step.place for step in steps])
    prepend, replace = steps
    prepend.take("prepend", SPACE)
    pattern = replace.subtree("pattern")
    pattern.take("String", " ")
    replace.take("content", SPACE)
    for step in (prepend, replace, pattern):
        step.end()


def read_added(tree: Tree, normalized: bool, lstrip: list[str] | None) -> dict[str, int]:
    """{name: id} of the tokens that are written as they are. Those that take in the white space before them
    are added to the list `lstrip`, or refused without such a list."""
    found = tree.take("added_tokens") or []
    if not isinstance(found, list):
        tree.refuse("added_tokens", "a list", found)
    added: dict[str, int] = {}
    for i, value in enumerate(found):
        token = Tree(tree.path, f"added_tokens[{i}]", value)
        name, number = token.take("content"), token.take("id")
        if not isinstance(name, str) or not name or name in added:
            token.refuse("content", "a text, not empty, and no other token's", name)
        if type(number) is not int:
            token.refuse("id", "a whole number", number)
        for field in ("single_word", "rstrip"):
            token.take(field, False, None)
        if token.take("lstrip", False, None, *([] if lstrip is None else [True])) and lstrip is not None:
            lstrip.append(name)
        token.take("normalized", False, None, *([] if normalized else [True]))
        token.take("special", True, False, None)
        token.end()
        added[name] = number
    return added


# -- the file --------------------------------------------------------------------------------------


def load_tokenizer(path: str | Path) -> BPE | WordPiece | Unigram:
    """The tokenizer in a tokenizer.json. Its `special` are the added tokens: `encode(text, "all")` finds them
    in the text, as `tokenizers` does; `encode(text)` takes their names for plain text.

    Raises CheckpointError, with the place in the file, for unsupported steps and options, for an inconsistent
    vocabulary, and for a file that is missing, longer than 30 MB, or not JSON."""
    path = Path(path)
    tree = Tree(path, "", read_json(path, LIMIT))
    for field in ("truncation", "padding"):
        tree.take(field, None)
    for field in ("version", "post_processor", "decoder"):
        tree.take(field)
    model = tree.subtree("model")
    kind = model.take("type", None, "BPE", "WordPiece", "Unigram")
    readers: dict[str | None, Callable[[Tree, Tree], BPE | WordPiece | Unigram]]
    readers = {None: read_bpe, "BPE": read_bpe, "WordPiece": read_wordpiece, "Unigram": read_unigram}
    try:
        found = readers[kind](tree, model)
    except ValueError as error:
        raise CheckpointError(path, "a vocabulary that does not fit", "a whole vocabulary", error) from error
    model.end()
    tree.end()
    return found


def read_bpe(tree: Tree, model: Tree) -> BPE:
    byte_fallback = bool(model.take("byte_fallback", True, False, None))
    words: Words = pretokenize
    normal_form = False
    if byte_fallback:
        read_spaces(tree)
    else:
        words, normal_form = read_words(tree), read_normal_form(tree)
    lstrip: list[str] = []
    added = read_added(tree, normal_form or byte_fallback, None if byte_fallback else lstrip)
    for field in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        model.take(field, None, "")
    whole_words = bool(model.take("ignore_merges", False, None, *([] if byte_fallback else [True])))
    for field in ("unk_token", "fuse_unk"):  # no byte is unknown
        model.take(field)
    names = read_vocab(model, added)
    merges = read_merges(model, names)
    if byte_fallback:
        return ByteFallbackBPE(names, merges, added)
    tokens = [
        name.encode() if name in added else unspell(name) for name in sorted(names, key=names.__getitem__)
    ]
    return BPE(tokens, merges, added, words, whole_words, normal_form, lstrip)


def read_vocab(model: Tree, added: dict[str, int]) -> dict[str, int]:
    """{token: id} of the vocabulary and the added tokens together."""
    vocab = model.take("vocab")
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        model.refuse("vocab", "{token: id}", vocab)
    if clash := [name for name, i in added.items() if vocab.get(name, i) != i]:
        model.refuse("vocab", f"the id {added[clash[0]]} of added_tokens for {clash[0]!r}", vocab[clash[0]])
    names = {**vocab, **added}
    if sorted(names.values()) != list(range(len(names))):
        model.refuse("vocab", f"with added_tokens, the ids 0 .. {len(names) - 1}, each once", len(names))
    return names


def read_wordpiece(tree: Tree, model: Tree) -> WordPiece:
    [normalizer] = tree.steps("normalizer", "normalizers") or [tree.subtree("normalizer")]
    normalizer.take("type", "BertNormalizer")
    for field in ("clean_text", "handle_chinese_chars"):
        normalizer.take(field, True)
    lowercase = bool(normalizer.take("lowercase", True, False))
    normalizer.take("strip_accents", None, lowercase)
    words = tree.subtree("pre_tokenizer")
    words.take("type", "BertPreTokenizer")
    for step in (normalizer, words):
        step.end()
    added = read_added(tree, False, None)
    model.take("continuing_subword_prefix", INSIDE)
    unknown, longest = model.take("unk_token"), model.take("max_input_chars_per_word")
    if not isinstance(unknown, str):
        model.refuse("unk_token", "a token", unknown)
    if type(longest) is not int:
        model.refuse("max_input_chars_per_word", "a whole number", longest)
    return WordPiece(read_vocab(model, added), [*added], lowercase, unknown, longest)


def read_table(tree: Tree) -> dict[str, str]:
    """The table of characters of the normalizer `Precompiled`, {} without a normalizer."""
    rules: dict[str, str] = {}
    for step in tree.steps("normalizer", "normalizers"):
        if rules:
            tree.refuse("normalizer", "none, or one step Precompiled", "several")
        step.take("type", "Precompiled")
        table = step.take("precompiled_charsmap")
        try:
            rules = read_rules(base64.b64decode(table, validate=True))
        except (TypeError, ValueError) as error:
            step.refuse("precompiled_charsmap", "a table of characters, in base64", error)
        step.end()
    return rules


def read_marks(tree: Tree) -> Words:
    """The function that cuts a text into words with a ▁ before each: at spaces, or at all white space."""
    *first, marks = tree.steps("pre_tokenizer", "pretokenizers") or [tree.subtree("pre_tokenizer")]
    for step in first:
        step.take("type", "WhitespaceSplit")
        step.end()
    marks.take("type", "Metaspace")
    marks.take("replacement", SPACE)
    marks.take("prepend_scheme", "always", None)
    for field in ("add_prefix_space", "split"):
        marks.take(field, True, None)
    marks.take("str_rep", SPACE, None)  # of older files
    marks.end()
    return mark_all_words if first else mark_words


def mark_all_words(text: str) -> list[str]:
    return [word for part in re.split(f"[{WHITE_SPACE}]+", text) if part for word in mark_words(part)]


def changed_words(rules: dict[str, str], words: Words, text: str) -> list[str]:
    return words(apply_rules(rules, text))


def read_unigram(tree: Tree, model: Tree) -> Unigram:
    rules = read_table(tree)
    added = read_added(tree, bool(rules), None)
    words = read_marks(tree)
    model.take("byte_fallback", False, None)
    vocab, unknown = model.take("vocab"), model.take("unk_id")
    if not isinstance(vocab, list) or not all(is_scored(entry) for entry in vocab):
        model.refuse("vocab", "a list of [token, a finite number]", vocab)
    scores = {str(name): float(score) for name, score in vocab}
    if len(scores) < len(vocab):
        model.refuse("vocab", "each token once", len(vocab))
    if type(unknown) is not int or not 0 <= unknown < len(vocab):
        model.refuse("unk_id", f"the number of a token, 0 .. {len(vocab) - 1}", unknown)
    names = [*scores]
    if wrong := [name for name, i in added.items() if not (i < len(names) and names[i] == name)]:
        model.refuse("vocab", f"{wrong[0]!r} of added_tokens at {added[wrong[0]]}", len(vocab))
    return Unigram(scores, [*added], names[unknown], partial(changed_words, rules, words) if rules else words)


def is_scored(entry: Any) -> bool:
    """Whether this is [token, a finite number]."""
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    name, score = entry
    return isinstance(name, str) and isinstance(score, int | float) and math.isfinite(score)


def read_merges(model: Tree, vocab: dict[str, int]) -> dict[Pair, int]:
    """The merges, each "left right" or [left, right]."""
    found = model.take("merges")
    if not isinstance(found, list):
        model.refuse("merges", "a list", found)
    merges: dict[Pair, int] = {}
    for i, value in enumerate(found):
        pair = value.split(" ") if isinstance(value, str) else value
        known = isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        if not known or any(name not in vocab for name in (*pair, "".join(pair))):
            model.refuse(f"merges[{i}]", "two tokens of vocab, which has both together, too", value)
        if (ids := (vocab[pair[0]], vocab[pair[1]])) in merges:
            model.refuse(f"merges[{i}]", "each pair once", value)
        merges[ids] = vocab["".join(pair)]
    return merges

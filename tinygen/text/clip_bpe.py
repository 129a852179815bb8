"""The tokenizer of CLIP, and of Stable Diffusion: byte-level BPE on words in lower case (Radford et al. 2021,
arXiv:2103.00020, section 2.4).

It differs from GPT-2's (`bpe.py`) in three ways. Texts become lower case, and spaces only separate words. A
digit is a word of its own. And the last byte of a word is another token than the same byte within a word: its
name ends with </w>, so that no merge crosses a word, and "cat" at the end of "bobcat" is not "cat" in
"category".

A prompt is a row of `length` tokens, 77 in all published models: a begin token, the text, an end token, and
padding. What does not fit is cut off, with a warning that says what.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.storage.files import CheckpointError, read_json, read_text, short_repr
from tinygen.text.bpe import LETTERS, LIMIT, VERSION, require_utf8, unspell
from tinygen.text.json_tree import Tree
from tinygen.text.merges import Pair, merge
from tinygen.text.patterns import cut
from tinygen.text.tokenizers import Tokens, checked_ids, split_special
from tinygen.types import Ids

BEGIN, END, LAST = "<|startoftext|>", "<|endoftext|>", "</w>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"


class CLIPTokenizer:
    """`encode(text)` -> ids; `prompt_ids(texts)` -> rows of equal length for the text encoder.

    vocab: name -> id, 0 ... V - 1. Names are in GPT-2's byte alphabet; each byte is there twice, alone and
        with </w>.
    merges: pairs of names, in the order in which they were learned.
    pad: the name of the token that fills a row: the end token in Stable Diffusion 1, "!" in Stable
        Diffusion 2.

    The names of the begin token, the end token and `pad` in a text become these tokens.
    Raises ValueError if a byte, a token of a merge, or one of these three is missing."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        pad: str = END,
        length: int = 77,
    ) -> None:
        names = sorted(vocab, key=vocab.__getitem__)
        if [vocab[name] for name in names] != list(range(len(names))):
            raise ValueError(f"the ids of the vocabulary must be 0 .. {len(names) - 1}, each once")
        needed = [letter + end for letter in LETTERS.values() for end in ("", LAST)]
        if missing := [name for name in dict.fromkeys([*needed, BEGIN, END, pad]) if name not in vocab]:
            raise ValueError(
                f"{len(missing)} tokens are missing in the vocabulary, the first is {missing[0]!r}"
            )
        if length < 3:
            raise ValueError(
                f"length={length} leaves no room for a text between begin and end: give 3 or more"
            )
        self.special = {name: vocab[name] for name in (BEGIN, END, pad)}
        self.pad, self.length = pad, length
        self.tokens = [name.encode() if name in (BEGIN, END) else bytes_of(name) for name in names]
        self._within = [vocab[LETTERS[byte]] for byte in range(256)]
        self._last = [vocab[LETTERS[byte] + LAST] for byte in range(256)]
        self.merges: dict[Pair, int] = {}
        for left, right in merges:
            if unknown := [name for name in (left, right, left + right) if name not in vocab]:
                raise ValueError(
                    f"the merge {left!r} {right!r} needs {unknown[0]!r}, which is not in the vocabulary"
                )
            self.merges.setdefault((vocab[left], vocab[right]), vocab[left + right])
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    def encode(self, text: str) -> Ids:
        """The ids of a text (T,), of any length, without begin and end. ValueError for a lone surrogate."""
        require_utf8(text)
        ids: list[int] = []
        for i, part in enumerate(split_special(text, self.special, "all", ())):
            if i % 2:
                ids.append(self.special[part])
                continue
            for word in cut(WORDS, lower_case(unicodedata.normalize("NFC", part))):
                ids += self._encode_word(word.encode())
        return np.array(ids, np.int64)

    def _encode_word(self, word: bytes) -> list[int]:
        """Of all pairs in the word, always merge the one learned first."""
        ids = [*(self._within[byte] for byte in word[:-1]), self._last[word[-1]]]
        while len(ids) > 1:
            best = min(pairwise(ids), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self.merges:
                break
            ids = merge(ids, best, self.merges[best])
        return ids

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,), in lower case, with a space after each word but the last. ValueError names
        the first id outside the vocabulary."""
        ids = checked_ids(ids, self.vocab_size)
        return b"".join(self.tokens[i] for i in ids).decode(errors="replace").rstrip(" ")

    def prompt_ids(self, texts: Sequence[str]) -> Ids:
        """The ids of N texts for a text encoder, (N, length). Warns (UserWarning) of the part of a text that
        is cut off. Raises TypeError for a single string in place of a list."""
        if isinstance(texts, str):
            raise TypeError(f"give a list of texts: [{texts!r}]")
        rows = np.full((len(texts), self.length), self.special[self.pad], np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = self.encode(text)
            kept = ids[: self.length - 2]
            if len(kept) < len(ids):
                warnings.warn(
                    f"the text has {len(ids)} tokens, and {self.length - 2} fit between begin and end. "
                    f"Cut off: {self.decode(ids[len(kept) :])!r}",
                    stacklevel=2,
                )
            row[: len(kept) + 2] = [self.special[BEGIN], *kept, self.special[END]]
        return rows

    @classmethod
    def load(cls, folder: str | Path) -> CLIPTokenizer:
        """The tokenizer in a folder of Hugging Face's format: tokenizer.json, or vocab.json and merges.txt;
        `pad` and `length` come from special_tokens_map.json and tokenizer_config.json.

        Raises CheckpointError for a file that is missing, damaged, or of another tokenizer."""
        folder = Path(folder)
        options = read_json(folder / CONFIG, LIMIT) if (folder / CONFIG).exists() else {}
        kinds = (None, "CLIPTokenizer", "CLIPTokenizerFast")
        if (kind := options.get("tokenizer_class")) not in kinds:
            raise CheckpointError(folder / CONFIG, "the option tokenizer_class", kinds[1], short_repr(kind))
        length = options.get("model_max_length", 77)
        if type(length) is not int or not 3 <= length <= 2**16:
            raise CheckpointError(
                folder / CONFIG, "the option model_max_length", "a whole number from 3", length
            )
        special = read_json(folder / SPECIAL, LIMIT) if (folder / SPECIAL).exists() else {}
        pad: Any = special.get("pad_token", options.get("pad_token", END))
        pad = pad.get("content") if isinstance(pad, dict) else pad
        path = folder / "tokenizer.json"
        if path.exists():
            vocab, merges = read_description(path)
        else:
            path = folder / "vocab.json"
            vocab, merges = read_json(path, LIMIT), read_merges(folder / "merges.txt")
        if not all(type(i) is int for i in vocab.values()) or not isinstance(pad, str):
            raise CheckpointError(
                path, "not a vocabulary", "{token: id}, and a token for padding", short_repr(pad)
            )
        try:
            return cls(vocab, merges, pad, length)
        except ValueError as error:
            raise CheckpointError(path, "not a vocabulary of CLIP", "a whole one", error) from error


def lower_case(text: str) -> str:
    """Each character in lower case by itself: `str.lower` writes the Greek Σ as ς at the end of a word."""
    return "".join(char.lower() for char in text)


def bytes_of(name: str) -> bytes:
    """The bytes of a token; the last one of a word ends with a space."""
    return unspell(name.removesuffix(LAST)) + b" " * name.endswith(LAST)


# -- files -----------------------------------------------------------------------------------------


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges of merges.txt: two names in each line."""
    lines = read_text(path, LIMIT).replace("\r\n", "\n").split("\n")
    if lines and lines[0].startswith(VERSION.partition(" ")[0]):
        lines = lines[1:]
    return [pair_of(path, line.split(" ")) for line in lines if line]


def pair_of(path: Path, found: Any) -> tuple[str, str]:
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(name, str) for name in found):
        raise CheckpointError(path, "not a merge", "two tokens", short_repr(found))
    return found[0], found[1]


def read_description(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The vocabulary and the merges of a tokenizer.json. Its steps must be those of CLIP."""
    tree = Tree(path, "", read_json(path, LIMIT))
    normal = [step.take("type") for step in tree.steps("normalizer", "normalizers")]
    if normal != ["NFC", "Replace", "Lowercase"]:
        tree.refuse("normalizer", "the steps NFC, Replace and Lowercase", normal)
    steps = tree.steps("pre_tokenizer", "pretokenizers")
    if [step.take("type") for step in steps] != ["Split", "ByteLevel"]:
        tree.refuse("pre_tokenizer", "the steps Split and ByteLevel", len(steps))
    special = "|".join(name.replace("|", r"\|") for name in (BEGIN, END))
    steps[0].subtree("pattern").take("Regex", WORDS, f"{special}|{WORDS}")
    model = tree.subtree("model")
    model.take("type", "BPE", None)
    model.take("end_of_word_suffix", LAST)
    vocab, merges = model.take("vocab"), model.take("merges")
    if not isinstance(vocab, dict):
        model.refuse("vocab", "{token: id}", vocab)
    if not isinstance(merges, list):
        model.refuse("merges", "a list", merges)
    pairs = [value.split(" ") if isinstance(value, str) else value for value in merges]
    return vocab, [pair_of(path, pair) for pair in pairs]

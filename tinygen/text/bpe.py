"""Byte-pair encoding, the tokenizer of GPT-2: start from bytes and merge frequent pairs of neighbors.

Its alphabet is the bytes, so that it can encode every text (Radford et al. 2019, section 2.2). `merges.py`
learns the merges.
"""

from __future__ import annotations

import codecs
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from tinygen.storage.files import (
    CheckpointError,
    disk_errors,
    make_folder,
    read_json,
    read_text,
    replace_file,
    short_repr,
)
from tinygen.text.merges import Pair, learn_merges, merge
from tinygen.text.tokenizers import Tokens, checked_ids, pretokenize, split_special
from tinygen.types import Ids


def require_utf8(text: str) -> None:
    """Raise ValueError, with the position, if `text` contains a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds a lone surrogate, U+{ord(text[error.start]):04X}, at position "
            f"{error.start}: half a character, which UTF-8 cannot write; decode the text anew, or "
            "replace it by text.encode(errors='replace').decode()"
        ) from None


def require_names(special: Collection[str]) -> None:
    if isinstance(special, str) or len(set(special)) < len(special) or "" in special:
        raise ValueError(f"special must be a list of different strings, none of them empty; got {special!r}")
    for name in special:
        require_utf8(name)


# -- how GPT-2's files write bytes -----------------------------------------------------------------

VERSION = "#version: 0.2"
LIMIT = 30_000_000
"""The most bytes of a vocabulary file: GPT-2's vocab.json has 1,042,301, for 50,257 tokens."""

OPTIONS = {
    "tokenizer_class": ("GPT2Tokenizer", "GPT2TokenizerFast"),
    "add_prefix_space": (False,),
    "add_bos_token": (False,),
}
"""The options of GPT-2's tokenizer in the tokenizer_config.json of `transformers`. Other tokenizers (CLIP,
Qwen, RoBERTa) have files of the same names, but split or mark text differently."""

# GPT-2 writes each byte as one visible character, so that its files are text: a printable byte as
# the Latin-1 character of the same number, the other 68 as U+0100 and the following.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
BYTES = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]
LETTERS = {
    byte: chr(byte if i < len(PRINTABLE) else 256 + i - len(PRINTABLE)) for i, byte in enumerate(BYTES)
}
BYTE_OF = {letter: byte for byte, letter in LETTERS.items()}


def spell(token: bytes) -> str:
    return "".join(LETTERS[byte] for byte in token)


def unspell(name: str) -> bytes:
    if not BYTE_OF.keys() >= set(name):
        raise ValueError(
            f"the token {name!r} in vocab.json is not written in GPT-2's byte alphabet; "
            "if it is a special token, name it in `special`"
        )
    return bytes(BYTE_OF[letter] for letter in name)


def require_gpt2(path: Path) -> None:
    """Raise CheckpointError for the first option in tokenizer_config.json that differs from GPT-2's
    tokenizer."""
    found = read_json(path, LIMIT)
    for name, values in OPTIONS.items():
        if found.get(name, values[0]) not in values:
            expected = " or ".join(map(repr, values))
            raise CheckpointError(path, f"the option {name}", expected, short_repr(found[name]))


# -- the tokenizer ---------------------------------------------------------------------------------


class BPE:
    """A byte-level BPE tokenizer, trained here (`BPE.train`) or GPT-2's own (`BPE.load`).

    tokens: the bytes of every token, by id; the 256 single bytes must be among them. After `train`
        they have the ids 0 .. 255, followed by the merges and then the special tokens. A loaded
        vocabulary has another order.
    merges: (left id, right id) -> id of the merged token, in the order in which they were learned.
    special: name -> id of tokens that represent no text, such as "<|endoftext|>".
    words: the function that cuts a text into words, either GPT-2's or a tokenizer.json's. No merge
        crosses a word.
    whole_words: whether a word that is a token always becomes this token, without merges (Llama 3).
    normal_form: whether texts are first converted to Unicode's normal form C (Qwen).
    lstrip: names of special tokens that take in the white space before them (RoBERTa's <mask>).
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: dict[Pair, int],
        special: dict[str, int],
        words: Callable[[str], list[str]] = pretokenize,
        whole_words: bool = False,
        normal_form: bool = False,
        lstrip: Collection[str] = (),
    ) -> None:
        self.tokens = list(tokens)
        self.merges = dict(merges)
        self.special = dict(special)
        names = set(special.values())
        ids = {token: i for i, token in enumerate(tokens) if i not in names}
        missing = [byte for byte in range(256) if bytes([byte]) not in ids]
        if missing:
            raise ValueError(
                f"a byte-level vocabulary holds all 256 single bytes; {len(missing)} are missing, "
                f"the first is 0x{missing[0]:02x}"
            )
        self.words, self.normal_form, self.lstrip = words, normal_form, lstrip
        self._whole = ids if whole_words else {}
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    @classmethod
    def train(cls, text: str, vocab_size: int, special: Collection[str] = ()) -> BPE:
        """Learn a vocabulary of `vocab_size` tokens: the bytes, the merges and `special` together.

        `learn_merges` explains how ties are broken. The vocabulary is smaller than `vocab_size` if the
        text has no more pairs. ValueError if `vocab_size` leaves no room for 256 bytes and `special`.
        """
        require_names(special)
        n_merges = vocab_size - 256 - len(special)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size must be at least {256 + len(special)}, for 256 bytes and "
                f"{len(special)} special tokens; got {vocab_size}"
            )
        require_utf8(text)
        words = Counter(word.encode() for word in pretokenize(text))
        merges = learn_merges(words, n_merges)
        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        ids = {name: len(tokens) + i for i, name in enumerate(special)}
        return cls(tokens + [name.encode() for name in special], merges, ids)

    @property
    def vocab_size(self) -> int:
        """The number of tokens: bytes, merges and special ones."""
        return len(self.tokens)

    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] = ()) -> Ids:
        """The ids of `text`: (T,).

        The name of a special token in the text becomes that token only if `allowed_special` contains it
        (or is "all"); otherwise it is encoded like other text, so that a user's input cannot end a
        document. ValueError for an unknown special token or a lone surrogate.
        """
        require_utf8(text)
        ids: list[int] = []
        known: dict[str, list[int]] = {}  # most words occur more than once in a text
        for i, part in enumerate(split_special(text, self.special, allowed_special, self.lstrip)):
            if i % 2:
                ids.append(self.special[part])
                continue
            part = unicodedata.normalize("NFC", part) if self.normal_form else part
            for word in self.words(part):
                if word not in known:
                    known[word] = self._encode_word(word)
                ids += known[word]
        return np.array(ids, np.int64)

    def _encode_word(self, word: str) -> list[int]:
        """Merge in the order of training: of all pairs in the word, always merge the one learned first.

        The time is quadratic in the length of a word; words are short, except a long run without spaces.
        """
        if (token := self._whole.get(word.encode())) is not None:
            return [token]
        ids = [self._byte_ids[byte] for byte in word.encode()]
        while len(ids) > 1:
            best = min(pairwise(ids), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self.merges:
                break
            ids = merge(ids, best, self.merges[best])
        return ids

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,); bytes that are not valid UTF-8, such as half a character, become U+FFFD.

        ValueError names the first id outside the vocabulary.
        """
        ids = checked_ids(ids, self.vocab_size)
        return b"".join(self.tokens[i] for i in ids).decode(errors="replace")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode a stream of ids piece by piece; the pieces, joined, equal the result of `decode`.

        If a token ends within a character, the first bytes of this character wait for the next token.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            (token,) = checked_ids([i], self.vocab_size)
            if piece := decoder.decode(self.tokens[token]):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    # -- GPT-2's files -----------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write GPT-2's two files, `vocab.json` and `merges.txt`, into `folder`, which is created.

        Raises ValueError if two tokens get the same name there, CheckpointError if the disk fails."""
        contents = self.files()
        with disk_errors(folder):
            make_folder(Path(folder))
            for name, content in contents.items():
                replace_file(Path(folder) / name, [content])

    def files(self) -> dict[str, bytes]:
        """The contents of GPT-2's two files, by file name. Raises ValueError if two tokens get the same
        name, and if texts are cut into words in another way than GPT-2's: the files cannot say so."""
        if self.words is not pretokenize or self._whole or self.normal_form:
            raise ValueError("GPT-2's files hold GPT-2's way to cut a text into words, and this is another")
        names = {i: spell(token) for i, token in enumerate(self.tokens)}
        names |= {i: name for name, i in self.special.items()}
        vocab = {name: i for i, name in names.items()}
        if len(vocab) < len(names):
            twice = next(name for i, name in names.items() if vocab[name] != i)
            raise ValueError(f"two tokens are written {twice!r}: GPT-2's files cannot hold both")
        lines = [f"{names[left]} {names[right]}\n" for left, right in self.merges]
        return {
            "vocab.json": json.dumps(vocab, ensure_ascii=False).encode(),
            "merges.txt": "".join([f"{VERSION}\n", *lines]).encode(),
        }

    @classmethod
    def load(cls, folder: str | Path, special: Collection[str] = ()) -> BPE:
        """Read `vocab.json` and `merges.txt` from `folder`. The ids come from `vocab.json`, and from
        `added_tokens.json` if it exists.

        The files do not say which tokens are special, so `special` names them; GPT-2 itself has
        "<|endoftext|>". CheckpointError if a file is missing, too long, or not JSON or UTF-8, and if
        `tokenizer_config.json` describes another tokenizer than GPT-2's; ValueError, which names the
        mismatch, if the files do not fit together.
        """
        require_names(special)
        vocab = read_json(Path(folder) / "vocab.json", LIMIT)
        if (added := Path(folder) / "added_tokens.json").exists():
            vocab |= read_json(added, LIMIT)
        if (options := Path(folder) / "tokenizer_config.json").exists():
            require_gpt2(options)
        if any(type(i) is not int for i in vocab.values()):
            raise ValueError("vocab.json must hold an object of tokens and their ids, {token: id}")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise ValueError(f"the ids in vocab.json must be 0 .. {len(vocab) - 1}, each once")
        unknown = set(special) - vocab.keys()
        if unknown:
            raise ValueError(f"the special tokens {sorted(unknown)} are not in vocab.json")
        tokens = [
            name.encode() if name in special else unspell(name)
            for name in sorted(vocab, key=vocab.__getitem__)
        ]
        merges: dict[Pair, int] = {}
        text = read_text(Path(folder) / "merges.txt", LIMIT).replace("\r\n", "\n")
        for number, line in enumerate(text.split("\n"), start=1):
            if not line or (number == 1 and line.startswith("#version")):
                continue  # elsewhere a # is a token like any other
            left, space, right = line.partition(" ")
            if not space or any(name not in vocab for name in (left, right, left + right)):
                raise ValueError(
                    f"line {number} of merges.txt, {line!r}, must be two tokens of vocab.json with "
                    "a space between, and vocab.json must hold their concatenation too"
                )
            if (pair := (vocab[left], vocab[right])) in merges:
                raise ValueError(f"line {number} of merges.txt, {line!r}, comes twice: which place counts?")
            merges[pair] = vocab[left + right]
        return cls(tokens, merges, {name: vocab[name] for name in special})

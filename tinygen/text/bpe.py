"""Byte-pair encoding, the tokenizer of GPT-2: start from bytes, merge what often stands together.

Gage 1994 (a compression algorithm); Sennrich, Haddow & Birch 2016, section 3.2 (for words); Radford
et al. 2019, section 2.2 (over bytes, so that no text is unknown). The example of the article *Byte
pair encoding* in Wikipedia: "aaabdaaabac" becomes "XdXac", where X = ZY, Z = aa and Y = ab.
"""

from __future__ import annotations

import codecs
import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from tinygen.files import disk_errors, make_folder, read_json, read_text, replace_file
from tinygen.text.tokenizers import Ids, Tokens, checked_ids, pretokenize

Pair = tuple[int, int]

# -- the algorithm ---------------------------------------------------------------------------------


def merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """`ids` with every `pair` in it replaced by `new_id`, from the left, without overlap."""
    merged = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn_merges(words: Counter[bytes], n_merges: int) -> dict[Pair, int]:
    """The `n_merges` merges that BPE learns from words and how often each occurs, in order.

    Each step merges the pair of neighbours that is most frequent just then, in every word; its
    token gets the next id, from 256 on. Of equally frequent pairs the one with the smaller first
    id goes first, then the one with the smaller second id, so the order of the text plays no part.
    In "aaa" the pair (a, a) counts twice, as it does for Sennrich. Fewer merges are returned when
    every word has become a single token.
    """
    spelled = [list(word) for word in words]
    times = list(words.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> words it is, or was, in
    for i, ids in enumerate(spelled):
        for pair in pairwise(ids):
            counts[pair] += times[i]
            where[pair].add(i)

    # A heap of all counts, also outdated ones: those are recognised, and skipped, on the way out.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: dict[Pair, int] = {}
    while heap and len(merges) < n_merges:
        count, best = heapq.heappop(heap)
        if -count != counts[best]:
            continue
        merges[best] = 256 + len(merges)
        changed = set()
        for i in where.pop(best):
            before, after = spelled[i], merge(spelled[i], best, merges[best])
            if len(after) == len(before):
                continue  # an earlier merge had taken the pair from this word
            for pair in pairwise(before):
                counts[pair] -= times[i]
                changed.add(pair)
            for pair in pairwise(after):
                counts[pair] += times[i]
                where[pair].add(i)
                changed.add(pair)
            spelled[i] = after
        for pair in changed:
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
    return merges


def require_utf8(text: str) -> None:
    """ValueError, saying where, when `text` holds a lone surrogate."""
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
"""Bytes of a file that is read: GPT-2's vocab.json has 1,042,301, for 50,257 tokens."""

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


# -- the tokenizer ---------------------------------------------------------------------------------


class BPE:
    """A byte-level BPE tokenizer, trained here (`BPE.train`) or GPT-2's own (`BPE.load`).

    tokens: the bytes of every token, by id; the 256 single bytes must be among them. After `train`
        they are ids 0 .. 255, then come the merges, then the special tokens; a loaded vocabulary
        has an order of its own.
    merges: (left id, right id) -> id of both together, most important first.
    special: text -> id of tokens that stand for no text, such as "<|endoftext|>".
    """

    def __init__(self, tokens: Sequence[bytes], merges: dict[Pair, int], special: dict[str, int]) -> None:
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
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    @classmethod
    def train(cls, text: str, vocab_size: int, special: Collection[str] = ()) -> BPE:
        """Learn a vocabulary of `vocab_size` tokens: the bytes, the merges and `special` together.

        How ties are broken stands at `learn_merges`. The vocabulary stays smaller when the text
        runs out of pairs. ValueError when `vocab_size` leaves no room for 256 bytes and `special`.
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
        return len(self.tokens)

    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] = ()) -> Ids:
        """The ids of `text`: (T,).

        The text of a special token becomes that token only when it is named in `allowed_special`
        (or that is "all"): what a user types must not be able to end a document. Anywhere else it
        is encoded like other text. ValueError for an unknown special token or a lone surrogate.
        """
        allowed = set(self.special if allowed_special == "all" else allowed_special)
        if not allowed <= self.special.keys():
            raise ValueError(
                f"{sorted(allowed - self.special.keys())} are no special tokens of this tokenizer; "
                f"it has {sorted(self.special)}"
            )
        require_utf8(text)
        # The parts at odd places are the special tokens; the longest wins where two could begin.
        longest_first = sorted(allowed, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        parts = re.split(f"({pattern})", text) if allowed else [text]
        ids: list[int] = []
        known: dict[str, list[int]] = {}  # most words of a text come more than once
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.special[part])
                continue
            for word in pretokenize(part):
                if word not in known:
                    known[word] = self._encode_word(word)
                ids += known[word]
        return np.array(ids, np.int64)

    def _encode_word(self, word: str) -> list[int]:
        """Merge as training did: of the pairs present, always the one that was learned first.

        Quadratic in the length of a word; words are short, save for a long run without spaces.
        """
        ids = [self._byte_ids[byte] for byte in word.encode()]
        while len(ids) > 1:
            best = min(pairwise(ids), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self.merges:
                break
            ids = merge(ids, best, self.merges[best])
        return ids

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,); bytes that are not UTF-8, as of a cut character, become U+FFFD.

        ValueError names the first id outside the vocabulary.
        """
        ids = checked_ids(ids, self.vocab_size)
        return b"".join(self.tokens[i] for i in ids).decode(errors="replace")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of ids as they come, piece by piece; joined it is that of `decode`.

        The first bytes of a character that a token cuts are held back until the rest has come.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            token = checked_ids([i], self.vocab_size)[0]
            if piece := decoder.decode(self.tokens[token]):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    # -- GPT-2's files -----------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write GPT-2's two files, `vocab.json` and `merges.txt`, into `folder`, making it.

        ValueError when two tokens have one name there, CheckpointError when the disk refuses."""
        names = {i: spell(token) for i, token in enumerate(self.tokens)}
        names |= {i: name for name, i in self.special.items()}
        vocab = {name: i for i, name in names.items()}
        if len(vocab) < len(names):
            twice = next(name for i, name in names.items() if vocab[name] != i)
            raise ValueError(f"two tokens are written {twice!r}: GPT-2's files cannot hold both")
        lines = [f"{names[left]} {names[right]}\n" for left, right in self.merges]
        folder = Path(folder)
        with disk_errors(folder):
            make_folder(folder)
            replace_file(folder / "vocab.json", [json.dumps(vocab, ensure_ascii=False).encode()])
            replace_file(folder / "merges.txt", ["".join([f"{VERSION}\n", *lines]).encode()])

    @classmethod
    def load(cls, folder: str | Path, special: Collection[str] = ()) -> BPE:
        """Read `vocab.json` and `merges.txt` from `folder`; the ids are those of `vocab.json`.

        The files do not say which tokens are special, so `special` names them; GPT-2 itself has
        "<|endoftext|>". CheckpointError when a file is missing, too long, or no JSON or UTF-8; ValueError
        when the files do not fit together, naming what does not.
        """
        require_names(special)
        vocab = read_json(Path(folder) / "vocab.json", LIMIT)
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

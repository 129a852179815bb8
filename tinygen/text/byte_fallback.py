"""BPE on characters, with bytes for those that are not in the vocabulary: Llama 2, Mistral, TinyLlama.

Kudo & Richardson 2018, arXiv:1808.06226 (SentencePiece): the text is not cut into words. Each space becomes
the character ▁, and one more is put before the text, so that a word has the same token at the beginning of a
text and within it. `tokenizer_json.py` reads the vocabulary.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from tinygen.text.bpe import BPE
from tinygen.text.merges import Pair
from tinygen.text.tokenizers import Tokens

SPACE = "▁"


class ByteFallbackBPE(BPE):
    """`encode` and `decode` as of `BPE`.

    vocab: name -> id, the ids 0 ... V - 1; the 256 bytes are there as <0x00> ... <0xFF>.
    merges: (left id, right id) -> id of the merged token, in the order in which they were learned.
    special: name -> id of the tokens in vocab that represent no text.

    Raises ValueError if a byte is missing."""

    def __init__(self, vocab: Mapping[str, int], merges: dict[Pair, int], special: dict[str, int]) -> None:
        missing = [name for byte in range(256) if (name := f"<0x{byte:02X}>") not in vocab]
        if missing:
            raise ValueError(f"the vocabulary holds all 256 bytes; {len(missing)} are missing: {missing[0]}")
        self.merges, self.special = dict(merges), dict(special)
        self.words, self.normal_form, self.lstrip, self._whole = mark_spaces, False, (), {}
        self._byte_ids = [vocab[f"<0x{byte:02X}>"] for byte in range(256)]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._characters = {name: i for name, i in vocab.items() if len(name) == 1}
        self.tokens = [b""] * len(vocab)
        for name, i in vocab.items():
            self.tokens[i] = (name if name in special else name.replace(SPACE, " ")).encode()
        for byte, i in enumerate(self._byte_ids):
            self.tokens[i] = bytes([byte])

    def _encode_word(self, word: str) -> list[int]:
        """Of all pairs, always merge the one learned first, and of equal ones the leftmost. The word is the
        whole text: pairs wait in a heap, and neighbors are linked, so that the time is n log n."""
        ids: list[int] = []
        for char in word:
            known = self._characters.get(char)
            ids += [self._byte_ids[byte] for byte in char.encode()] if known is None else [known]
        before, after = [i - 1 for i in range(len(ids))], [i + 1 for i in range(len(ids))]
        heap: list[tuple[int, int, Pair]] = []  # rank, place of the left one, the pair

        def wait(left: int) -> None:
            if left >= 0 and after[left] < len(ids):
                pair = ids[left], ids[after[left]]
                if pair in self._ranks:
                    heapq.heappush(heap, (self._ranks[pair], left, pair))

        for i in range(len(ids)):
            wait(i)
        while heap:
            _, left, pair = heapq.heappop(heap)
            right = after[left]
            if right >= len(ids) or (ids[left], ids[right]) != pair:
                continue  # one of the two has been merged since
            ids[left], ids[right] = self.merges[pair], -1
            after[left] = after[right]
            if after[left] < len(ids):
                before[after[left]] = left
            wait(before[left])
            wait(left)
        return [i for i in ids if i >= 0]

    def decode(self, ids: Tokens) -> str:
        """The text of `ids` (T,), without the space before it; bytes that are not UTF-8 become U+FFFD."""
        return super().decode(ids).removeprefix(" ")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode a stream of ids piece by piece; the pieces, joined, equal the result of `decode`."""
        for i, piece in enumerate(super().decode_stream(ids)):
            yield piece if i else piece.removeprefix(" ")

    def files(self) -> dict[str, bytes]:
        """GPT-2's files cannot hold it: ValueError."""
        raise ValueError("GPT-2's files hold byte-level BPE, and this is another kind")


def mark_spaces(text: str) -> list[str]:
    return [SPACE + text.replace(" ", SPACE)] if text else []

"""The first step of SentencePiece's tokenizers, such as T5's: a table says which characters become others.

Kudo & Richardson 2018, arXiv:1808.06226, section 3.4. The usual table is Unicode's normal form NFKC with
changes: "½" becomes "1⁄2", a tab becomes a space, and most control characters disappear. The file has the
table as a trie, a tree of the bytes of what is replaced, in the format of the library Darts-clone:

    4 bytes             n, the size of the trie in bytes
    n bytes             nodes of 32 bits
    the rest            the new texts, each with a 0 byte behind it

As in the library `tokenizers`, a table is applied to clusters, which are a character and the accents after
it. A cluster becomes what the table has for its shortest beginning, and the rest of the cluster is lost.
"""

from __future__ import annotations

import unicodedata

import numpy as np

LIMIT = 1_000_000
"""The most bytes of a table: the usual one has 240,007."""

LONGEST = 5
"""Bytes of the longest cluster that is replaced as a whole. In longer ones each character is replaced."""

LEAF, LABEL, WIDE, HAS_VALUE = 1 << 31, 0xFF, 1 << 9, 1 << 8
"""Bits of a node."""


def read_rules(table: bytes) -> dict[str, str]:
    """{what is replaced: the new text}, of at most LONGEST bytes, in such a table.

    A node has the byte that leads to it (its label), and its offset: the child for the byte c is the node
    number p ^ offset ^ c, where p is the number of the node itself. Its value, the place of the new text, is
    in the child for the byte 0. Raises ValueError for a damaged table."""
    size = int.from_bytes(table[:4], "little")
    if len(table) > LIMIT or not 4 <= size <= len(table) - 4 or size % 4:
        raise ValueError(f"the table has {len(table)} bytes, and a trie of {size}")
    nodes, texts = np.frombuffer(table, "<u4", size // 4, 4).astype(np.int64), table[4 + size :]
    offsets = (nodes >> 10) << np.where(nodes & WIDE, 8, 0)
    labels = np.arange(1, 256)
    rules: dict[str, str] = {}
    level = {b"": int(offsets[0])}  # {the bytes so far: where their children are, before ^ c}
    for _ in range(LONGEST):
        below: dict[bytes, int] = {}
        for key, start in level.items():
            places = start ^ labels
            if places.max() >= len(nodes):
                raise ValueError(f"the trie has {len(nodes)} nodes, and a child at {places.max()}")
            for c in labels[nodes[places] & (LEAF | LABEL) == labels].tolist():
                place = start ^ c
                child = below[key + bytes([c])] = place ^ int(offsets[place])
                if nodes[place] & HAS_VALUE:
                    begin = int(nodes[child]) & ~LEAF if child < len(nodes) else len(texts)
                    rules[(key + bytes([c])).decode()] = texts[begin : texts.index(0, begin)].decode()
            if len(below) > len(nodes):  # a damaged trie may have circles
                raise ValueError(f"the trie has {len(nodes)} nodes, and more ways through them")
        level = below
    return rules


def apply_rules(rules: dict[str, str], text: str) -> str:
    """The text, with each cluster replaced, or else each of its characters."""
    found = []
    for cluster in clusters(text):
        whole = len(cluster) > 1 and len(cluster.encode()) <= LONGEST
        begins = [cluster[: n + 1] for n in range(len(cluster) * whole)]
        known = next((begin for begin in begins if begin in rules), None)
        found += [rules.get(c, c) for c in cluster] if known is None else [rules[known]]
    return "".join(found)


def clusters(text: str) -> list[str]:
    """Each character with those that extend it: Unicode's extended grapheme clusters (UAX 29) by those of its
    rules that make clusters of at most LONGEST bytes. Hangul, conjuncts and joined emoji have more."""
    found: list[str] = []
    for char in text:
        before = found[-1][-1] if found else "\n"
        joined = (extends(char) or ord(before) in PREPENDED) and not (is_control(char) or is_control(before))
        if joined or before + char == "\r\n":
            found[-1] += char
        else:
            found.append(char)
    return found


MORE = {0x0E33, 0x0EB3, 0x200C, 0x200D, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)}
"""Characters that extend the one before, besides the categories of accents."""

SPACING = (
    *(0x102B, 0x102C, 0x1038, *range(0x1062, 0x1065), *range(0x1067, 0x106E), 0x1083, *range(0x1087, 0x108D)),
    *(0x108F, *range(0x109A, 0x109D), 0x1A61, 0x1A63, 0x1A64, 0xAA7B, 0xAA7D, 0x11720, 0x11721),
)
"""Those of the category Mc that do not."""

PREPENDED = {
    *(*range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x0D4E, 0x110BD, 0x110CD, 0x111C2),
    *(0x111C3, 0x113D1, 0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02),
}
"""Characters that the next one extends."""


def extends(char: str) -> bool:
    category = unicodedata.category(char)
    return category in ("Mn", "Me") or (category == "Mc" and ord(char) not in SPACING) or ord(char) in MORE


def is_control(char: str) -> bool:
    category, code = unicodedata.category(char), ord(char)
    return category in ("Zl", "Zp", "Cc") or (category == "Cf" and code not in PREPENDED and code not in MORE)

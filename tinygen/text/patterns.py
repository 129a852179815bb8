"""The regular expressions by which published tokenizers cut a text into words, for Python's `re`: those of
GPT-2 (Radford et al. 2019, section 2.2), Llama 3 and Qwen, and those that separate digits."""

from __future__ import annotations

import re
from functools import cache

from tinygen.text.tokenizers import WHITE_SPACE, unicode_ranges

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PATTERNS = (GPT2, LLAMA3, QWEN)
"""Patterns for cutting a text into words: letters with a space before them, numbers, punctuation, white
space."""


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern for Python's `re`, which has no \\p{...} and another \\s: the characters are listed."""
    letters, numbers = unicode_ranges()
    listed = {r"\p{L}": letters, r"\p{N}": numbers, r"\s": WHITE_SPACE}
    text, inside = "", False  # inside [...], where the list goes in without brackets of its own
    for part in re.findall(r"\\p\{.\}|\\.|.", pattern):
        inside = part == "[" or (inside and part != "]")
        if part in listed:
            text += listed[part] if inside else f"[{listed[part]}]"
        else:
            text += f"[^{WHITE_SPACE}]" if part == r"\S" else part
    return re.compile(text)


def cut(pattern: str, text: str) -> list[str]:
    return compile_pattern(pattern).findall(text)


DIGITS = {True: r"\p{N}|[^\p{N}]+", False: r"\p{N}+|[^\p{N}]+"}
"""Patterns that separate digits from the rest: one by one, or together."""

"""The two indexes of the search: titles with a few words each, and all words of all texts.

A page of the site has at most 300 kB with its scripts. So the second index is a script of its own, which the
page of the search loads when the first finds little."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

COMMON = 120  # pages: a word on more of them finds nothing


def script(name: str, value: Any) -> str:
    return f"const {name} = {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n"


def titles_script(search: Mapping[str, list[tuple[str, str, str]]]) -> str:
    """From a page to its [title, text, anchor if it is not the title]."""
    short = {page: [(t, x, a)[: 2 + (t != a)] for t, a, x in rows] for page, rows in search.items()}
    return script("ENTRIES", short)


def words_script(texts: Mapping[str, str]) -> str:
    """The pages; and for each word of at least four letters, the steps from one page with it to the next."""
    places: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts.values()):
        for word in set(re.findall("[a-z]{4,}", text.lower())):
            places[word].append(number)
    rare = {word: places[word] for word in sorted(places) if len(places[word]) <= COMMON}
    steps = {word: ",".join(str(b - a) for a, b in pairwise([0, *numbers])) for word, numbers in rare.items()}
    return script("WORDS", [list(texts), steps])

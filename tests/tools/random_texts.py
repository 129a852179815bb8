"""Random texts for tests of tokenizers, and the places of published vocabularies."""

import os
import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def random_texts(n: int, pieces: Sequence[str], seed: int = 0, tables: Any = unicodedata) -> list[str]:
    """n texts of fewer than 40 parts: 7 of 10 are from `pieces`, the others any characters of Unicode, of
    which `tables` say the same as the newest ones here."""
    rng = random.Random(seed)

    def part() -> str:
        if rng.random() < 0.7:
            return rng.choice(pieces)
        while True:
            char = chr(rng.choice([rng.randrange(0x250), rng.randrange(0x110000)]))
            category = unicodedata.category(char)
            if category not in ("Cn", "Cs") and category == tables.category(char):
                return char

    return ["".join(part() for _ in range(rng.randrange(40))) for _ in range(n)]


def published(name: str, file: str) -> Path | None:
    """The file of a published vocabulary, in the folder that TINYGEN_DATA names or in vocabularies/name below
    it; None if it is not there."""
    places = [
        Path(os.environ.get("TINYGEN_DATA", "nowhere"), *below) for below in ([], ["vocabularies", name])
    ]
    return next((place / file for place in places if (place / file).is_file()), None)

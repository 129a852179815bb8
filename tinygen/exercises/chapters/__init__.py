"""The exercises, one file per chapter, in the order in which to do them."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.exercises.chapters import engine
from tinygen.exercises.exercise import Chapter, Exercise

CHAPTERS: tuple[Chapter, ...] = (engine.CHAPTER,)


def all_exercises() -> Iterator[Exercise]:
    """The exercises of all chapters."""
    for chapter in CHAPTERS:
        yield from chapter.exercises

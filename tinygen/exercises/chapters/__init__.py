"""The exercises, one file per chapter, in the order in which to do them."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.exercises.chapters import (
    alignment,
    codes,
    densities,
    diffusions,
    engine,
    flows,
    gans,
    language,
    layers,
    text,
    training,
)
from tinygen.exercises.exercise import Chapter, Exercise

CHAPTERS: tuple[Chapter, ...] = (
    engine.CHAPTER,
    layers.CHAPTER,
    training.CHAPTER,
    text.CHAPTER,
    language.CHAPTER,
    densities.CHAPTER,
    codes.CHAPTER,
    diffusions.CHAPTER,
    flows.CHAPTER,
    gans.CHAPTER,
    alignment.CHAPTER,
)


def all_exercises() -> Iterator[Exercise]:
    """The exercises of all chapters."""
    for chapter in CHAPTERS:
        yield from chapter.exercises

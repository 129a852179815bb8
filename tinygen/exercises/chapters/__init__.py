"""The exercises, one file per chapter, in the order in which to do them."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.exercises.chapters import (
    codes,
    decoding,
    densities,
    diffusions,
    engine,
    flows,
    gans,
    language,
    layers,
    network_ops,
    policies,
    preferences,
    samplers,
    texts,
    training,
)
from tinygen.exercises.exercise import Chapter, Exercise

CHAPTERS: tuple[Chapter, ...] = (
    engine.CHAPTER,
    network_ops.CHAPTER,
    layers.CHAPTER,
    training.CHAPTER,
    texts.CHAPTER,
    decoding.CHAPTER,
    language.CHAPTER,
    densities.CHAPTER,
    codes.CHAPTER,
    diffusions.CHAPTER,
    samplers.CHAPTER,
    flows.CHAPTER,
    gans.CHAPTER,
    preferences.CHAPTER,
    policies.CHAPTER,
)


def all_exercises() -> Iterator[Exercise]:
    """The exercises of all chapters."""
    for chapter in CHAPTERS:
        yield from chapter.exercises

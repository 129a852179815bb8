"""The exercises, one file per chapter, in the order in which to do them."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.exercises.chapters import (
    around,
    arrays,
    checking,
    codes,
    convolutions,
    decoding,
    densities,
    diffusions,
    engine,
    flows,
    gans,
    language,
    layers,
    network_ops,
    ops,
    policies,
    preferences,
    samplers,
    scores,
    styles,
    text_to_image,
    texts,
    training,
    transformers,
)
from tinygen.exercises.exercise import Chapter, Exercise

CHAPTERS: tuple[Chapter, ...] = (
    engine.CHAPTER,
    ops.CHAPTER,
    network_ops.CHAPTER,
    layers.CHAPTER,
    convolutions.CHAPTER,
    arrays.CHAPTER,
    training.CHAPTER,
    checking.CHAPTER,
    texts.CHAPTER,
    decoding.CHAPTER,
    scores.CHAPTER,
    language.CHAPTER,
    transformers.CHAPTER,
    densities.CHAPTER,
    codes.CHAPTER,
    diffusions.CHAPTER,
    samplers.CHAPTER,
    styles.CHAPTER,
    flows.CHAPTER,
    gans.CHAPTER,
    text_to_image.CHAPTER,
    preferences.CHAPTER,
    policies.CHAPTER,
    around.CHAPTER,
)


def all_exercises() -> Iterator[Exercise]:
    """The exercises of all chapters."""
    for chapter in CHAPTERS:
        yield from chapter.exercises

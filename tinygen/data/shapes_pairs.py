"""Captioned pairs of shapes, "a red circle left of a blue square".

These captions test attribute binding: which shape has which color, and which one is on which side. `draw`
shows both shapes of a `Pair` complete and separate; their sizes and exact places are random.
`tinygen.judges.pairs_parser` reads the pictures. Lengths, colors and held-out objects are as in
`tinygen.data.shapes`: training never shows the four held-out objects.

Every picture has two captions: "a red circle left of a blue square" is also "a blue square right of a red
circle". Two captions mean the same if their `meaning` is equal. `swap_colors` and `swap_things` make captions
of other pictures from the same words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinygen.data.shapes import (
    BACKGROUND,
    COLOR_JITTER,
    COLORS,
    HELD_OUT,
    SHAPES,
    SIDES,
    coverage_of_each,
    draw_from_split,
)
from tinygen.types import Floats, Pictures

# The way from the first to the second: x to the right, y downwards.
RELATIONS = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Centers are this far from the middle along the axis of the relation, and this much jittered along and across
# it; so both shapes are in a half of their own, and further apart along the axis than across.
APART, ALONG, ACROSS = 0.23, 0.05, 0.15
SMALLEST, LARGEST = 0.12, 0.16  # r


class Thing(NamedTuple):
    """One of the two objects: keys of `SHAPES` and `COLORS`."""

    shape: str
    color: str


@dataclass(frozen=True)
class Pair:
    """The content of a picture as words; the relation is a key of `RELATIONS`."""

    first: Thing
    relation: str
    second: Thing

    def __post_init__(self) -> None:
        known: tuple[tuple[str, str, Any], ...] = (("relation", self.relation, RELATIONS),)
        for thing in (self.first, self.second):
            known += (("shape", thing.shape, SHAPES), ("color", thing.color, COLORS))
        for attribute, word, words in known:
            if word not in words:
                raise ValueError(f"no {attribute} is called {word!r}: there are {', '.join(words)}")


THINGS = tuple(Thing(*words) for words in itertools.product(SHAPES, COLORS))
PAIRS = tuple(Pair(*words) for words in itertools.product(THINGS, RELATIONS, THINGS))
SPLITS = {
    "train": tuple(pair for pair in PAIRS if not HELD_OUT & {pair.first, pair.second}),  # 1600
    "held_out": tuple(pair for pair in PAIRS if HELD_OUT & {pair.first, pair.second}),  # 704
}


def caption(pair: Pair) -> str:
    """The pair as a sentence: "a red circle left of a blue square"."""
    (shape, color), (other, its) = pair.first, pair.second
    return f"a {color} {shape} {pair.relation} a {its} {other}"


def parse_caption(text: str) -> Pair:
    """The pair with this caption; a ValueError if there is none."""
    match text.split():
        case ["a", color, shape, *relation, "a", its, other]:
            return Pair(Thing(shape, color), " ".join(relation), Thing(other, its))
    raise ValueError(f"not a caption: {text!r}; one looks like {caption(PAIRS[0])!r}")


def meaning(pair: Pair) -> Pair:
    """The equivalent pair whose relation is "left of" or "above"."""
    if pair.relation in ("left of", "above"):
        return pair
    return other_wording(pair)


def other_wording(pair: Pair) -> Pair:
    """The same content with the other thing first: its caption is the picture's second caption."""
    return Pair(pair.second, OPPOSITE[pair.relation], pair.first)


def swap_colors(pair: Pair) -> Pair:
    """Each shape with the color of the other one. The caption has the same words in another order; the
    meaning is another one if the colors differ."""
    (shape, color), (other, its) = pair.first, pair.second
    return Pair(Thing(shape, its), pair.relation, Thing(other, color))


def swap_things(pair: Pair) -> Pair:
    """Each thing in the place of the other one. The caption has the same words in another order; the meaning
    is another one if the things differ."""
    return Pair(pair.second, pair.relation, pair.first)


# -- drawing ---------------------------------------------------------------------------------------


def centers(relations: Sequence[str]) -> tuple[Floats, Floats]:
    """The mean centers x, y of the two shapes, (N, 2, 2), and their largest deviation, (N, 1, 2)."""
    towards = np.array([RELATIONS[relation] for relation in relations], float).reshape(-1, 1, 2)
    return 0.5 + APART * towards * [[-1], [1]], np.where(towards == 0, ACROSS, ALONG)


def draw(pairs: Sequence[Pair], side: int, rng: np.random.Generator) -> Pictures:
    """A picture of each pair, (N, 3, side, side); places, sizes and colors are jittered by `rng`."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {SIDES} pixels, got {side}")
    n = len(pairs)
    things = [(pair.first, pair.second) for pair in pairs]
    names = [[both[k].shape for both in things] for k in (0, 1)]
    middle, jitter = centers([pair.relation for pair in pairs])
    center = middle + jitter * rng.uniform(-1, 1, (n, 2, 2))
    r = rng.uniform(SMALLEST, LARGEST, (n, 2, 1))
    ink = np.reshape([[COLORS[thing.color] for thing in both] for both in things], (n, 2, 3))
    ink = ink + rng.uniform(-COLOR_JITTER, COLOR_JITTER, (n, 2, 3))
    paper = BACKGROUND + rng.uniform(-COLOR_JITTER, COLOR_JITTER, (n, 3))
    covered = coverages(names, np.concatenate([center, r], axis=2).swapaxes(0, 1), side)
    return paint(covered, ink, paper).astype(np.float32)


def coverages(names: Any, places: Floats, side: int) -> Floats:
    """The fraction of each pixel that each shape covers, (N, 2, side, side); names (2, N), places (2, N,
    3)."""
    return np.stack([coverage_of_each(names[k], places[k], side) for k in (0, 1)], axis=1)


def paint(covered: Floats, ink: Floats, paper: Floats) -> Floats:
    """Pictures (N, 3, H, W) in [-1, 1] of two shapes that do not overlap: coverages (N, 2, H, W), colors in
    [0, 1] of the shapes (N, 2, 3) and the paper (N, 3)."""
    shown: Floats = np.einsum("nkc,nkhw->nchw", ink - paper[:, None], covered) + paper[..., None, None]
    return 2 * shown - 1


def batch(n: int, side: int, rng: np.random.Generator, split: str = "train") -> tuple[Pictures, list[Pair]]:
    """Pictures (n, 3, side, side) and their n pairs, drawn uniformly and with replacement from a split.

    The splits are "train", 1600 pairs, and "held_out", 704: those with a held-out object, or two.
    """
    pairs = draw_from_split(SPLITS, split, n, rng)
    return draw(pairs, side, rng), pairs

"""Captioned pairs of shapes, "a red circle left of a blue square", and a reader of such pictures.

Here a caption binds: which shape has which colour, and which of them is on which side. A `Pair` is drawn with
both shapes whole and apart, of sizes and at places that the words leave open; `read` finds the words in any
picture, as in `tinygen.data.shapes_parser`, with nothing learned. Pictures, lengths, colours and what is held
out are those of `tinygen.data.shapes`: training never shows the four held-out objects.

Every picture can be said in two ways, "a red circle left of a blue square" being "a blue square right of a
red circle": two captions mean the same if their `meaning` is equal.

Drawings are all read right. With Gaussian noise on top, this many per cent are right in all words (a drawing
of every seventh pair), by side, and by the noise's standard deviation in units of the pictures' [-1, 1]:

    noise  0.1    0.2    0.3    0.5    0.75   1.0
    16     99.7   99.1   95.2   78.8   47.3   30.0
    32     100.0  100.0  99.4   99.4   94.2   86.7

What fails first is the shape, of the smallest. One core reads some 450 pictures a second of 16 pixels a side,
and 170 of 32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinygen.data import shapes_parser
from tinygen.data.shapes import (
    BACKGROUND,
    COLOUR_JITTER,
    COLOURS,
    HELD_OUT,
    SHAPES,
    SIDES,
    Floats,
    Pictures,
    chosen,
    coverage_of_each,
)
from tinygen.data.shapes_parser import best_shape, best_templates, centred, explained, nearest, within

# The way from the first to the second: x to the right, y downwards.
RELATIONS = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Centres are this far from the middle along the axis of the relation, and this much jittered along and across
# it; so both shapes are in a half of their own, and further apart along the axis than across.
APART, ALONG, ACROSS = 0.23, 0.05, 0.15
SMALLEST, LARGEST = 0.12, 0.16  # r


class Thing(NamedTuple):
    """One of the two: keys of `SHAPES` and `COLOURS`."""

    shape: str
    colour: str


@dataclass(frozen=True)
class Pair:
    """What a picture shows, in words: the relation is a key of `RELATIONS`."""

    first: Thing
    relation: str
    second: Thing

    def __post_init__(self) -> None:
        known: tuple[tuple[str, str, Any], ...] = (("relation", self.relation, RELATIONS),)
        for thing in (self.first, self.second):
            known += (("shape", thing.shape, SHAPES), ("colour", thing.colour, COLOURS))
        for attribute, word, words in known:
            if word not in words:
                raise ValueError(f"no {attribute} is called {word!r}: there are {', '.join(words)}")


THINGS = tuple(Thing(*words) for words in itertools.product(SHAPES, COLOURS))
PAIRS = tuple(Pair(*words) for words in itertools.product(THINGS, RELATIONS, THINGS))
SPLITS = {
    "train": tuple(pair for pair in PAIRS if not HELD_OUT & {pair.first, pair.second}),  # 1600
    "held_out": tuple(pair for pair in PAIRS if HELD_OUT & {pair.first, pair.second}),  # 704
}


def caption(pair: Pair) -> str:
    """The pair as a sentence: "a red circle left of a blue square"."""
    (shape, colour), (other, its) = pair.first, pair.second
    return f"a {colour} {shape} {pair.relation} a {its} {other}"


def parse_caption(text: str) -> Pair:
    """The pair whose caption this is; a ValueError if there is none."""
    match text.split():
        case ["a", colour, shape, *relation, "a", its, other]:
            return Pair(Thing(shape, colour), " ".join(relation), Thing(other, its))
    raise ValueError(f"not a caption: {text!r}; one looks like {caption(PAIRS[0])!r}")


def meaning(pair: Pair) -> Pair:
    """The same picture said with "left of" or "above"."""
    if pair.relation in ("left of", "above"):
        return pair
    return Pair(pair.second, OPPOSITE[pair.relation], pair.first)


# -- drawing ---------------------------------------------------------------------------------------


def centres(relations: Sequence[str]) -> tuple[Floats, Floats]:
    """The two middle places (N, 2, 2) of the centres x, y, and how far they may be from there, (N, 1, 2)."""
    towards = np.array([RELATIONS[relation] for relation in relations], float).reshape(-1, 1, 2)
    return 0.5 + APART * towards * [[-1], [1]], np.where(towards == 0, ACROSS, ALONG)


def draw(pairs: Sequence[Pair], side: int, rng: np.random.Generator) -> Pictures:
    """A picture of each pair, (N, 3, side, side); places, sizes and colours are jittered by `rng`."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {SIDES} pixels, got {side}")
    n = len(pairs)
    things = [(pair.first, pair.second) for pair in pairs]
    names = [[both[k].shape for both in things] for k in (0, 1)]
    middle, jitter = centres([pair.relation for pair in pairs])
    centre = middle + jitter * rng.uniform(-1, 1, (n, 2, 2))
    r = rng.uniform(SMALLEST, LARGEST, (n, 2, 1))
    ink = np.reshape([[COLOURS[thing.colour] for thing in both] for both in things], (n, 2, 3))
    ink = ink + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, (n, 2, 3))
    paper = BACKGROUND + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, (n, 3))
    covered = coverages(names, np.concatenate([centre, r], axis=2).swapaxes(0, 1), side)
    return paint(covered, ink, paper).astype(np.float32)


def coverages(names: Any, places: Floats, side: int) -> Floats:
    """How much of each pixel either shape covers, (N, 2, side, side); names (2, N), places (2, N, 3)."""
    return np.stack([coverage_of_each(names[k], places[k], side) for k in (0, 1)], axis=1)


def paint(covered: Floats, ink: Floats, paper: Floats) -> Floats:
    """Pictures (N, 3, H, W) in [-1, 1] of two shapes that are apart: coverages (N, 2, H, W), colours in
    [0, 1] of the shapes (N, 2, 3) and the paper (N, 3)."""
    shown: Floats = np.einsum("nkc,nkhw->nchw", ink - paper[:, None], covered) + paper[..., None, None]
    return 2 * shown - 1


def batch(n: int, side: int, rng: np.random.Generator, split: str = "train") -> tuple[Pictures, list[Pair]]:
    """Pictures (n, 3, side, side) and their n pairs, drawn uniformly and with replacement from a split.

    The splits are "train", 1600 pairs, and "held_out", 704: those with a held-out object, or two.
    """
    pairs = chosen(SPLITS, split, n, rng)
    return draw(pairs, side, rng), pairs


# -- reading ---------------------------------------------------------------------------------------


def read(pictures: ArrayLike) -> tuple[list[Pair], Floats]:
    """The `meaning` of each of N pictures (N, 3, side, side), values about [-1, 1]; a confidence each, (N,).

    The confidence is the share of the picture's variance that is explained by the nearest picture that `draw`
    could have made of those words.
    """
    return shapes_parser.in_chunks(read_chunk, pictures)


def accuracy(pictures: ArrayLike, pairs: Sequence[Pair]) -> dict[str, float]:
    """The fraction of pictures (N, 3, side, side) that show what the pairs say: the two shapes, the two
    colours, the two objects (each shape with its own colour), wherever they are; and all, with the relation.
    """
    found, _ = read(pictures)
    if len(found) != len(pairs) or not found:
        raise ValueError(f"one pair a picture, one at least: got {len(found)} pictures, {len(pairs)} pairs")
    aspects: dict[str, Callable[[Pair], Any]] = {
        "shapes": lambda pair: sorted((pair.first.shape, pair.second.shape)),
        "colours": lambda pair: sorted((pair.first.colour, pair.second.colour)),
        "objects": lambda pair: sorted((pair.first, pair.second)),
        "all": meaning,
    }
    return {
        name: float(np.mean([of(a) == of(b) for a, b in zip(found, pairs, strict=True)]))
        for name, of in aspects.items()
    }


def read_chunk(pictures: Floats) -> tuple[list[Pair], Floats]:
    """`read` without its checks, all pictures at once."""
    n, side = len(pictures), pictures.shape[-1]
    pixels = pictures.reshape(n, 3, -1)  # (N, 3, P)
    halves, coarse = in_halves(pictures)
    fits = [best_shape(halves[k].reshape(pixels.shape), coarse[k], side) for k in (0, 1)]
    shape, place = np.array([fit[0] for fit in fits]), np.stack([fit[1] for fit in fits])
    way = place[1, :, :2] - place[0, :, :2]  # (N, 2), from one to the other
    axis = abs(way).argmax(axis=1)
    swap = way[np.arange(n), axis] < 0
    shape = np.where(swap, shape[::-1], shape)  # (2, N): the first is left, or above
    place = np.where(swap[:, None], place[::-1], place)  # (2, N, 3)
    ink, paper = colours(coverages(shape, place, side), pixels)

    colour = nearest(ink.reshape(-1, 3), np.array(list(COLOURS.values()))).reshape(n, 2)
    relations = [("left of", "above")[a] for a in axis]
    first, second = (
        [Thing(str(name), list(COLOURS)[i]) for name, i in zip(shape[k], colour[:, k], strict=True)]
        for k in (0, 1)
    )
    pairs = [Pair(*words) for words in zip(first, relations, second, strict=True)]

    # What `draw` could have made: the same, but nothing further from the words than the jitter goes.
    middle, jitter = centres(relations)
    centre = within(place[..., :2], middle.swapaxes(0, 1), jitter.swapaxes(0, 1))
    r = np.clip(place[..., 2:], SMALLEST, LARGEST)
    ink = within(ink, np.array(list(COLOURS.values()))[colour], COLOUR_JITTER)
    paper = within(paper, [BACKGROUND] * n, COLOUR_JITTER)
    covered = coverages(shape, np.concatenate([centre, r], axis=2), side)
    return pairs, explained(pixels, paint(covered, ink, paper).reshape(pixels.shape))


def in_halves(pictures: Floats) -> tuple[Floats, Floats]:
    """The pictures cut in two between the shapes, left and right or top and bottom, and the other half filled
    with paper: (2, N, 3, side, side). And for each the best places of every shape, (2, shapes, N, 3)."""
    side = pictures.shape[-1]
    paper = np.median(pictures, axis=(2, 3), keepdims=True)  # the shapes cover less than half
    low = np.arange(side) < side / 2
    cuts = []
    for near in (low, low[:, None]):
        halves = [np.where(mask, pictures, paper) for mask in (near, ~near)]
        places, gains = zip(*(best_templates(half) for half in halves), strict=True)
        cuts.append((np.stack(halves), np.stack(places), sum(gain.max(axis=0) for gain in gains)))
    (beside, left_right, gain), (stacked, above_below, other) = cuts
    better = (other > gain)[:, None]  # (N, 1): where the horizontal cut is
    return np.where(better[..., None, None], stacked, beside), np.where(better, above_below, left_right)


def colours(covered: Floats, pixels: Floats) -> tuple[Floats, Floats]:
    """Inks (N, 2, 3) and paper (N, 3) in units of [0, 1] that fit `pixels` (N, 3, P) best by least squares,
    for coverages (N, 2, H, W)."""
    flat = covered.reshape(len(covered), 2, -1)
    c = centred(flat)
    normal = c @ c.swapaxes(1, 2)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2)  # both in one place?
    slope = np.linalg.solve(normal, c @ pixels.swapaxes(1, 2))  # (N, 2, 3)
    paper = pixels.mean(axis=2) - np.einsum("nkc,nk->nc", slope, flat.mean(axis=2))
    return (paper[:, None] + slope + 1) / 2, (paper + 1) / 2

"""Captioned shapes: small pictures of one colored shape, each with a sentence that describes it completely.

A `Scene` is four words: shape, color, size and position, 432 scenes in all. `draw` makes pictures of scenes,
each a little different, and `caption` their sentences; `shapes_parser.read` finds the words in any picture.
So a text-to-image model can be evaluated exactly, without a second model: does the picture match its
caption?

Four pairs of shape and color are held out: each of their words occurs in training, but never both together.
A model that draws them right has learned to compose.

Pictures are float32, (N, 3, side, side) with values in [-1, 1], rows from the top; a side is 16 or 32 pixels.
Lengths are in units of the side. A place is (x, y, r): the center, x to the right and y downwards, and half
the height. No shape touches the edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from tinygen.types import Floats, Pictures

T = TypeVar("T")

SIDES = (16, 32)
COLORS = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.15, 0.75, 0.20),
    "blue": (0.20, 0.30, 0.95),
    "yellow": (0.95, 0.85, 0.15),
    "purple": (0.80, 0.20, 0.80),
    "white": (0.95, 0.95, 0.95),
}
BACKGROUND = (0.10, 0.10, 0.10)
SIZES = {"small": 0.13, "large": 0.20}  # r
POSITIONS = {
    " ".join(word for word in (row, column) if word) or "centre": (x, y)
    for row, y in (("top", 0.25), ("", 0.50), ("bottom", 0.75))
    for column, x in (("left", 0.25), ("", 0.50), ("right", 0.75))
}

# Random deviations from these values, uniform and independent.
COLOR_JITTER = 0.05  # in each channel, of the shape and of the background
SIZE_JITTER = 0.01
POSITION_JITTER = 0.03  # in x and in y


class Band(NamedTuple):
    """A part of a shape in the square [-1, 1]², v downwards: the points with top <= v <= bottom and
    |u| <= width(v). All shapes are symmetric, left to right, and consist of such bands."""

    top: float
    bottom: float
    width: Callable[[Floats], Floats]


def constant_width(width: float) -> Callable[[Floats], Floats]:
    """The same width at every height."""
    return lambda v: np.full_like(v, width)


SHAPES = {
    "circle": (Band(-1, 1, lambda v: np.sqrt(np.maximum(1 - v**2, 0))),),
    "square": (Band(-1, 1, constant_width(1)),),
    "triangle": (Band(-1, 1, lambda v: (1 + v) / 2),),
    "cross": (
        Band(-1, -1 / 3, constant_width(1 / 3)),
        Band(-1 / 3, 1 / 3, constant_width(1)),
        Band(1 / 3, 1, constant_width(1 / 3)),
    ),
}

HELD_OUT = frozenset({("circle", "purple"), ("square", "yellow"), ("triangle", "blue"), ("cross", "green")})


@dataclass(frozen=True)
class Scene:
    """The content of a picture as words: keys of `SHAPES`, `COLORS`, `SIZES` and `POSITIONS`."""

    shape: str
    color: str
    size: str
    position: str

    def __post_init__(self) -> None:
        for attribute, known in (
            ("shape", SHAPES),
            ("color", COLORS),
            ("size", SIZES),
            ("position", POSITIONS),
        ):
            if (word := getattr(self, attribute)) not in known:
                raise ValueError(f"no {attribute} is called {word!r}: there are {', '.join(known)}")


SCENES = tuple(Scene(*words) for words in itertools.product(SHAPES, COLORS, SIZES, POSITIONS))
SPLITS = {
    "train": tuple(scene for scene in SCENES if (scene.shape, scene.color) not in HELD_OUT),  # 360
    "held_out": tuple(scene for scene in SCENES if (scene.shape, scene.color) in HELD_OUT),  # 72
}


def caption(scene: Scene) -> str:
    """The scene as a sentence: "a small red circle at the top left"."""
    return f"a {scene.size} {scene.color} {scene.shape} at the {scene.position}"


def parse_caption(text: str) -> Scene:
    """The scene with this caption; a ValueError if there is none."""
    match text.split():
        case ["a", size, color, shape, "at", "the", *position]:
            return Scene(shape, color, size, " ".join(position))
    raise ValueError(f"not a caption: {text!r}; one looks like {caption(SCENES[0])!r}")


# Nodes and weights of an integral over [0, 1].
NODES, WEIGHTS = (np.polynomial.legendre.leggauss(4) + np.array([[1.0], [0.0]])) / 2


def coverage(shape: str, place: Floats, side: int) -> Floats:
    """The fraction of each pixel that the shape covers: (N, side, side) for N places (N, 3) of x, y and r.

    The coverage of a pixel is an integral over its height of how far the pixel and the shape overlap there.
    The overlap of two intervals is exact; the integral is a Gauss-Legendre sum over the part of the row that
    a band reaches. That is exact for a square and a cross, within 0.01 for a triangle and 0.03 for a circle
    (0.003 in the root mean square), and it moves with x, y and r as smoothly as the shape does.
    """
    x, y, r = (place.T * side)[..., None, None, None]  # in pixels, each (N, 1, 1, 1)
    pixel = np.arange(side)
    row = pixel[:, None, None]  # (side, 1, 1): the axes are place, row, node, column from here on
    covered = np.zeros((len(x), side, side))
    for band in SHAPES[shape]:
        start = np.maximum(row, y + r * band.top)
        height = np.maximum(np.minimum(row + 1, y + r * band.bottom) - start, 0)
        w = r * band.width((start + height * NODES[:, None] - y) / r)
        overlap = np.maximum(np.minimum(pixel + 1, x + w) - np.maximum(pixel, x - w), 0)
        covered += np.einsum("nrkc,nrkc->nrc", overlap, height * WEIGHTS[:, None])
    return covered


def coverage_of_each(shapes: Sequence[str], place: Floats, side: int) -> Floats:
    """`coverage` (N, side, side) of N shapes, each at its place (N, 3)."""
    covered = np.empty((len(place), side, side))
    for shape in SHAPES:
        these = np.array([shape == other for other in shapes], bool)
        covered[these] = coverage(shape, place[these], side)
    return covered


class Parts(NamedTuple):
    """What a drawing is made of: places (N, 3) of x, y and r, and the colors of ink and paper, (N, 3)."""

    place: Floats
    ink: Floats
    paper: Floats


def jitter(
    scenes: Sequence[Scene], colors: Mapping[str, tuple[float, ...]] = COLORS, *, rng: np.random.Generator
) -> Parts:
    """The parts of a drawing of each scene, near the values of its words. `colors` gives the ink of each word
    for a color."""
    n = len(scenes)

    def jitter_around(values: list[tuple[float, ...]], width: int, jitter: float) -> Floats:
        return np.reshape(values, (n, width)) + rng.uniform(-jitter, jitter, (n, width))

    center = jitter_around([POSITIONS[scene.position] for scene in scenes], 2, POSITION_JITTER)
    r = jitter_around([(SIZES[scene.size],) for scene in scenes], 1, SIZE_JITTER)
    ink = jitter_around([colors[scene.color] for scene in scenes], 3, COLOR_JITTER)
    paper = jitter_around([BACKGROUND] * n, 3, COLOR_JITTER)
    return Parts(np.hstack([center, r]), ink, paper)


def draw_parts(scenes: Sequence[Scene], parts: Parts, side: int) -> Pictures:
    """The pictures (N, 3, side, side) of scenes whose parts are given."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {SIDES} pixels, got {side}")
    covered = coverage_of_each([scene.shape for scene in scenes], parts.place, side)
    return paint(covered, parts.ink, parts.paper).astype(np.float32)


def draw(scenes: Sequence[Scene], side: int, rng: np.random.Generator) -> Pictures:
    """A picture of each scene, (N, 3, side, side); place, size and both colors are jittered by `rng`."""
    return draw_parts(scenes, jitter(scenes, rng=rng), side)


def paint(covered: Floats, ink: Floats, paper: Floats) -> Floats:
    """Pictures (N, 3, H, W) in [-1, 1] of coverages (N, H, W), with colors in [0, 1], both (N, 3)."""
    picture = paper[..., None, None] + (ink - paper)[..., None, None] * covered[:, None]
    return 2 * picture - 1


def batch(n: int, side: int, rng: np.random.Generator, split: str = "train") -> tuple[Pictures, list[Scene]]:
    """Pictures (n, 3, side, side) and their n scenes, drawn uniformly and with replacement from a split.

    The splits are "train", 360 scenes, and "held_out", 72.
    """
    scenes = draw_from_split(SPLITS, split, n, rng)
    return draw(scenes, side, rng), scenes


def draw_from_split(
    splits: Mapping[str, Sequence[T]], split: str, n: int, rng: np.random.Generator
) -> list[T]:
    """n items of a split, drawn uniformly with replacement; a ValueError if the split is unknown or n < 0."""
    if split not in splits:
        raise ValueError(f"no split is called {split!r}: there are {', '.join(splits)}")
    if n < 0:
        raise ValueError(f"n must be 0 or more, got {n}")
    return [splits[split][i] for i in rng.integers(len(splits[split]), size=n)]

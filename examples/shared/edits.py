"""The tasks of `palette_shapes.py`: conditions and masks for pictures of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygen.data import shapes
from tinygen.data.luminance import EQUAL, grey
from tinygen.data.shapes import COLORS, SPLITS, Parts, Scene
from tinygen.types import Floats, Ids, Mask, Pictures

TASKS = ("colorize, named", "colorize", "colorize, equal luminance", "uncrop", "inpaint", "enlarge", "draw")
LABELS = {name: len(COLORS) + i for i, name in enumerate(TASKS[1:])}  # the first ones are the named colors
SIDE = 16  # pixels
FACTOR = 4  # of enlarging
REACH = 0.3  # of the hole to paint in, from the center of the shape; beyond every edge


class Edits(NamedTuple):
    """N pictures, and what the model sees of them."""

    pictures: Pictures  # (N, 3, side, side), the truth
    condition: Pictures  # (N, 3, side, side)
    mask: Mask  # (N, 1, side, side), True where the model draws
    labels: Ids  # (N,)

    def rows(self, i: Ids) -> Edits:
        """Those with the numbers i."""
        return Edits(self.pictures[i], self.condition[i], self.mask[i], self.labels[i])


def edits(
    tasks: Sequence[str], scenes: list[Scene], side: int, rng: np.random.Generator
) -> tuple[Edits, Parts]:
    """A picture of each scene with the condition of its task; and the parts of the pictures."""
    task = np.array(tasks)
    parts, other = shapes.jitter(scenes, rng=rng), shapes.jitter(scenes, EQUAL, rng=rng)
    equal = task == "colorize, equal luminance"
    parts = parts._replace(ink=np.where(equal[:, None], other.ink, parts.ink))
    pictures = shapes.draw_parts(scenes, parts, side)
    mask = np.ones((len(scenes), 1, side, side), bool)
    for name, hole in (("uncrop", beyond_a_line), ("inpaint", box)):
        chosen = task == name
        mask[chosen] = hole(parts.place[chosen], side, rng)
    condition = np.where(mask, np.float32(0), pictures)
    is_grey = np.char.startswith(task, "colorize")
    condition[is_grey] = grey(pictures[is_grey])
    condition[task == "enlarge"] = bicubic(reduce(pictures[task == "enlarge"]))
    named = [list(COLORS).index(scene.color) for scene in scenes]
    labels = np.where(task == TASKS[0], named, [LABELS.get(name, 0) for name in tasks])
    return Edits(pictures, condition, mask, labels), parts


def make(tasks: Sequence[str], split: str, rng: np.random.Generator) -> tuple[Edits, Parts, list[Scene]]:
    """A picture for each task, what the model sees of it, its parts and its scene."""
    scenes = shapes.draw_from_split(SPLITS, split, len(tasks), rng)
    return *edits(tasks, scenes, SIDE, rng), scenes


# -- holes -----------------------------------------------------------------------------------------


def beyond_a_line(place: Floats, side: int, rng: np.random.Generator) -> Mask:
    """Masks (N, 1, side, side), True left of, right of or above the center of the shape at `place` (N, 3).
    The pixel with the center stays, and at least half a pixel beyond, so that the tip of a triangle can be
    seen. All shapes are symmetric, left to right, and the lower half of each shows how large it is (the upper
    half of a triangle does not)."""
    left, right, up, _ = sides_of(place, side, 0.5)
    way = rng.integers(3, size=(len(place), 1, 1, 1))
    return np.choose(way, [np.broadcast_to(m, (len(place), 1, side, side)) for m in (left, right, up)])


def box(place: Floats, side: int, rng: np.random.Generator) -> Mask:
    """Masks (N, 1, side, side), True in a box with a corner at the center of the shape: a quarter of it is
    missing."""
    left, right, up, down = sides_of(place, side, 0)
    x, y = place[:, :2].T[..., None, None, None]
    at = (np.arange(side) + 0.5) / side
    near = (np.abs(at - x) < REACH) & (np.abs(at[:, None] - y) < REACH)
    ways = rng.random((2, len(place), 1, 1, 1)) < 0.5
    return near & np.where(ways[0], left, right) & np.where(ways[1], up, down)


def sides_of(place: Floats, side: int, beyond: float) -> tuple[Mask, Mask, Mask, Mask]:
    """The pixels that lie completely left of, right of, above and below a center, so many pixels `beyond` it:
    masks that broadcast to (N, 1, side, side)."""
    x, y = place[:, :2].T[..., None, None, None] * side
    start = np.arange(side)
    end = start + 1
    return (
        end <= x - beyond,
        start >= x + beyond,
        end[:, None] <= y - beyond,
        start[:, None] >= y + beyond,
    )


# -- small pictures ----------------------------------------------------------------------------------


def reduce(pictures: Pictures) -> Pictures:
    """Pictures (N, C, H, W) -> the means of squares of pixels, (N, C, H/4, W/4)."""
    n, c, h, w = pictures.shape
    return pictures.reshape(n, c, h // FACTOR, FACTOR, w // FACTOR, FACTOR).mean(axis=(3, 5))


def bicubic(pictures: Pictures) -> Pictures:
    """Pictures (N, C, H, W) enlarged to (N, C, 4H, 4W) by cubic convolution (Keys 1981)."""
    rows, columns = (bicubic_matrix(n) for n in pictures.shape[2:])
    return (rows @ pictures @ columns.T).astype(pictures.dtype)


def bicubic_matrix(n: int) -> Floats:
    """The matrix (4n, n) that makes 4n numbers of n. Each is a mean of the four nearest; beyond the edge the
    weights are left out, and the others made to sum up to 1."""
    at = (np.arange(FACTOR * n) + 0.5) / FACTOR - 0.5
    d = np.abs(at[:, None] - np.arange(n))  # (4n, n)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights = np.select([d < 1, d < 2], [near, far], 0.0)
    matrix: Floats = weights / weights.sum(axis=1, keepdims=True)
    return matrix

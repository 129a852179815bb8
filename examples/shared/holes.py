"""Holes in pictures of shapes, and measurements of how they are filled."""

from __future__ import annotations

import numpy as np

from tinygen.data.shapes import POSITIONS, Scene
from tinygen.judges.shapes_parser import read
from tinygen.types import Mask, Pictures

SURE = 0.8  # the share of a picture's variance that a drawing must explain


def holes(scenes: list[Scene], side: int) -> dict[str, Mask]:
    """Masks (N, 1, side, side), True where the picture stays. The edges of the hole go through the position
    of the shape, so that about the same part of each shape is missing."""
    x, y = np.transpose([POSITIONS[scene.position] for scene in scenes])[..., None, None, None]
    at = (np.arange(side) + 0.5) / side
    left, top = at < x, at[:, None] < y
    half = np.broadcast_to(left, (len(scenes), 1, side, side))
    return {"a quarter": left | top, "a half": half, "three quarters": left & top}


def share_read_right(pictures: Pictures, scenes: list[Scene]) -> float:
    """The share of pictures (N, 3, side, side) whose shape, color and size the parser reads as in the
    scenes, with a high confidence. Without this condition half a shape would often count as right."""
    found, confidence = read(pictures)
    same = [
        all(getattr(a, word) == getattr(b, word) for word in ("shape", "color", "size"))
        for a, b in zip(found, scenes, strict=True)
    ]
    return float(np.mean(same & (confidence > SURE)))


def error_in(hole: Mask, pictures: Pictures, truth: Pictures) -> float:
    """The root mean square error of the pixels in the hole, in units of the pictures' [-1, 1]."""
    squares = np.square(pictures - truth).mean(axis=1, keepdims=True)
    return float(np.sqrt(squares[hole].mean()))

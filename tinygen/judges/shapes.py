"""The features of pictures of shapes (`tinygen.data.shapes`) for a Fréchet distance (`frechet.py`).

The parser measures them in a picture. It has no learned parameters, so there is no judge to train, and the
distances in all tables have the same unit. The 13 features of a picture are

    the shares of its variance that a circle, a square, a triangle and a cross explain, each at the
        place where it explains most,
    the place of the best shape: x, y and radius, as fractions of the side,
    the colors of ink and paper: red, green and blue, in units of [0, 1].

The floor is the distance between two sets of real drawings of the same captions; the ceiling is the distance
between real drawings and noise. For 200 drawings, 16 × 16, the floor is 0.00053 and the ceiling 3.5. Real
drawings with red and green swapped have the distance 0.068.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tinygen.data.shapes import SHAPES, coverage_of_each
from tinygen.judges.shapes_parser import best_templates, fit_colors, read_in_chunks, refine, subtract_mean
from tinygen.types import Floats


def features(pictures: ArrayLike) -> Floats:
    """The features of N pictures (N, 3, side, side), values in about [-1, 1]: (N, 13). ValueError for arrays
    that are no pictures."""
    rows, _ = read_in_chunks(measure, pictures)
    return np.array(rows).reshape(len(rows), len(SHAPES) + 9)


def measure(pictures: Floats) -> tuple[list[Floats], Floats]:
    """The features of each of some pictures, and the share of the variance that the best shape explains."""
    n, _, side, _ = pictures.shape
    pixels = pictures.reshape(n, 3, side * side)  # (N, 3, P)
    coarse, _ = best_templates(pictures)
    found = [refine(name, pixels, coarse[i], side) for i, name in enumerate(SHAPES)]
    places, gains = np.stack([place for place, _ in found]), np.stack([gain for _, gain in found], axis=1)
    total = (subtract_mean(pixels) ** 2).sum(axis=(1, 2))  # (N,)
    shares = gains / np.maximum(total, 1e-12)[:, None]  # (N, shapes)
    best = shares.argmax(axis=1)  # (N,)
    place = places[best, np.arange(n)]  # (N, 3)
    ink, paper = fit_colors(coverage_of_each([list(SHAPES)[i] for i in best], place, side), pixels)
    return list(np.hstack([shares, place, ink, paper])), shares.max(axis=1)

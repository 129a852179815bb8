"""Reads pictures of `tinygen.data.shapes`: which shape, color, size and position? It fits them by least
squares, and has no learned parameters.

A picture is paper + (ink - paper) · coverage, in every channel, plus noise. For a given coverage the best
two colors follow from a linear regression, and the share of the picture's variance that they explain
measures how good the coverage is. So `read` looks for the shape and the place that explain most: first
among templates on a grid; then, from the best place for each shape, by Gauss-Newton steps (with the colors
projected out: Golub and Pereyra 1973). With Gaussian noise this is maximum likelihood.

It reads all drawings correctly. With added Gaussian noise, this is the percentage that is right in all four
words (five drawings of every scene), by the side in pixels, and by the noise's standard deviation in units
of the pictures' [-1, 1]:

    noise  0.1    0.2    0.3    0.5   0.75   1.0
    16     100.0  99.9   98.4   92.5  78.0   62.6
    32     100.0  100.0  100.0  99.8  98.5   96.2

The shape of small objects fails first. It assumes one object per picture: two objects lower the confidence.

Any blob is read as some scene. So a picture counts as read for sure only if its confidence is at least that
which 99 % of real drawings have when noise of standard deviation 0.1 is added (`SURE`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygen.data.shapes import (
    BACKGROUND,
    COLOR_JITTER,
    COLORS,
    POSITION_JITTER,
    POSITIONS,
    SHAPES,
    SIDES,
    SIZE_JITTER,
    SIZES,
    Scene,
    coverage,
    coverage_of_each,
    paint,
)
from tinygen.types import Floats

T = TypeVar("T")
GRID_SIDE = 16  # the templates are compared at this resolution
GRID_CENTERS = np.arange(3, 13.5, 0.5) / GRID_SIDE
GRID_RADII = (0.10, 0.12, 0.14, 0.17, 0.20, 0.23)
STEPS = 4  # of Gauss-Newton
LONGEST_STEP = 0.03
SMALL = 1e-4  # the step of a finite difference
LOWEST, HIGHEST = (0.1, 0.1, 0.06), (0.9, 0.9, 0.3)  # places that are looked at
CHUNK = 256  # pictures at a time
SURE = {16: 0.57, 32: 0.60}
"""By the side: the 1 % quantile of the confidence of real drawings with noise of standard deviation 0.1 (ten
drawings of every scene)."""


def read(pictures: ArrayLike) -> tuple[list[Scene], Floats]:
    """The scene in each of N pictures (N, 3, side, side), with values about [-1, 1]; a confidence each, (N,).

    The confidence is the share of the picture's variance explained by the nearest picture that `draw` could
    have made of that scene: 1 for a drawing, 0 for an empty picture. Noise lowers it even if the words are
    right; an unusual color, size or place lowers it, too.
    """
    return read_in_chunks(read_chunk, pictures)


def read_in_chunks(
    read_chunk: Callable[[Floats], tuple[list[T], Floats]], pictures: ArrayLike
) -> tuple[list[T], Floats]:
    """The results of `read_chunk` for all pictures, `CHUNK` at a time. ValueError for arrays that are no
    pictures."""
    pictures = np.asarray(pictures, np.float64)
    if pictures.ndim != 4 or pictures.shape[1:] not in [(3, side, side) for side in SIDES]:
        raise ValueError(
            f"pictures must be (N, 3, side, side) with side in {SIDES}, got {pictures.shape}"
            + (": a single picture is pictures[None]" if pictures.ndim == 3 else "")
        )
    if not np.isfinite(pictures).all():
        bad = np.flatnonzero(~np.isfinite(pictures).all(axis=(1, 2, 3)))
        raise ValueError(f"{len(bad)} pictures are not finite, the first is pictures[{bad[0]}]")
    scenes: list[T] = []
    confidences = [np.zeros(0)]
    for start in range(0, len(pictures), CHUNK):
        some, sure = read_chunk(pictures[start : start + CHUNK])
        scenes += some
        confidences.append(sure)
    return scenes, np.concatenate(confidences)


def accuracy(pictures: ArrayLike, scenes: Sequence[Scene]) -> dict[str, float]:
    """The fraction of pictures (N, 3, side, side) read as the scenes say, by attribute.

    Under "shape and color" is the fraction where both are right, under "all" where all four are; under
    "surely shape and color" and "surely all" the fraction where also the confidence is at least `SURE`.
    """
    shown, confidence = read(pictures)
    if len(shown) != len(scenes) or not shown:
        raise ValueError(
            f"one scene a picture, and at least one: got {len(shown)} pictures, {len(scenes)} scenes"
        )
    names = ("shape", "color", "size", "position")
    right = np.array(
        [[getattr(shown[i], k) == getattr(scene, k) for k in names] for i, scene in enumerate(scenes)]
    )
    sure = confidence >= SURE[np.shape(pictures)[-1]]
    found = {name: float(right[:, i].mean()) for i, name in enumerate(names)}
    for name, words in (("shape and color", right[:, :2]), ("all", right)):
        found[name] = float(words.all(axis=1).mean())
        found[f"surely {name}"] = float((words.all(axis=1) & sure).mean())
    return found


def read_chunk(pictures: Floats) -> tuple[list[Scene], Floats]:
    """`read` without its checks, all pictures at once."""
    n, _, side, _ = pictures.shape
    pixels = pictures.reshape(n, 3, side * side)  # (N, 3, P)
    coarse, _ = best_templates(pictures)
    names, place = best_shape(pixels, coarse, side)
    ink, paper = fit_colors(coverage_of_each(names, place, side), pixels)

    color = nearest_rows(ink, np.array(list(COLORS.values())))
    size = nearest_rows(place[:, 2:], np.array(list(SIZES.values()))[:, None])
    position = nearest_rows(place[:, :2], np.array(list(POSITIONS.values())))
    scenes = [
        Scene(names[i], list(COLORS)[color[i]], list(SIZES)[size[i]], list(POSITIONS)[position[i]])
        for i in range(n)
    ]

    # The nearest picture that `draw` could have made: move the values to within the jitter of the words.
    ink = clip_near(ink, [COLORS[scene.color] for scene in scenes], COLOR_JITTER)
    paper = clip_near(paper, [BACKGROUND] * len(scenes), COLOR_JITTER)
    center = clip_near(place[:, :2], [POSITIONS[scene.position] for scene in scenes], POSITION_JITTER)
    r = clip_near(place[:, 2:], [(SIZES[scene.size],) for scene in scenes], SIZE_JITTER)
    covered = coverage_of_each(names, np.hstack([center, r]), side)
    return scenes, explained_share(pixels, paint(covered, ink, paper).reshape(pixels.shape))


@cache
def templates() -> tuple[Floats, NDArray[np.float32]]:
    """The places on the grid (T, 3), and every shape's coverage there (shapes, T, P), mean 0 and norm 1."""
    axes = np.meshgrid(GRID_CENTERS, GRID_CENTERS, GRID_RADII)
    places = np.stack(axes, axis=-1).reshape(-1, 3)
    covered = np.stack([coverage(name, places, GRID_SIDE) for name in SHAPES])
    flat = subtract_mean(covered.reshape(len(SHAPES), len(places), GRID_SIDE**2))
    flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    templates = places, flat.astype(np.float32)
    for array in templates:
        array.flags.writeable = False
    return templates


def best_templates(pictures: Floats) -> tuple[Floats, Floats]:
    """For every shape and picture the place on the grid that explains most, (shapes, N, 3), and the share
    that it explains, (shapes, N)."""
    n, k = len(pictures), pictures.shape[-1] // GRID_SIDE
    small = pictures.reshape(n, 3, GRID_SIDE, k, GRID_SIDE, k).mean(axis=(3, 5))
    flat = subtract_mean(small.reshape(n * 3, GRID_SIDE**2)).astype(np.float32)
    places, covered = templates()
    gains = [((flat @ c.T) ** 2).reshape(n, 3, len(places)).sum(axis=1) for c in covered]  # each (N, T)
    return np.stack([places[gain.argmax(axis=1)] for gain in gains]), np.stack([g.max(axis=1) for g in gains])


def best_shape(pixels: Floats, coarse: Floats, side: int) -> tuple[list[str], Floats]:
    """The shape that explains most of each picture in `pixels` (N, 3, P), and its place (N, 3). Each shape
    is first refined from its place in `coarse` (shapes, N, 3)."""
    found = [refine(name, pixels, coarse[i], side) for i, name in enumerate(SHAPES)]
    shape = np.argmax([gain for _, gain in found], axis=0)  # (N,)
    place = np.stack([place for place, _ in found])[shape, np.arange(len(shape))]
    return [list(SHAPES)[i] for i in shape], place


def refine(shape: str, pixels: Floats, place: Floats, side: int) -> tuple[Floats, Floats]:
    """The place near `place` (N, 3) where the shape explains most of `pixels` (N, 3, P); how much, (N,)."""
    pixels = subtract_mean(pixels)
    best, most = place, np.full(len(place), -np.inf)
    for step in range(STEPS + 1):
        c = flat_coverage(shape, place, side)
        weight = (c * c).sum(axis=1)
        contrast = np.einsum("np,ncp->nc", c, pixels) / weight[:, None]  # the ink less the paper
        strength = (contrast**2).sum(axis=1)
        better = strength * weight > most
        best = np.where(better[:, None], place, best)
        most = np.where(better, strength * weight, most)
        if step == STEPS:
            break
        # The channels added up to the coverage that they would show if the contrast were right: c, and what
        # is left over. The columns are c, since the contrast may change too, and the slopes of c.
        observed = np.einsum("nc,ncp->np", contrast, pixels) / np.maximum(strength, 1e-12)[:, None]
        slopes = [(flat_coverage(shape, place + SMALL * axis, side) - c) / SMALL for axis in np.eye(3)]
        a = np.stack([c, *slopes], axis=1)  # (N, 4, P)
        normal = a @ a.swapaxes(1, 2)
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
        move = np.linalg.solve(normal, a @ (observed - c)[:, :, None])[:, 1:, 0]
        place = np.clip(place + np.clip(move, -LONGEST_STEP, LONGEST_STEP), LOWEST, HIGHEST)
    return best, most


def explained_share(pixels: Floats, drawn: Floats) -> Floats:
    """The share of the variance of pictures (N, 3, P) that drawings of them explain, (N,); at least 0."""
    left = ((pixels - drawn) ** 2).sum(axis=(1, 2))
    total = (subtract_mean(pixels) ** 2).sum(axis=(1, 2))
    return np.divide(total - left, total, out=np.zeros_like(total), where=left < total)


def fit_colors(covered: Floats, pixels: Floats) -> tuple[Floats, Floats]:
    """Ink and paper, both (N, 3) in units of [0, 1], that fit `pixels` (N, 3, P) best by least squares."""
    flat = covered.reshape(len(covered), pixels.shape[2])
    c = subtract_mean(flat)
    slope = np.einsum("np,ncp->nc", c, pixels) / (c * c).sum(axis=1)[:, None]
    paper = pixels.mean(axis=2) - slope * flat.mean(axis=1)[:, None]
    return (paper + slope + 1) / 2, (paper + 1) / 2


def flat_coverage(shape: str, place: Floats, side: int) -> Floats:
    """The coverage at places (N, 3) as rows (N, P) of mean 0."""
    return subtract_mean(coverage(shape, place, side).reshape(len(place), side * side))


def subtract_mean(x: Floats) -> Floats:
    """x less its mean over the last axis."""
    less: Floats = x - x.mean(axis=-1, keepdims=True)
    return less


def nearest_rows(x: Floats, values: Floats) -> NDArray[np.intp]:
    """For each row of x (N, d) the number of the nearest row of values (K, d)."""
    number: NDArray[np.intp] = ((x[:, None] - values) ** 2).sum(axis=-1).argmin(axis=1)
    return number


def clip_near(x: Floats, values: Any, jitter: float | Floats) -> Floats:
    """x (N, d), moved to the nearest point within `jitter` of values."""
    middle = np.reshape(values, x.shape)
    return np.clip(x, middle - jitter, middle + jitter)

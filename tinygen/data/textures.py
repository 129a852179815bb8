"""Procedural textures: patterns in color that a few lines of NumPy draw, for style transfer.

Each function draws one texture, a picture (3, side, side) of float32 in [-1, 1], rows from the top. What is
random in it, such as the places of brush strokes, comes from `rng`; the colors are fixed. `TEXTURES` has all
of them by name.

Most are built on gradient noise (Perlin 1985, *An image synthesizer*; Perlin 2002, *Improving noise*): a
smooth random function whose details have about one size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from tinygen.types import Float32s, Floats

NIGHT = ("#0b1b3f", "#1d4e9e", "#4f9bd9", "#e9e4b0", "#f2b632", "#1d4e9e")
AUTUMN = ("#7a1f1d", "#d1491f", "#f29b30", "#f7d98b", "#2e6f73", "#133a4a")
GLASS = ("#c2272d", "#f4b41a", "#1b6ca8", "#2e8b57", "#7d3c98", "#f0e6d2", "#e8742c")
TILES = ("#f3efe0", "#d8412f", "#1f2a44", "#f3efe0", "#e6b422", "#2a7f8e")
MARBLE = ("#20262e", "#5d6d7e", "#d5d0c4", "#f7f3ea", "#c49a4a", "#f7f3ea")


def rgb(color: str) -> Floats:
    """A color as in HTML, "#rrggbb", as three numbers in [-1, 1], (3,)."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 127.5 - 1


def blend(values: Floats, colors: tuple[str, ...]) -> Float32s:
    """Colors for values (H, W) in [0, 1]: 0 is the first color, 1 the last, the rest lies evenly between and
    is interpolated. (3, H, W)."""
    stops = np.linspace(0, 1, len(colors))
    table = np.stack([rgb(color) for color in colors], axis=1)  # (3, K)
    return np.stack([np.interp(values, stops, channel) for channel in table]).astype(np.float32)


# -- noise -------------------------------------------------------------------------------------------


def gradient_noise(side: int, cells: int, *, rng: np.random.Generator) -> Floats:
    """Gradient noise (side, side), about in [-1, 1]: `cells` × `cells` squares, and at each corner a random
    direction. It is 0 at the corners, and periodic.

    Eq.: n(x, y) = Σ_ij s(x - i) s(y - j) g_ij · (x - i, y - j),  s(t) = 1 - 6|t|⁵ + 15t⁴ - 10|t|³
        (Perlin 1985; the polynomial: Perlin 2002)
    Held by: tests/data/test_textures.py::test_gradient_noise_by_hand
    """
    angles = rng.uniform(0, 2 * np.pi, (cells, cells))
    slopes = np.cos(angles), np.sin(angles)  # across and down
    place = np.arange(side) * cells / side
    noise = np.zeros((side, side))
    for down, across in product((0, 1), repeat=2):
        rows, columns = (place.astype(int) + down)[:, None], place.astype(int) + across
        y, x = place[:, None] - rows, place - columns
        g_x, g_y = (slope[rows % cells, columns % cells] for slope in slopes)
        noise += fade(x) * fade(y) * (g_x * x + g_y * y)
    return noise


def fade(t: Floats) -> Floats:
    """Falls from 1 at t = 0 to 0 at ±1, with both derivatives 0 at the ends."""
    t = np.abs(t)
    return 1 - t * t * t * (t * (6 * t - 15) + 10)


def fractal_noise(side: int, cells: int, octaves: int, *, rng: np.random.Generator) -> Floats:
    """A sum of gradient noises (side, side): each octave has details of half the size and half the height."""
    return np.sum(
        [gradient_noise(side, cells * 2**k, rng=rng) / 2**k for k in range(octaves)], axis=0, dtype=np.float64
    )


def grid(side: int) -> tuple[Floats, Floats]:
    """The places y, x of the pixels' centers in [0, 1]: (side, 1) and (side,)."""
    place = (np.arange(side) + 0.5) / side
    return place[:, None], place


# -- textures ----------------------------------------------------------------------------------------


def waves(side: int, *, rng: np.random.Generator) -> Float32s:
    """Bands that bend around one another, as in a painted night sky."""
    y, x = grid(side)
    bend = fractal_noise(side, 3, 2, rng=rng)
    phase = 9 * y + 2 * x + 3.2 * bend
    fine = 0.12 * gradient_noise(side, max(1, side // 8), rng=rng)
    return blend(np.clip(0.5 + 0.5 * np.sin(2 * np.pi * phase) + fine, 0, 1), NIGHT)


def strokes(side: int, *, rng: np.random.Generator) -> Float32s:
    """Short brush strokes, one over another, along a field of directions."""
    flow = np.pi * fractal_noise(side, 2, 2, rng=rng)
    tone = 0.5 + 0.8 * fractal_noise(side, 2, 3, rng=rng)
    picture = np.broadcast_to(rgb(AUTUMN[0])[:, None, None], (3, side, side)).copy()
    rows, columns = np.mgrid[:side, :side]
    for place in rng.integers(side, size=(side * side // 24, 2)):
        angle = flow[tuple(place)] + rng.normal(0, 0.15)
        length, width = rng.uniform(0.05, 0.09) * side, rng.uniform(0.010, 0.018) * side
        value = np.clip(tone[tuple(place)] + rng.normal(0, 0.16), 0, 1)
        reach = int(length) + 1
        top, left = (max(0, p - reach) for p in place)
        window = (slice(top, place[0] + reach), slice(left, place[1] + reach))
        dy, dx = rows[window] - place[0], columns[window] - place[1]
        along, beside = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = (along / length) ** 2 + (beside / width) ** 2
        cover = np.clip(2 * (1 - inside), 0, 1)
        shine = 0.25 * np.cos(np.pi * beside / width)  # ridges of the paint
        color = blend(np.array([[value]]), AUTUMN)  # (3, 1, 1)
        part = picture[:, *window]
        part += cover * (color + shine - part)
    return np.clip(picture, -1, 1).astype(np.float32)


def cells(side: int, *, rng: np.random.Generator) -> Float32s:
    """Voronoi cells with dark borders, as a window of colored glass."""
    y, x = grid(side)
    corners = np.array(list(product(range(-1, 13), repeat=2)))
    points = (corners + rng.uniform(0.05, 0.95, corners.shape)) / 12
    colors = np.stack([rgb(GLASS[k]) for k in rng.integers(len(GLASS), size=len(points))], axis=1)
    distance = np.sqrt((y - points[:, 0, None, None]) ** 2 + (x - points[:, 1, None, None]) ** 2)
    nearest = distance.argmin(axis=0)
    first, second = np.partition(distance, 1, axis=0)[:2]
    lead = np.clip((second - first) * 110 - 0.6, 0, 1)  # 0 on a border
    light = 1 + 0.35 * fractal_noise(side, 6, 3, rng=rng)
    glass = (colors[:, nearest] + 1) * light * (1 - 3 * first) - 1
    return np.clip(lead * (glass + 1) - 1 + 0.08, -1, 1).astype(np.float32)


def checkers(side: int, *, rng: np.random.Generator) -> Float32s:
    """Squares in some colors, slightly bent, as tiles that were laid by hand."""
    y, x = grid(side)
    bend = 0.05 * np.stack([gradient_noise(side, 4, rng=rng) for _ in range(2)])
    angle = 0.5
    u = 12 * (np.cos(angle) * (x + bend[0]) - np.sin(angle) * (y + bend[1])) + 20
    v = 12 * (np.sin(angle) * (x + bend[0]) + np.cos(angle) * (y + bend[1])) + 20
    kinds = rng.integers(len(TILES), size=(64, 64))
    colors = np.stack([rgb(color) for color in TILES], axis=1)[:, kinds[u.astype(int), v.astype(int)]]
    edge = np.minimum.reduce([u % 1, 1 - u % 1, v % 1, 1 - v % 1])
    tile = np.clip(12 * edge - 0.4, 0, 1)
    return np.clip(tile * (colors + 1) - 1 + 0.2 * (1 - tile), -1, 1).astype(np.float32)


def marble(side: int, *, rng: np.random.Generator) -> Float32s:
    """Veins of stone: waves whose phase is fractal noise."""
    y, x = grid(side)
    phase = 4 * x + 2 * y + 1.6 * fractal_noise(side, 3, 4, rng=rng)
    return blend(0.5 + 0.5 * np.sin(2 * np.pi * phase), MARBLE)


TEXTURES: dict[str, Callable[..., Float32s]] = {
    "waves": waves,
    "strokes": strokes,
    "cells": cells,
    "checkers": checkers,
    "marble": marble,
}

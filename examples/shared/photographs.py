"""Photographs for the examples: scikit-learn's two, any file, and patches of them with the place that each
comes from. Pictures are float32 in [-1, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinygen.data.textures import TEXTURES

PATCH = 40  # pixels
ROWS, COLUMNS = 3, 4  # each photograph is cut into so many places
HEIGHT, WIDTH = 214, 320  # of a photograph of which patches are drawn
TEXTURE_SIDE, TEXTURES_OF_A_KIND = 160, 4


def load_photographs(side: int) -> list[Any]:
    """scikit-learn's photographs, a temple and a flower, each (1, 3, side, side)."""
    from sklearn.datasets import load_sample_images

    return [as_square(pixels, side) for pixels in load_sample_images().images]


def read_picture(path: str | Path, side: int) -> Any:
    """The middle of the picture in a file, (1, 3, side, side). Raises OSError for a file that is none."""
    from PIL import Image

    with Image.open(path) as image:
        return as_square(np.asarray(image.convert("RGB")), side)


def as_square(pixels: Any, side: int) -> Any:
    """The square in the middle of bytes (H, W, 3), (1, 3, side, side)."""
    h, w = pixels.shape[:2]
    short = min(h, w)
    top, left = (h - short) // 2, (w - short) // 2
    return resized(pixels[top : top + short, left : left + short], side, side)[None]


def resized(pixels: Any, height: int, width: int) -> Any:
    """Bytes (H, W, 3) as a picture (3, height, width)."""
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.LANCZOS)
    return (np.asarray(small, np.float32).transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)


class Patches:
    """Patches, each of a class: a place of a photograph, or a kind of texture."""

    def __init__(self, rng: np.random.Generator) -> None:
        from sklearn.datasets import load_sample_images

        photographs = [resized(pixels, HEIGHT, WIDTH) for pixels in load_sample_images().images]
        h, w = HEIGHT // ROWS, WIDTH // COLUMNS
        self.sources = [  # of each class the pictures
            [whole[:, i * h : (i + 1) * h, j * w : (j + 1) * w]]
            for whole in photographs
            for i in range(ROWS)
            for j in range(COLUMNS)
        ]
        for texture in TEXTURES.values():
            self.sources.append([texture(TEXTURE_SIDE, rng=rng) for _ in range(TEXTURES_OF_A_KIND)])
        self.classes = len(self.sources)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """n patches (n, 3, PATCH, PATCH) and their classes (n,). Half of them are mirrored, and each has
        another contrast and tint, and noise: so that colors alone do not tell the class."""
        labels = rng.integers(self.classes, size=n)
        patches = np.empty((n, 3, PATCH, PATCH), np.float32)
        for patch, label in zip(patches, labels, strict=True):
            source = self.sources[label][rng.integers(len(self.sources[label]))]
            top, left = (rng.integers(length - PATCH + 1) for length in source.shape[1:])
            cut = source[:, top : top + PATCH, left : left + PATCH]
            patch[...] = cut[:, :, :: rng.choice([-1, 1])]
        contrast, tint = rng.uniform(0.7, 1.1, (n, 1, 1, 1)), rng.uniform(-0.2, 0.2, (n, 3, 1, 1))
        noise = rng.normal(0, 0.05, patches.shape)
        return (patches * contrast + tint + noise).astype(np.float32), labels

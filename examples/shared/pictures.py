"""What the examples that make pictures share: grids of them as PNG, films as GIF, and the final table.

Pictures are (N, C, H, W) with values in [-1, 1], of one channel (grey) or three (RGB).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

GAP = 2  # pixels between pictures
PAPER = 255


def grid(pictures: Any, columns: int, scale: int = 4) -> NDArray[np.uint8]:
    """One picture (rows, width, 3) of bytes, of pictures (N, C, H, W) side by side in rows of `columns`, each
    of their pixels as a square of `scale` × `scale`."""
    n, channels, h, w = pictures.shape
    if channels not in (1, 3):
        raise ValueError(f"pictures must have 1 channel or 3, got {pictures.shape}")
    shades = np.clip((np.asarray(pictures, np.float64) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    shades = np.broadcast_to(shades, (n, 3, h, w)).transpose(0, 2, 3, 1)  # (N, H, W, 3)
    shades = shades.repeat(scale, axis=1).repeat(scale, axis=2)
    rows = -(-n // columns)
    down, across = h * scale + GAP, w * scale + GAP
    whole = np.full((rows * down + GAP, columns * across + GAP, 3), PAPER, np.uint8)
    for i, shade in enumerate(shades):
        top, left = (i // columns) * down + GAP, (i % columns) * across + GAP
        whole[top : top + h * scale, left : left + w * scale] = shade
    return whole


def save_grid(path: Path, pictures: Any, columns: int, scale: int = 4) -> None:
    """`grid` as a PNG."""
    from PIL import Image

    Image.fromarray(grid(pictures, columns, scale)).save(path)


def save_film(path: Path, frames: Sequence[Any], columns: int, scale: int = 4) -> None:
    """A GIF that shows `frames`, each pictures (N, C, H, W), twelve a second, and the last one for longer."""
    from PIL import Image

    pictures = [Image.fromarray(grid(frame, columns, scale)).quantize(64) for frame in frames]
    durations = [83] * (len(pictures) - 1) + [1500]  # ms
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


class Figure(NamedTuple):
    """A row of the final table: what was measured, what to expect of it ("≥ 95 %"), and between what it may
    lie: the best that is possible or known, and what knowing nothing gives."""

    name: str
    measured: float
    expected: str = ""
    best: float | None = None
    worst: float | None = None


def table(figures: Sequence[Figure]) -> str:
    """The final table, a row a figure."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    lines = [f"{'':44}{'measured':>10}{'expected':>12}{'best':>10}{'worst':>10}"]
    for name, measured, expected, best, worst in figures:
        lines.append(
            f"{name:44}{number(measured):>10}{expected:>12}{number(best):>10}{number(worst):>10}".rstrip()
        )
    return "\n".join(lines)

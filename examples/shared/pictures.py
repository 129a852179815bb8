"""Grids of pictures as PNG, and films as GIF, for the examples.

Pictures are (N, C, H, W) with values in [-1, 1], of one channel (gray) or three (RGB).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 2  # pixels between pictures
PAPER, INK = 255, (60, 60, 60)
LINE = 20  # pixels, of a line of text


def grid(pictures: Any, columns: int, scale: int = 4) -> NDArray[np.uint8]:
    """One picture (height, width, 3) of bytes: the pictures (N, C, H, W) in rows of `columns`, each of
    their pixels drawn as a square of `scale` × `scale`."""
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


def add_labels(
    whole: NDArray[np.uint8], title: str, rows: Sequence[str], columns: Sequence[str], foot: str
) -> NDArray[np.uint8]:
    """A grid with a title above it, labels beside its rows and above its columns, and a line below."""
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    left = max([0, *(round(font.getlength(label)) + 10 for label in rows)])
    top = LINE * (bool(title) + bool(columns))
    height, width = whole.shape[:2]
    wide = max(left + width, *(round(font.getlength(text)) + 8 for text in (title, foot)))
    image = Image.new("RGB", (wide, top + height + (LINE if foot else 0)), (PAPER,) * 3)
    image.paste(Image.fromarray(whole), (left, top))
    draw = ImageDraw.Draw(image)
    draw.text((4, 2), title, INK, font)
    draw.text((4, top + height + 2), foot, INK, font)
    for i, label in enumerate(columns):
        draw.text((left + (i + 0.5) * width / len(columns), top - 3), label, INK, font, anchor="md")
    for i, label in enumerate(rows):
        draw.text((left - 6, top + (i + 0.5) * height / len(rows)), label, INK, font, anchor="rm")
    return np.asarray(image)


def save_grid(
    path: Path,
    pictures: Any,
    columns: int,
    scale: int = 4,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> None:
    """Save `grid` as a PNG. With a title or labels, a line below the grid gives the scale."""
    from PIL import Image

    whole = grid(pictures, columns, scale)
    if title or row_labels or column_labels:
        h, w = pictures.shape[2:]
        foot = f"{len(pictures)} pictures of {h} × {w} pixels, a pixel drawn as {scale} × {scale}"
        whole = add_labels(whole, title, row_labels, column_labels, foot)
    Image.fromarray(whole).save(path)


def save_film(path: Path, frames: Sequence[Any], columns: int, scale: int = 4) -> None:
    """Save a GIF of `frames`, each of them pictures (N, C, H, W), at twelve frames a second; the last one
    stays longer."""
    from PIL import Image

    pictures = [Image.fromarray(grid(frame, columns, scale)).quantize(64) for frame in frames]
    durations = [83] * (len(pictures) - 1) + [1500]  # ms
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)

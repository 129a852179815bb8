"""Helpers of `controlnet_shapes.py`: outlines of drawings, and how well other drawings fill them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared.captioned import SIDE, SPLITS
from shared.measures import psnr
from shared.pictures import save_grid
from shared.table import Figure, at_least

from tinygen.data.shapes import COLORS, batch, caption
from tinygen.judges.shapes_parser import read

STRENGTHS = (0.0, 0.5, 1.0)
INK = 16  # pixels: fewer than the smallest shape has
COLUMNS = 8  # of the picture


def outlines(pictures: Any) -> Any:
    """Outlines (N, 1, H, W) of pictures (N, C, H, W): the length of the colors' gradient, divided by its
    largest in the picture. So they tell where the edges are, and nothing of the colors."""
    down, right = np.gradient(pictures, axis=(2, 3))
    length = np.sqrt((down**2 + right**2).sum(axis=1, keepdims=True))
    return (length / length.max(axis=(2, 3), keepdims=True)).astype(np.float32)


def filled(pictures: Any) -> Any:
    """Which pixels of pictures (N, C, H, W) are nearer to the ink than to the paper, (N, H, W). The paper is
    the median color, the ink as far from it as the pixels that differ most."""
    paper = np.median(pictures, axis=(2, 3), keepdims=True)
    distance = np.linalg.norm(pictures - paper, axis=1)
    most = np.sort(distance.reshape(len(pictures), -1))[:, -INK:].mean(axis=1)
    return distance > most[:, None, None] / 2


def overlap(pictures: Any, others: Any) -> Any:
    """Intersection over union of what is filled in each of two lists of pictures, (N,)."""
    one, two = filled(pictures), filled(others)
    return (one & two).sum(axis=(1, 2)) / (one | two).sum(axis=(1, 2))


def measure(drawn: Any, pictures: Any, scenes: Sequence[Any]) -> dict[str, float]:
    """How the drawings fill the shapes of the pictures, whether in the colors of the scenes."""
    ious, (seen, _) = overlap(drawn, pictures), read(drawn)
    return {
        "iou": float(ious.mean()),
        "filled": float((ious >= 0.9).mean()),
        "color": float(np.mean([a.color == b.color for a, b in zip(seen, scenes, strict=True)])),
    }


def judge_control(
    draw: Callable[..., Any], copy: Callable[[Any], Any], count: int, seed: int
) -> dict[str, Any]:
    """The measures of `draw(captions, hints, strength)` for both splits and all strengths; of drawings
    without a caption; of the copies that the autoencoder makes."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        pictures, scenes = batch(count, SIDE, np.random.default_rng(seed), split)
        captions, hints = [caption(scene) for scene in scenes], outlines(pictures)
        drawn = {f"{s:g}": draw(captions, hints, s) for s in STRENGTHS}
        drawn |= {"copies": copy(pictures), "no caption": draw([""] * count, hints, 1.0)}
        found[split] = {name: measure(each, pictures, scenes) for name, each in drawn.items()}
        found[split]["psnr"] = psnr(drawn["copies"], pictures)
        found[split]["psnr of mean picture"] = psnr(pictures.mean(axis=0), pictures)
    return found


def figures_of(found: dict[str, Any]) -> list[Figure]:
    """The final table. The baseline is strength 0: the latent diffusion, which sees the caption alone; the
    ceiling are the autoencoder's copies."""
    unseen, mean = (found["held_out"][name] for name in ("psnr", "psnr of mean picture"))
    rows = [Figure("autoencoder: PSNR of unseen pictures, dB", unseen, at_least(30), None, mean)]
    for split, title in SPLITS.items():
        of = found[split]
        for name, text, scale, expected in (
            ("iou", "IoU with the outline's shape", 1, at_least(0.9)),
            ("filled", "IoU of at least 0.9 (%)", 100, None),
            ("color", "the caption's color (%)", 100, at_least(95)),
        ):
            one, copies, none = (scale * of[row][name] for row in ("1", "copies", "0"))
            rows.append(Figure(f"{title}: {text}", one, expected, copies, none))
        rows.append(Figure(f"{title}, strength 0.5: IoU", of["0.5"]["iou"]))
        rows.append(Figure(f"{title}, without a caption: IoU", of["no caption"]["iou"]))
    return rows


def save_sweep(path: Path, draw: Callable[..., Any], seed: int) -> None:
    """Save a picture: outlines, and what is drawn in each strength, always from the same noise. The captions
    ask for one color after the other."""
    pictures, scenes = batch(COLUMNS, SIDE, np.random.default_rng(seed))
    colors = [list(COLORS)[i % len(COLORS)] for i in range(COLUMNS)]
    captions = [
        caption(scene).replace(scene.color, color) for scene, color in zip(scenes, colors, strict=True)
    ]
    hints = outlines(pictures)
    rows = [2 * np.repeat(hints, 3, axis=1) - 1, *(draw(captions, hints, s) for s in STRENGTHS)]
    labels = ["outline", *(f"strength {s:g}" for s in STRENGTHS)]
    save_grid(
        path,
        np.concatenate(rows),
        COLUMNS,
        4,
        "The same noise, and captions with these colors",
        labels,
        colors,
    )

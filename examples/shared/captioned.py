"""Helpers of the examples that draw `tinygen.data.shapes` from captions. A parser without learned parameters
reads the drawings, for every guidance scale; other functions save the drawings and the steps that lead to
them from noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
from shared.measures import psnr
from shared.pictures import save_film, save_grid
from shared.plots import panels
from shared.table import Figure, at_least
from tqdm import tqdm

from tinygen.data import shapes
from tinygen.data.shapes import Scene, batch, caption
from tinygen.judges.shapes_parser import accuracy, read

SENTENCES = [caption(scene) for scene in shapes.SCENES]
WORDS = tuple(dict.fromkeys(word for sentence in SENTENCES for word in sentence.split()))
SIDE = 32  # pixels
GUIDANCE = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
BOTH = "shape and color"
SPLITS = {"train": "pairs as in training", "held_out": "pairs never seen"}
SURELY = f"surely {BOTH}"  # the parser's confidence is high enough, too
EXPECTED = {"train": at_least(95), "held_out": at_least(80)}  # of SURELY, in per cent


def judge_drawings(
    draw: Callable[[list[str], float], Any], copy: Callable[[Any], Any], count: int, seed: int
) -> dict[str, Any]:
    """The shares of drawings by `draw(captions, scale)` that the parser reads correctly, for both splits
    and every guidance scale; the same for real pictures, and for their reconstructions by the autoencoder,
    `copy(pictures)`."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        pictures, scenes = batch(count, SIDE, np.random.default_rng(seed), split)
        copies, captions = copy(pictures), [caption(scene) for scene in scenes]
        found[split] = {
            "psnr": psnr(copies, pictures),
            "psnr of mean picture": psnr(pictures.mean(axis=0), pictures),
            "drawings": accuracy(pictures, scenes),
            "copies": accuracy(copies, scenes),
        }
        for scale in tqdm(GUIDANCE, desc=f"judging {split}"):
            found[split][f"{scale:g}"] = accuracy(draw(captions, scale), scenes)
    return found


def figures_of(found: dict[str, Any]) -> tuple[float, list[Figure]]:
    """The best guidance scale in the sweep, and the final table for it. The baseline of the shares is
    guidance 0, which ignores the caption."""
    best = max(GUIDANCE, key=lambda s: sum(found[split][f"{s:g}"][SURELY] for split in SPLITS))
    unseen, mean = (found["held_out"][name] for name in ("psnr", "psnr of mean picture"))
    rows = [Figure("autoencoder: PSNR of unseen pictures, dB", unseen, at_least(30), None, mean)]
    for split, title in SPLITS.items():
        for name in (SURELY, BOTH, "shape", "color", "size", "position", "all", "surely all"):
            expected = EXPECTED[split] if name == SURELY else None
            shares = [100 * found[split][row][name] for row in (f"{best:g}", "copies", "0")]
            rows.append(Figure(f"{title}: {name} (%)", shares[0], expected, *shares[1:]))
        for scale in GUIDANCE:
            for name in (SURELY, BOTH):
                share = 100 * found[split][f"{scale:g}"][name]
                rows.append(Figure(f"{title}, guidance {scale:g}: {name} (%)", share))
    return best, rows


def draw_sweep(path: Path, found: dict[str, Any]) -> None:
    """Plot the shares of correct drawings over the guidance scale, a panel for each split."""
    with panels(path, len(SPLITS), (9, 3.6), sharey=True) as both:
        for axes, (split, title) in zip(both, SPLITS.items(), strict=True):
            for name in ("shape", "color", "size", "position", BOTH):
                style = {"lw": 2.4, "color": "black"} if name == BOTH else {"lw": 1.2}
                shares = [found[split][f"{s:g}"][name] for s in GUIDANCE]
                axes.plot(GUIDANCE, shares, "o-", ms=3, label=name, **style)
            axes.set(title=title, xlabel="guidance scale", ylim=(0, 1.02))
        both[0].set_ylabel("share of pictures read as in the caption")
        both[0].legend(frameon=False)


def all_pairs() -> list[str]:
    """A caption for every shape in every color; sizes and positions alternate."""
    rest = cycle(product(shapes.SIZES, shapes.POSITIONS))
    return [caption(Scene(*pair, *next(rest))) for pair in product(shapes.SHAPES, shapes.COLORS)]


def save_drawings(folder: Path, prompts: list[str], frames: Sequence[Any], title: str) -> None:
    """Save prompts.png, a grid of the drawings; denoising.gif, a film from noise to them; denoising.png,
    the same for four prompts. Print how the parser reads each drawing. `frames` are pictures (N, 3, H, W)
    of all prompts, from noise to the drawings."""
    columns = len(shapes.COLORS)
    names = [tuple(shapes.SHAPES), tuple(shapes.COLORS)] if prompts == all_pairs() else []
    save_grid(folder / "prompts.png", frames[-1], columns, 4, title, *names)
    save_film(folder / "denoising.gif", frames, columns, scale=2)
    times = np.linspace(0, len(frames) - 1, 8).astype(int)
    some = np.linspace(0, len(prompts) - 1, min(4, len(prompts))).astype(int)
    strip = np.stack(frames, axis=1)[some][:, times].reshape(-1, *frames[0].shape[1:])
    labels = ([prompts[i] for i in some], [f"step {t}" for t in times])
    save_grid(folder / "denoising.png", strip, len(times), 4, "From noise to a picture", *labels)
    scenes, sure = read(frames[-1])
    for prompt, scene, confidence in zip(prompts, scenes, sure, strict=True):
        print(f"{prompt:44} is read as {caption(scene)!r}, {confidence:.0%} sure")
    print(f"the pictures are in {folder}/: prompts.png, denoising.gif, denoising.png")

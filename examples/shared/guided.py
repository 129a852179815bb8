"""Helpers of `clip_guided_shapes.py`: three ways to draw captions with as many evaluations of networks, and
what a parser without learned parameters reads in the drawings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from shared.captioned import BOTH, SPLITS, SURELY
from shared.contrast import ids_of
from shared.measures import interval
from shared.table import Figure, at_least

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data import shapes
from tinygen.data.shapes import batch, caption
from tinygen.diffusion import (
    Process,
    classifier_free_guidance,
    clip_guidance,
    ddim,
    evenly_spaced,
    last_state,
)
from tinygen.judges.frechet import frechet
from tinygen.judges.shapes import features
from tinygen.judges.shapes_parser import accuracy
from tinygen.nn import ModuleList

SIDE = 16  # pixels
WAYS = {"unguided": 1, "CLIP-guided": 4, "classifier-free": 2}
"""The evaluations in a step: CLIP-guided are the UNet, CLIP, and CLIP's backward pass, which counts two."""
EXPECTED = {"train": at_least(80)}  # of SURELY, in per cent, by CLIP


def lead(way: str, models: ModuleList, process: Process, captions: list[str], args: Any) -> Any:
    """The model that draws captions in this way, a function of x and t."""
    unet, clip, denoiser = models
    if way == "unguided":
        return unet
    with no_grad():
        if way == "CLIP-guided":
            texts = clip.text_vectors(ids_of(captions)).data
            return clip_guidance(process, unet, clip.image_vectors, texts, args.clip_scale)
        (context, mask), (empty, none) = denoiser.text_encoder(captions), denoiser.text_encoder([""])
    return classifier_free_guidance(denoiser, (context.data, mask), (empty.data, none), args.guidance)


def draw(way: str, models: ModuleList, captions: list[str], args: Any, seed: int) -> Any:
    """A drawing (N, 3, 16, 16) for each caption, by DDIM, from the noise of a seed."""
    process = models[1].process.respace(evenly_spaced(args.timesteps, args.evaluations // WAYS[way]))
    noise = np.random.default_rng(seed).standard_normal((len(captions), 3, SIDE, SIDE), np.float32)
    drawn = []
    for i in range(0, len(captions), 125):
        model = lead(way, models, process, captions[i : i + 125], args)
        x = last_state(ddim(process, model, to_device(noise[i : i + 125], args.device), clip=1.0))
        drawn.append(to_device(x, "cpu"))
    return np.concatenate(drawn)


def judge_drawings(
    models: ModuleList, args: Any, rng: np.random.Generator, enter: Callable[[str], None]
) -> dict[str, Any]:
    """The shares of drawings that are read as asked, for each way and split; the Fréchet distance of those of
    training to real pictures, and of real pictures to others. The drawings of a way are a stage of the run,
    which `enter` begins: so its seconds are known."""
    real = [features(batch(args.judged, SIDE, rng)[0]) for _ in range(2)]
    found: dict[str, Any] = {"floor": frechet(*real), **{way: {} for way in WAYS}}
    for split in SPLITS:
        scenes = shapes.draw_from_split(shapes.SPLITS, split, args.judged, rng)
        for way in WAYS:
            enter(f"{way} drawings")
            drawn = draw(way, models, [caption(scene) for scene in scenes], args, args.seed + 3)
            enter("evaluation")
            found[way][split] = accuracy(drawn, scenes)
            if split == "train":
                found[way]["frechet"] = frechet(features(drawn), real[0])
    return found


def figures_of(found: dict[str, Any], n: int) -> list[Figure]:
    """The final table. The baseline is a picture of any shape in any color."""
    chance, rows = 100 / (len(shapes.SHAPES) * len(shapes.COLORS)), []
    place = 100 * found["CLIP-guided"]["train"]["position"]
    rows.append(Figure("CLIP-guided: position (%)", place, at_least(90), 100.0, 100 / len(shapes.POSITIONS)))
    for split, title in SPLITS.items():
        for way in ("CLIP-guided", "classifier-free", "unguided"):
            share = found[way][split][SURELY]
            expected = EXPECTED.get(split) if way == "CLIP-guided" else None
            rows.append(Figure(f"{way}, {title}: {SURELY} (%)", 100 * share, expected, 100.0, chance))
            ends = zip(("from", "to"), interval(share, n), strict=True)
            rows += [Figure(f"    the 95 % interval, {word}", 100 * end) for word, end in ends]
            for name in (BOTH, "shape", "color", "size", "position", "surely all"):
                rows.append(Figure(f"{way}, {title}: {name} (%)", 100 * found[way][split][name]))
    for way in WAYS:
        rows.append(Figure(f"{way}: Fréchet distance", found[way]["frechet"], None, found["floor"]))
    return rows

"""Helpers of the examples that train CLIP on captioned shapes: batches in which no two captions mean the
same, and what is measured: retrieval, classification by prompts, and wrong captions of the right words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from shared.captioned import SPLITS
from shared.flags import numpy_function
from shared.plots import panels

from tinygen import no_grad
from tinygen.data import shapes, shapes_pairs
from tinygen.data.shapes_pairs import Pair, meaning, other_wording, swap_colors, swap_things
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import ids_with_end

SINGLE = [shapes.caption(scene) for scene in shapes.SCENES]
WORDS = tuple(dict.fromkeys(" ".join([*SINGLE, *map(shapes_pairs.caption, shapes_pairs.PAIRS)]).split()))
MAX_WORDS = 8
MEANINGS = [pair for pair in shapes_pairs.PAIRS if meaning(pair) == pair]  # 1152
TRAINED = [pair for pair in shapes_pairs.SPLITS["train"] if meaning(pair) == pair]  # 800 of them
KNOWN = frozenset(TRAINED)
WAYS = ("picture to caption", "caption to picture")
SWAPS = {
    "colors": swap_colors,
    "shapes": lambda pair: swap_things(swap_colors(pair)),  # the colors stay where they are
    "things": swap_things,
}


def ids_of(captions: Sequence[str]) -> Any:
    """The ids (N, MAX_WORDS + 2) of N captions."""
    return ids_with_end(captions, WORDS, MAX_WORDS)


def swapped(pair: Pair) -> list[Pair]:
    """The four meanings of the words of a pair: as it is, colors swapped, things swapped, both swapped."""
    return [meaning(p) for p in (pair, swap_colors(pair), swap_things(pair), swap_things(swap_colors(pair)))]


# -- batches ---------------------------------------------------------------------------------------


def draw_scenes(n: int, side: int, rng: np.random.Generator) -> tuple[Any, list[str]]:
    """Pictures (n, 3, side, side) of n different scenes of training, and their captions."""
    of = shapes.SPLITS["train"]
    scenes = [of[i] for i in rng.permutation(len(of))[:n]]
    return shapes.draw(scenes, side, rng), [shapes.caption(scene) for scene in scenes]


def draw_pairs(n: int, side: int, negatives: str, rng: np.random.Generator) -> tuple[Any, list[str]]:
    """Pictures (n, 3, side, side) of n pairs of training with different meanings, and their captions, each in
    one of its two wordings. The negatives are "easy": no two captions have the same words; "by chance"; or
    "hard": a pair comes together with those of its swapped pairs that are in training."""
    chosen = dict[Pair, None]()
    for i in rng.permutation(len(TRAINED)):
        together = swapped(TRAINED[i])
        if negatives == "easy" and not chosen.keys().isdisjoint(together):
            continue
        taken = together if negatives == "hard" else [TRAINED[i]]
        chosen |= {pair: None for pair in taken if pair in KNOWN}
        if len(chosen) >= n:
            break
    pairs = list(chosen)[:n]
    return shapes_pairs.draw(pairs, side, rng), captions_of(pairs, rng)


def captions_of(pairs: Sequence[Pair], rng: np.random.Generator) -> list[str]:
    """A caption of each pair, in one of its two wordings."""
    other = rng.random(len(pairs)) < 0.5
    worded = [other_wording(pair) if other[i] else pair for i, pair in enumerate(pairs)]
    return [shapes_pairs.caption(pair) for pair in worded]


# -- what is measured ------------------------------------------------------------------------------


@no_grad()
def image_vectors(model: CLIP, pictures: Any, device: str) -> Any:
    """The vectors (B, D) of pictures (B, 3, side, side)."""
    vectors = numpy_function(model.image_vectors, device)
    return np.concatenate([vectors(pictures[i : i + 256]) for i in range(0, len(pictures), 256)])


@no_grad()
def text_vectors(model: CLIP, captions: Sequence[str]) -> Any:
    """The vectors (N, D) of captions."""
    return model.text_vectors(ids_of(captions)).numpy()


def recall(cosines: Any) -> tuple[Any, Any]:
    """Which of N pictures have their own caption as the nearest of N, and which captions their own picture:
    two arrays (N,) of bools, from cosines (N, N)."""
    own = np.arange(len(cosines))
    return cosines.argmax(axis=1) == own, cosines.argmax(axis=0) == own


def winoground(cosines: Any) -> dict[str, Any]:
    """The three scores of Thrush et al. 2022 (arXiv:2204.03162, section 4), from the cosines (N, 2, 2) of N
    times two pictures and two captions of the same words: "text", each picture prefers its own caption;
    "image", each caption prefers its own picture; "group", both. Chance is 1/4, 1/4, 1/6."""
    a, b, c, d = (cosines[:, i, j] for i in (0, 1) for j in (0, 1))
    text, image = (a > b) & (d > c), (a > c) & (d > b)
    return {"text": text, "image": image, "group": text & image}


def duels(split: str) -> list[Pair]:
    """The pairs for `winoground`, with different shapes and different colors. Those of "train" are in
    training with all of their swapped pairs; those of "held_out" have a held-out object, which they lose when
    their colors are swapped."""
    words = [p for p in MEANINGS if p.first.shape != p.second.shape and p.first.color != p.second.color]
    if split == "train":
        return [pair for pair in words if KNOWN.issuperset(swapped(pair))]
    return [pair for pair in words if pair not in KNOWN]


def prompt_vectors(model: CLIP, of_class: Sequence[Sequence[str]]) -> Any:
    """A vector of length 1 for each class: the mean of the vectors of its prompts (Radford et al. 2021,
    section 3.1.4)."""
    means = np.stack([text_vectors(model, prompts).mean(axis=0) for prompts in of_class])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


Answers = dict[str, dict[str, Any]]  # {split: {figure: which answers are right, (N,)}}


def judge_single(model: CLIP, times: int, side: int, device: str, rng: np.random.Generator) -> Answers:
    """Answers for pictures of all 432 scenes, so many `times`: the nearest of all captions to a picture, the
    nearest of all pictures to a caption, and the shape and color of a picture, among 24, by prompts."""
    classes = list(product(shapes.SHAPES, shapes.COLORS))
    of_class = [[s for s in SINGLE if f" {color} {shape} " in s] for shape, color in classes]
    prompts = {
        "by 18 prompts": prompt_vectors(model, of_class),
        "by one": prompt_vectors(model, [[f"a {color} {shape}"] for shape, color in classes]),
    }
    truth = np.array([classes.index((scene.shape, scene.color)) for scene in shapes.SCENES])
    found: dict[str, list[Any]] = {}
    for _ in range(times):
        images = image_vectors(model, shapes.draw(shapes.SCENES, side, rng), device)
        both = recall(images @ text_vectors(model, SINGLE).T)
        for name, right in zip(WAYS, both, strict=True):
            found.setdefault(name, []).append(right)
        for name, vectors in prompts.items():
            found.setdefault(name, []).append((images @ vectors.T).argmax(axis=1) == truth)
    known = np.tile([(scene.shape, scene.color) not in shapes.HELD_OUT for scene in shapes.SCENES], times)
    return split_by(known, found)


def judge_pairs(model: CLIP, times: int, side: int, device: str, rng: np.random.Generator) -> Answers:
    """Answers for pictures of all 1152 pairs: the nearest of all captions, the nearest of all pictures. And
    so many `times` the scores of `winoground`, with the colors, the shapes, or the things swapped."""
    pictures, captions = shapes_pairs.draw(MEANINGS, side, rng), captions_of(MEANINGS, rng)
    both = recall(image_vectors(model, pictures, device) @ text_vectors(model, captions).T)
    known = np.array([pair in KNOWN for pair in MEANINGS])
    found = split_by(known, {way: [right] for way, right in zip(WAYS, both, strict=True)})
    for split, (word, swap) in product(SPLITS, SWAPS.items()):
        scores: dict[str, list[Any]] = {}
        for _ in range(times):
            pairs = duels(split)
            two = [pairs, [swap(pair) for pair in pairs]]
            images = [image_vectors(model, shapes_pairs.draw(each, side, rng), device) for each in two]
            texts = [text_vectors(model, captions_of(each, rng)) for each in two]
            cosines = np.einsum("ind,jnd->nij", np.stack(images), np.stack(texts))
            for name, right in winoground(cosines).items():
                scores.setdefault(f"{word} swapped, {name}", []).append(right)
        found[split] |= {name: np.concatenate(right) for name, right in scores.items()}
    return found


def split_by(known: Any, found: dict[str, list[Any]]) -> Answers:
    """The answers for what is as in training, and for what was never seen."""
    of = {"train": known, "held_out": ~known}
    return {s: {name: np.concatenate(right)[of[s]] for name, right in found.items()} for s in SPLITS}


def save_matrices(path: Path, pictures: Any, captions: Sequence[str], matrices: dict[str, Any]) -> None:
    """A panel for each model: its probability (N, N) of each of N captions for each of N pictures, which
    stand above."""
    n = len(captions)
    with panels(path, len(matrices), (3.1 + 2.6 * len(matrices), 3.6), sharey=True) as axes:
        for each, (name, p) in zip(axes, matrices.items(), strict=True):
            each.imshow(p.T, vmin=0, vmax=1, cmap="Blues")
            for i, j in np.ndindex(n, n):
                color = "white" if p[i, j] > 0.6 else "black"
                each.text(i, j, f"{p[i, j]:.2f}", ha="center", va="center", color=color, fontsize=8)
            for i, picture in enumerate(np.clip(pictures.transpose(0, 2, 3, 1) / 2 + 0.5, 0, 1)):
                each.imshow(picture, extent=(i - 0.45, i + 0.45, -0.6, -1.5))
            each.set(title=name, xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -1.6), xticks=[], yticks=range(n))
        axes[0].set_yticklabels(captions)

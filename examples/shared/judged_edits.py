"""What `palette_shapes.py` draws, beside what is right: measures, and the rows of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from shared.edits import SIDE, TASKS, Edits, make
from shared.measures import psnr
from shared.pictures import save_grid
from shared.table import Figure, at_least, at_most, more_than

from tinygen.data import shapes
from tinygen.data.luminance import EQUAL, LUMINANCE, color_posterior
from tinygen.data.shapes import COLORS, Parts
from tinygen.judges.shapes import features
from tinygen.judges.shapes_parser import SURE, accuracy, nearest_rows
from tinygen.types import Floats, Ids, Pictures

COMPLETED = ("uncrop", "inpaint")
PALETTES = {"colorize": COLORS, "colorize, equal luminance": EQUAL}
SPLIT_TITLES = {"train": "pairs as in training", "held_out": "pairs never seen"}
NEAR = 0.2  # a tenth of the range [-1, 1]
Draw = Callable[[Edits], Any]

# -- measures --------------------------------------------------------------------------------------


def drawn_right(pictures: Pictures, edited: Edits, parts: Parts) -> float:
    """The share of the drawn pixels that are right: within 0.1 of the range of the truth, in all channels.
    Only pixels count whose truth is further from the paper than that. So a drawing of paper has the share 0.
    """
    paper = (2 * parts.paper - 1)[..., None, None]
    counts = edited.mask[:, 0] & (np.abs(edited.pictures - paper).max(axis=1) > NEAR)  # (N, side, side)
    right = np.abs(pictures - edited.pictures).max(axis=1) <= NEAR
    return float(right[counts].mean())


def nearest_known(edited: Edits) -> Pictures:
    """The pictures with each missing pixel filled by the nearest known one: a fill that knows no shapes."""
    n, c, side, _ = edited.condition.shape
    at = np.stack(np.divmod(np.arange(side**2), side), axis=1)
    distance = np.square(at[:, None] - at).sum(axis=2)  # (P, P)
    missing = edited.mask.reshape(n, 1, side**2)
    nearest = np.where(missing, 4 * side**2, distance).argmin(axis=2)  # (N, P)
    flat = edited.condition.reshape(n, c, side**2)
    return np.take_along_axis(flat, nearest[:, None], axis=2).reshape(n, c, side, side)


def color_counts(pictures: Pictures, draws: int, colors: Mapping[str, tuple[float, ...]]) -> Floats:
    """How often each word for a color is drawn, (N, 6), in N groups of so many `draws`. A drawing that the
    parser is not sure of counts as none. The parser's shapes are fitted with any ink; the nearest of `colors`
    is the word."""
    found = features(pictures)
    sure = found[:, : len(shapes.SHAPES)].max(axis=1) >= SURE[pictures.shape[-1]]
    ink = found[:, len(shapes.SHAPES) + 3 :][:, :3]
    word = nearest_rows(ink, np.array(list(colors.values())))
    return (np.eye(len(colors))[word] * sure[:, None]).reshape(-1, draws, len(colors)).sum(axis=1)


def divergence(posterior: Floats, counts: Floats | Ids, draws: int) -> float:
    """The mean of KL(p ‖ q) in nats, of posteriors p (N, 6) and the shares q of what was drawn, `counts` (N,
    6) of so many `draws`. One more draw, of the posterior itself, is added to each q, so that a word that was
    never drawn leaves the result finite."""
    q = (counts + posterior) / (draws + 1)
    ratio = np.where(posterior > 0, posterior, 1) / np.where(posterior > 0, q, 1)
    return float((posterior * np.log(ratio)).sum(axis=1).mean())


# -- the table -------------------------------------------------------------------------------------


def judge(draw: Draw, count: int, seed: int, found: dict[str, Any]) -> list[Figure]:
    """The rows of the tasks with one answer, `count` pictures for each task and split. Condition, drawings
    and truth go to `found`."""
    rows = []
    for split, title in SPLIT_TITLES.items():
        for task in (TASKS[0], *COMPLETED, "enlarge"):
            edited, parts, scenes = make([task] * count, split, np.random.default_rng(seed))
            drawings, name = draw(edited), f"{title}, {task}"
            plain = nearest_known(edited) if task in COMPLETED else edited.condition
            right, trivial = (100 * accuracy(x, scenes)["surely all"] for x in (drawings, plain))
            bound = None if task == "enlarge" else at_least(95 if task == TASKS[0] else 90)
            rows.append(Figure(f"{name}: surely all words (%)", right, bound, 100.0, trivial))
            if task in COMPLETED:
                share, trivial = (100 * drawn_right(x, edited, parts) for x in (drawings, plain))
                rows.append(Figure(f"{name}: pixels of the shape (%)", share, at_least(90), 100.0, trivial))
            if task == "enlarge":
                ratio, cubic = (psnr(x, edited.pictures) for x in (drawings, plain))
                rows.append(Figure(f"{name}: PSNR, dB", ratio, more_than(cubic), None, cubic))
            found[name] = [edited.condition, drawings, edited.pictures]
    return rows


def judge_colors(draw: Draw, greys: int, draws: int, seed: int, found: dict[str, Any]) -> list[Figure]:
    """The rows of colors that are not named: the divergence from the exact posterior, of so many `draws` for
    each of the grey pictures. Best is that of as many draws of the posterior itself, the baseline a model
    that draws the six colors equally often."""
    rows = []
    for task, colors in PALETTES.items():
        rng = np.random.default_rng(seed)
        edited, parts, scenes = make([task] * greys, "train", rng)
        drawings = draw(edited.rows(np.repeat(np.arange(greys), draws)))
        exact = color_posterior(parts.ink @ LUMINANCE, [scene.shape for scene in scenes], colors)
        counts = color_counts(drawings, draws, colors)
        kl = divergence(exact, counts, draws)
        best = divergence(exact, rng.multinomial(draws, exact), draws)
        even = divergence(exact, np.full(exact.shape, draws / len(colors)), draws)
        rows.append(Figure(f"{task}: KL from the exact posterior, nats", kl, at_most(0.05), best, even))
        never = 100 * counts[exact == 0].sum() / max(counts.sum(), 1)
        rows.append(Figure(f"{task}: colors that are impossible (%)", never, None, 0.0))
        some = drawings.reshape(greys, draws, 3, SIDE, SIDE).swapaxes(0, 1)[:5]
        found[task] = [edited.condition, *some, edited.pictures]
    return rows


def compare(ways: Mapping[str, Draw], count: int, seed: int) -> list[Figure]:
    """The rows of the same completions in several ways, for pairs as in training."""
    rows = []
    for task in COMPLETED:
        edited, parts, scenes = make([task] * count, "train", np.random.default_rng(seed))
        for way, draw in ways.items():
            drawings, name = draw(edited), f"compared, {task}, {way}"
            share, right = drawn_right(drawings, edited, parts), accuracy(drawings, scenes)["surely all"]
            rows.append(Figure(f"{name}: pixels of the shape (%)", 100 * share))
            rows.append(Figure(f"{name}: surely all words (%)", 100 * right))
    return rows


def save_edits(path: Path, found: Mapping[str, list[Any]]) -> None:
    """Save rows of at most 12 pictures: for each task the condition, the drawings and the truth."""
    rows, labels = [], []
    for task, shown in found.items():
        rows += [pictures[:12] for pictures in shown]
        labels += [task, "drawings", *[""] * (len(shown) - 3), "truth"]
    title = "The condition, what is drawn, and the truth"
    save_grid(path, np.concatenate(rows), len(rows[0]), 4, title, labels)

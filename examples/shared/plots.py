"""Drawing with matplotlib: one figure, one or more panels side by side, saved as a PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def panels(path: Path, count: int = 1, size: tuple[float, float] = (7.4, 4.2), **more: Any) -> Iterator[Any]:
    """`count` axes to draw on; the figure is saved at `path` after the block. `more` goes to
    `plt.subplots`."""
    import matplotlib  # this import takes a second, which --help need not wait for

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False, **more)
    for each in axes[0]:
        each.spines[["top", "right"]].set_visible(False)
    try:
        yield axes[0]
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def draw_levels(axes: Any, levels: Mapping[str, float]) -> None:
    """Horizontal lines with their names beside them, one name above the other where lines are close."""
    free = -math.inf  # the lowest place for a name
    for name, level in sorted(levels.items(), key=lambda each: each[1]):
        axes.axhline(level, color="0.45", lw=0.8, ls="--", zorder=0)
        low, high = axes.get_ylim()
        place, free = max(level, free), max(level, free) + 0.035 * (high - low)
        axes.annotate(name, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def save_curves(
    path: Path,
    rows: Sequence[Mapping[str, float]],
    columns: Mapping[str, str],
    levels: Mapping[str, float],
    title: str,
    ylabel: str,
) -> None:
    """Columns of the metrics over the steps, by their labels, and horizontal lines to compare with."""
    with panels(path) as (axes,):
        for column, label in columns.items():
            points = [(row["step"], row[column]) for row in rows if column in row]
            if points:
                style = (
                    {"lw": 0.7, "alpha": 0.5} if len(points) > 200 else {"lw": 1.6, "marker": "o", "ms": 4}
                )
                axes.plot(*zip(*points, strict=True), label=label, **style)
        draw_levels(axes, levels)
        axes.set(title=title, xlabel="step", ylabel=ylabel)
        axes.legend(frameon=False)


def save_two_scales(
    path: Path, x: Sequence[float], left: Sequence[float], right: Sequence[float], level: float, **labels: str
) -> None:
    """Two figures over the same x, each with its axis; `level` is a dashed line to compare `right` with.
    `labels` are `title`, `xlabel`, `left_label` and `right_label`."""
    with panels(path, size=(6.4, 3.8)) as (axes,):
        axes.plot(x, left, "o-", color="C0")
        axes.set(xlabel=labels["xlabel"], title=labels["title"])
        axes.set_ylabel(labels["left_label"], color="C0")
        other = axes.twinx()
        other.plot(x, right, "s-", color="C1")
        other.axhline(level, color="0.45", lw=0.8, ls="--")
        other.set_ylabel(labels["right_label"], color="C1")
        other.set_ylim(bottom=0)


def save_points(path: Path, points: Mapping[str, Any], ways: Any) -> None:
    """Draw points (n, 2), a panel for each name; the last panel has paths (steps, n, 2) of some points from
    noise to data."""
    with panels(path, len(points) + 1, (3 * len(points) + 3, 3.3)) as axes:
        for each, (name, x) in zip(axes, points.items(), strict=False):
            each.scatter(*x[:2500].T, s=1.5, alpha=0.5, lw=0)
            each.set_title(name)
        axes[-1].plot(*ways.transpose(2, 0, 1), color="C0", lw=0.6, alpha=0.6)
        axes[-1].scatter(*ways[0].T, s=4, color="0.6", zorder=3)
        axes[-1].scatter(*ways[-1].T, s=6, color="C3", zorder=3)
        axes[-1].set_title("noise (gray) to data (red)")
        for each in axes:
            each.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")


def save_maps(path: Path, points: Mapping[str, Any], maps: Mapping[str, Any]) -> None:
    """Draw points (n, 2), a panel for each name, then maps (n, n) of numbers from 0 to 1 on the
    same square."""
    square = (-2.6, 2.6)
    with panels(path, len(points) + len(maps), (3 * (len(points) + len(maps)), 3.3)) as axes:
        for each, (name, x) in zip(axes, points.items(), strict=False):
            each.scatter(*x[:2500].T, s=1.5, alpha=0.5, lw=0)
            each.set_title(name)
        for each, (name, values) in zip(axes[len(points) :], maps.items(), strict=True):
            each.imshow(values, origin="lower", extent=square * 2, vmin=0, vmax=1, cmap="RdBu")
            each.set_title(name)
        for each in axes:
            each.set(xlim=square, ylim=square, aspect="equal")


def log_density_map(log_q: Callable[[Any], Any], lowest: float = -9.0) -> Any:
    """ln q on a grid (120, 120) over the same square, scaled from `lowest`, 0, to its highest value, 1."""
    line = np.linspace(-2.6, 2.6, 120, dtype=np.float32)
    values = log_q(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)).reshape(120, 120)
    return np.clip((values - lowest) / (values.max() - lowest), 0, 1)


def save_memory(path: Path, distances: Any, shares: Mapping[str, Sequence[float]]) -> None:
    """Draw the share of right predictions by the number of tokens to be remembered, a line for each model."""
    with panels(path) as (axes,):
        for i, (name, values) in enumerate(shares.items()):
            counted = name.endswith("gram")
            axes.plot(distances, values, ":" if counted else "o-", ms=4, label=name, color=f"C{i % 10}")
        axes.set(title="What is remembered", xlabel="tokens to remember", ylabel="share of right predictions")
        axes.set_xscale("log", base=2)
        axes.set_xticks(distances, distances)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def save_words(path: Path, words: Sequence[str], points: Any) -> None:
    """Draw words at points (n, 2). Each four in a row are the corners 0, 1, 3, 2 of a quadrilateral."""
    with panels(path, size=(6.4, 5)) as (axes,):
        for i in range(0, len(words), 4):
            corners = points[[i, i + 1, i + 3, i + 2, i]]
            axes.plot(*corners.T, "o-", ms=4, lw=1, alpha=0.7)
        for word, (x, y) in zip(words, points, strict=True):
            axes.annotate(word, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9)
        axes.set(title="Vectors of words, by their two principal components", xlabel="first", ylabel="second")


def save_meanings(path: Path, words: Sequence[str], points: Any, second: Any) -> None:
    """Draw points (n, 2), the contexts of one written word, with a color for each of its two meanings."""
    with panels(path, size=(6.4, 5)) as (axes,):
        for meaning, word in enumerate(words):
            axes.scatter(*points[second == meaning][:300].T, s=8, alpha=0.6, lw=0, label=f"means {word}")
        axes.legend(frameon=False)
        title = f'"{words[0]}" in 600 sentences, by two principal components'
        axes.set(title=title, xlabel="first", ylabel="second")


def save_spectrogram(path: Path, waves: Mapping[str, Any], rate: int) -> None:
    """Draw how strong each frequency is at each time in waves (T,), a panel for each name."""
    with panels(path, len(waves), (4.2 * len(waves), 3.4), sharey=True) as axes:
        for each, (name, wave) in zip(axes, waves.items(), strict=True):
            each.specgram(wave, NFFT=256, Fs=rate, noverlap=192, vmin=-120, cmap="magma")
            each.set(title=name, xlabel="seconds", ylim=(0, rate / 2))
        axes[0].set_ylabel("frequency (Hz)")


def save_floor(path: Path, floor: Any, above: Any) -> None:
    """The loss at each step t = 1..T of a diffusion: the least possible one, the floor, and the excess above
    it."""
    steps = range(1, len(floor) + 1)
    with panels(path) as (axes,):
        axes.fill_between(steps, 1e-6, floor, color="0.88", label="floor: nobody gets below")
        axes.plot(steps, floor + above, lw=1.6, label="learned")
        axes.plot(steps, above, lw=1.2, label="learned, above the floor")
        axes.set(title="The part of the noise that no model can tell", yscale="log", ylim=(1e-5, 2))
        axes.set(xlabel="step of the diffusion, from data to noise", ylabel="loss")
        axes.legend(frameon=False)


def save_gains(
    path: Path, steps: Sequence[int], losses: Mapping[str, Sequence[float]], groups: Mapping[str, Any]
) -> None:
    """Draw losses by step: a panel with the first and the last, then for each group of names how far they are
    below the first."""
    first, *_, last = losses
    gains = {name: [a - b for a, b in zip(losses[first], each, strict=True)] for name, each in losses.items()}
    shown = [x for names in groups.values() for name in names for x in gains[name]]
    room = 0.05 * (max(shown) - min(shown))
    with panels(path, 1 + len(groups), (4.3 * (1 + len(groups)), 3.8)) as axes:
        for name in (first, last):
            axes[0].plot(steps, losses[name], "o-", ms=3, label=name)
        axes[0].set(title="Both ends", ylabel="nats a character, held out")
        for each, (title, names) in zip(axes[1:], groups.items(), strict=True):
            for name in names:
                each.plot(steps, gains[name], "o-", ms=3, label=name)
            each.axhline(0, color="0.45", lw=0.8, ls="--", zorder=0)
            each.set(title=title, ylabel=f"nats below {first}", ylim=(min(shown) - room, max(shown) + room))
        for each in axes:
            each.set_xlabel("step")
            each.legend(frameon=False, fontsize=8)


def save_attention(path: Path, maps: Sequence[tuple[Sequence[str], Sequence[str], Any]]) -> None:
    """Draw where attention looks, a panel for each (S words that are read, T words that are written, weights
    (T, S))."""
    with panels(path, len(maps), (5.2 * len(maps), 4.6)) as axes:
        for each, (read, written, weights) in zip(axes, maps, strict=True):
            each.imshow(weights, cmap="Blues", vmin=0, aspect="auto")
            each.set_xticks(range(len(read)), read, rotation=60, ha="right", fontsize=8)
            each.set_yticks(range(len(written)), written, fontsize=8)
            each.set(xlabel="read", ylabel="written")

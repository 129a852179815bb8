"""For `scaling_laws.py`: its text, the loss above the entropy, the table of finished runs, and pictures."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from shared.plots import panels

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data.markov import MarkovSource, skewed_source
from tinygen.models import GPT, GPTConfig
from tinygen.text.scaling_laws import (
    ScalingLaw,
    bootstrap_scaling_laws,
    fit_scaling_law,
    isoflop_minimum,
)
from tinygen.types import Floats, Ids

VOCAB, CONTEXT, ROWS = 256, 16, 32  # tokens; tokens that a model reads; rows of a batch
CHUNK = 2**16  # tokens that are drawn at a time
TEST = 2**16  # tokens of the test
COLUMNS = ("seed", "width", "parameters", "tokens", "lr", "loss")  # of the table

Row = Mapping[str, float]


def source() -> MarkovSource:
    """A chain of order 1: what the last token tells is a sum of 256 features, from large to small, and some
    tokens are several hundred times as frequent as others."""
    return skewed_source(VOCAB, (2.0,), rng=0)


def batches(
    text: MarkovSource, tokens: int, rows: int, rng: np.random.Generator
) -> Iterator[tuple[Ids, Ids]]:
    """Parts of new text (rows, CONTEXT) and the tokens after them, until `tokens` are used. The last parts of
    a chunk may have fewer rows."""
    for first in range(0, tokens, CHUNK):
        n = min(CHUNK, tokens - first)
        drawn = text.sample(n + 1, rng=rng)
        x, y = (part.reshape(-1, CONTEXT) for part in (drawn[:-1], drawn[1:]))
        for i in range(0, len(x), rows):
            yield x[i : i + rows], y[i : i + rows]


def build(width: int, seed: int) -> GPT:
    return GPT(GPTConfig(VOCAB, CONTEXT, 2, 4, width), rng=seed)


def parameters(width: int) -> int:
    """The weights of a model without its table of positions, which are looked up, not multiplied."""
    return (
        24 * width**2 + 28 * width + VOCAB * width
    )  # two blocks with norms and biases, last norm, embedding


def loss_above_entropy(model: GPT, text: MarkovSource, device: str) -> float:
    """The mean loss on a test, minus the mean loss of the best possible model on the same test. This
    difference is measured far more exactly than each of the two."""
    x, y = next(batches(text, TEST, TEST // CONTEXT, np.random.default_rng(1000)))
    best = np.log(text.table)[x, y]
    with no_grad():
        parts = [slice(i, i + 512) for i in range(0, len(x), 512)]
        losses = [model(*(to_device(each[part], device) for each in (x, y)))[1] for part in parts]
    return float(np.mean([loss.item() for loss in losses if loss is not None]) + best.mean())


# -- the table -------------------------------------------------------------------------------------


def read_table(path: Path) -> dict[tuple[float, ...], dict[str, float]]:
    """The finished runs in the file, by seed, width, tokens and learning rate; none if there is no file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)]
    return {(row["seed"], row["width"], row["tokens"], row["lr"]): row for row in rows}


def columns(rows: Sequence[Row]) -> tuple[list[float], list[float], list[float]]:
    """Parameters, tokens and losses of the runs."""
    n, d, losses = ([row[name] for row in rows] for name in ("parameters", "tokens", "loss"))
    return n, d, losses


def fit(rows: Sequence[Row]) -> ScalingLaw:
    return fit_scaling_law(*columns(rows))


def intervals(rows: Sequence[Row], draws: int, seed: int) -> str:
    """The 95 % intervals of a bootstrap, as text."""
    laws = [vars(law) for law in bootstrap_scaling_laws(*columns(rows), draws, rng=seed)]
    spans = {name: np.percentile([law[name] for law in laws], [2.5, 97.5]) for name in laws[0]}
    return ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in spans.items())


def write_predictions(path: Path, rows: Sequence[Row], cells: Sequence[tuple[int, int]]) -> None:
    """The losses that the fit to the rows predicts for models of these widths and tokens, with the date; not
    again if they are there already."""
    if not path.exists():
        law = fit(rows)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["date", "width", "parameters", "tokens", "predicted"])
            for width, tokens in cells:
                n = parameters(width)
                writer.writerow([time.strftime("%Y-%m-%d %H:%M"), width, n, tokens, law.loss(n, tokens)])


def isoflops(rows: Sequence[Row], budgets: Sequence[float]) -> list[tuple[Floats, Floats]]:
    """For each budget of compute C the sizes (M,) and losses (M,) of the models that can spend it, with
    C / (6 N) tokens: each between two runs of its own, by a straight line over ln D."""
    found = []
    for budget in budgets:
        sizes, losses = [], []
        for n in sorted({row["parameters"] for row in rows}):
            runs = sorted((row["tokens"], row["loss"]) for row in rows if row["parameters"] == n)
            tokens, measured = np.array(runs).T
            if tokens[0] <= budget / (6 * n) <= tokens[-1]:
                sizes.append(n)
                losses.append(np.interp(np.log(budget / (6 * n)), np.log(tokens), measured))
        found.append((np.array(sizes), np.array(losses)))
    return found


def frontier(curves: Sequence[tuple[Floats, Floats]], budgets: Sequence[float]) -> list[tuple[float, ...]]:
    """Budget, best size and its loss, for each budget whose parabola has a lowest point."""
    found: list[tuple[float, ...]] = []
    for budget, (sizes, losses) in zip(budgets, curves, strict=True):
        try:
            found.append((budget, *isoflop_minimum(sizes, losses)))
        except ValueError:
            continue  # smaller or larger models are missing
    return found


# -- pictures --------------------------------------------------------------------------------------


def save_scaling(
    path: Path,
    rows: Sequence[Row],
    law: ScalingLaw,
    entropy: float,
    curves: Sequence[tuple[Floats, Floats]],
    lowest: Sequence[tuple[float, ...]],
) -> None:
    """Draw three panels: the loss above the entropy over the tokens with the fit, the loss over the size at
    equal compute, and the best size over compute."""
    with panels(path, 3, (13.5, 4.2)) as (left, middle, right):
        for i, n in enumerate(sorted({row["parameters"] for row in rows})):
            there = sorted((row["tokens"], row["loss"]) for row in rows if row["parameters"] == n)
            tokens, losses = np.array(there).T
            left.loglog(tokens, losses - entropy, "o", color=f"C{i}", ms=4, label=f"{n:,.0f}")
            left.loglog(tokens, law.loss(n, tokens) - entropy, color=f"C{i}", lw=1)
        left.set(title="loss above the entropy (line: the fit)", xlabel="tokens", ylabel="nats a token")
        left.legend(frameon=False, fontsize=7, title="parameters", ncols=2)
        for i, (sizes, losses) in enumerate(curves):
            middle.semilogx(sizes, losses, "o-", color=f"C{i}", ms=4, lw=1)
        middle.plot([n for _, n, _ in lowest], [loss for *_, loss in lowest], "k*", label="lowest points")
        middle.set(title="equal compute", xlabel="parameters", ylabel="loss")
        middle.legend(frameon=False)
        compute = np.array([budget for budget, *_ in lowest])
        right.loglog(compute, [n for _, n, _ in lowest], "k*", label="lowest points of parabolas")
        right.loglog(compute, law.best_size(compute)[0], label="by the fit of all runs")
        right.set(title="the best size", xlabel="compute, 6 N D", ylabel="parameters")
        right.legend(frameon=False)

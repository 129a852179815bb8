"""What the examples share around their training loops: flags that fail in one line, and the run folder.

Nothing here trains: every example has its own loop.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

for package in ("matplotlib", "tqdm"):
    if find_spec(package) is None:
        sys.exit(f'{package} is missing: pip install -e ".[examples]"')


class Flags(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2; every flag shows its default in --help."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help lists the flags)\n")


def number(kind: type, low: float, high: float = np.inf) -> Callable[[str], Any]:
    """A flag's type: an int or a float within [low, high]."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            span = f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(
                f"must be {'an' if kind is int else 'a'} {kind.__name__} {span}, not {text!r}"
            )
        return value

    return parse


class RunFolder:
    """The folder of one run: metrics.csv grows row by row; the rest is written at the end."""

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.columns = list(columns)
        self.rows: list[Mapping[str, float]] = []
        (self.path / "metrics.csv").write_text(",".join(columns) + "\n")

    def log(self, **row: float) -> None:
        self.rows.append(row)
        with (self.path / "metrics.csv").open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def curve(self, columns: Mapping[str, str], levels: Mapping[str, float], title: str, ylabel: str) -> None:
        """loss.png: columns of the metrics, by their labels, and horizontal lines to compare with."""
        import matplotlib  # a second of its own, spared to those who only ask for --help

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(7.4, 4.2), layout="constrained")
        for column, label in columns.items():
            points = [(row["step"], row[column]) for row in self.rows if column in row]
            style = {"lw": 0.7, "alpha": 0.5} if len(points) > 200 else {"lw": 1.6, "marker": "o", "ms": 4}
            axes.plot(*zip(*points, strict=True), label=label, **style)
        for name, level in levels.items():
            axes.axhline(level, color="0.45", lw=0.8, ls="--", zorder=0)
            axes.annotate(name, (1.01, level), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.set(title=title, xlabel="step", ylabel=ylabel)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(self.path / "loss.png", dpi=130)
        plt.close(figure)

    def result(self, **figures: Any) -> None:
        """result.json: every figure of the final table."""
        (self.path / "result.json").write_text(json.dumps(figures, indent=2) + "\n")

    def model(self, state: Mapping[str, Any]) -> None:
        """model.npz: the parameters by name."""
        np.savez(self.path / "model.npz", **state)

"""The folder of a run: metrics.csv grows row by row, checkpoints come on the way, results at the end."""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinygen.storage.checkpoints import Checkpoints, Saved
from tinygen.storage.files import CheckpointError, replace_file
from tinygen.storage.safetensors import save_file


def settings_of(args: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The flags that a resumed run must share with the run it goes on, and what else must be the same."""
    free = {"out", "save_every", "resume", "device"}
    return {**{name: value for name, value in flags_of(args).items() if name not in free}, **more}


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name != "error"}


def check_folder(path: Path) -> None:
    """OSError when no folder can be made or written at `path`. Nothing is made yet."""
    for place in (path.absolute(), *path.absolute().parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise NotADirectoryError(
                    errno.ENOTDIR, "--out must be a folder, and this is none", str(place)
                )
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "--out must be a folder to write in", str(place))
            return


class RunFolder:
    """A folder, by default --out, and what is in it. `more` is what else must be the same when the run is
    resumed; its length is `steps` in `more`, or the flag.

    With --resume it goes on from its last checkpoint; CheckpointError when there is none, or it is damaged or
    of other settings. Without, it starts anew; CheckpointError when the run in the folder is not finished.
    OSError when the folder cannot be written. Nothing is touched before `begin`."""

    def __init__(
        self, args: argparse.Namespace, columns: Sequence[str], folder: Path | None = None, **more: Any
    ) -> None:
        self.began = time.perf_counter()
        self.args, self.columns = args, list(columns)
        self.path = Path(args.out) if folder is None else folder
        self.settings = settings_of(args, **more)
        self.steps: int = self.settings["steps"]
        self.rows: list[Mapping[str, float]] = []
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        there = self.checkpoints.paths()
        self.saved = self.checkpoints.load() if args.resume or there else None
        if self.saved:
            self.check(self.saved)
        self.old: list[Path] = []  # checkpoints of a finished run, until this one has one of its own
        if not args.resume:
            self.saved, self.old = None, there
        self.saved_step = self.saved.step if self.saved else None
        check_folder(self.checkpoints.folder)
        for name in ("metrics.csv", "model.safetensors", "result.json"):
            if (self.path / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, "a file is to be written here", str(self.path / name))

    def check(self, saved: Saved) -> None:
        """Whether the run in the folder may be gone on with, or may end."""
        state = saved.state if isinstance(saved.state, dict) else {}
        kinds = {"settings": dict, "rows": list, "things": dict}
        theirs: dict[str, Any] = state.get("settings") or {}
        if (
            not all(isinstance(state.get(name), kind) for name, kind in kinds.items())
            or "steps" not in theirs
        ):
            raise CheckpointError(saved.path, "saved by no example", [*kinds], [*state])
        if not self.args.resume and saved.step < theirs["steps"]:
            choices = f"--resume, another --out, or no {self.checkpoints.folder}"
            found = f"step {saved.step} of {theirs['steps']}"
            raise CheckpointError(self.path, "the run in it is not finished", choices, found)
        for name in sorted(self.settings.keys() | theirs.keys()) if self.args.resume else ():
            then, now = theirs.get(name), self.settings.get(name)
            if then != now:
                raise CheckpointError(saved.path, f"saved with another {name}", then, now)

    def begin(self) -> Any:
        """Make the folder and its metrics.csv. Returns the state of what was saved, or None."""
        self.path.mkdir(parents=True, exist_ok=True)
        saved, self.saved = self.saved, None
        self.rows = saved.state["rows"] if saved else []
        self.write_metrics()
        return saved.state["things"] if saved else None

    def write_metrics(self) -> None:
        content = io.StringIO()
        writer = csv.DictWriter(content, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        replace_file(self.path / "metrics.csv", [content.getvalue().encode()])

    def log(self, **row: float) -> None:
        """A row of metrics.csv."""
        self.rows.append(row)
        with (self.path / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def write_checkpoint(self, step: int, rows: int, state: Mapping[str, Any], score: float | None) -> None:
        """A checkpoint with so many rows of the metrics. The last three are kept, and the lowest score's."""
        content = {"settings": self.settings, "rows": self.rows[:rows], "things": state}
        self.checkpoints.save(step, content, score)
        self.saved_step = step
        while self.old:
            self.checkpoints.remove(self.old.pop())

    # -- at the end --------------------------------------------------------------------------------

    def model(self, state: Mapping[str, Any]) -> None:
        """model.safetensors: the parameters by name."""
        save_file(self.path / "model.safetensors", state)

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

    def result(self, text: str, **figures: Any) -> None:
        """result.json: every figure, how long the run took, and its flags. Then prints `text`, the final
        table, and where everything is."""
        seconds = time.perf_counter() - self.began
        found = {**figures, "seconds": seconds, "flags": flags_of(self.args)}
        replace_file(self.path / "result.json", [(json.dumps(found, indent=2) + "\n").encode()])
        print(text)
        print(f"{seconds:.0f} s in all; metrics, pictures and the model are in {self.path}/")

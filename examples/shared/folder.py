"""The folder of a run: metrics.csv grows row by row, checkpoints are saved during training, results at the
end."""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.clock import Clock, peak_memory, processor
from shared.plots import save_curves
from shared.table import Figure, quick_figures, table
from shared.together import is_follower, processes

from tinygen.nn import Module
from tinygen.parallel import from_first
from tinygen.storage.checkpoint import Saved
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.files import CheckpointError, replace_file
from tinygen.storage.safetensors import load_file, save_file


def settings_of(args: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The flags that must be the same when a run is resumed, together with the entries of `more`."""
    free = {"out", "save_every", "resume", "device", "size", "source"}
    return {**{name: value for name, value in flags_of(args).items() if name not in free}, **more}


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name not in ("error", "results")}


def check_folder(path: Path) -> None:
    """Raise OSError if no folder can be made or written at `path`. Nothing is created yet."""
    for place in (path.absolute(), *path.absolute().parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise NotADirectoryError(
                    errno.ENOTDIR, "--out must be a folder, and this is none", str(place)
                )
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "--out must be a folder to write in", str(place))
            return


def load_weights(path: Path, module: Module, args: argparse.Namespace) -> None:
    """Load the weights of another run into `module`. Raises OSError if there are none. Weights of other
    sizes end the program with one line."""
    try:
        module.load_state_dict(load_file(path))
    except ValueError as error:
        first = " ".join(str(error).splitlines()[:2])
        args.error(f"{path} is of a run with other flags: {first}, and so on")


def load_stage(stage: str, module: Module, args: argparse.Namespace) -> None:
    """Load a stage of the run in --from into `module`, which then needs no more training."""
    path = Path(args.source) / f"{stage}.safetensors"
    if not path.is_file():
        args.error(f"--from {args.source}: a finished run has {path.name} in its folder, and here is none")
    load_weights(path, module, args)


class RunFolder:
    """The folder of a run, by default --out. The flags and `more` must be the same when the run is resumed;
    the number of steps is `more["steps"]`, or the flag.

    With --resume the run continues from its last checkpoint; CheckpointError when there is none, or when it
    is damaged or has other settings. Without --resume a new run starts; CheckpointError when the run in the
    folder is unfinished. OSError when the folder cannot be written. No file is changed before `begin`."""

    def __init__(
        self, args: argparse.Namespace, columns: Sequence[str], folder: Path | None = None, **more: Any
    ) -> None:
        self.clock = Clock("preparation")
        self.args, self.columns = args, list(columns)
        self.path = Path(args.out) if folder is None else folder
        self.settings = settings_of(args, **more)
        self.steps: int = self.settings["steps"]
        self.rows: list[Mapping[str, float]] = []
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.comm, self.follows = processes(), is_follower()
        self.old: list[Path] = []  # checkpoints of a finished run stay until this run has saved its first
        self.saved: Saved | None = from_first(self.read, self.comm)
        self.saved_step = self.saved.step if self.saved else None

    def read(self) -> Saved | None:
        """The last checkpoint, if the run is to be resumed from it. Raises the errors above."""
        there = self.checkpoints.paths()
        saved = self.checkpoints.load() if self.args.resume or there else None
        if saved:
            self.check(saved)
        if not self.args.resume:
            saved, self.old = None, there
        check_folder(self.checkpoints.folder)
        for name in ("metrics.csv", "model.safetensors", "result.json"):
            if (self.path / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, "a file is to be written here", str(self.path / name))
        return saved

    def check(self, saved: Saved) -> None:
        """CheckpointError when the saved run cannot be resumed with these flags, or is unfinished and would
        be overwritten."""
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
        """Make the folder and its metrics.csv. Returns the saved state, or None."""
        saved, self.saved = self.saved, None
        self.rows = saved.state["rows"] if saved else []
        if saved:
            self.clock.seconds.update(saved.state.get("seconds", {}))
        self.write_metrics()
        return saved.state["things"] if saved else None

    def write_metrics(self) -> None:
        if self.follows:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        content = io.StringIO()
        writer = csv.DictWriter(content, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        replace_file(self.path / "metrics.csv", [content.getvalue().encode()])

    def log(self, **row: float) -> None:
        """A row of metrics.csv."""
        self.rows.append(row)
        if self.follows:
            return
        with (self.path / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def write_checkpoint(self, step: int, rows: int, state: Mapping[str, Any], score: float | None) -> None:
        """Write a checkpoint with the first `rows` rows of the metrics. The last three checkpoints stay, and
        the one with the lowest score."""
        content = {"settings": self.settings, "rows": self.rows[:rows], "things": state}
        content["seconds"] = self.clock.read()
        if not self.follows:
            self.checkpoints.save(step, content, score)
        self.saved_step = step
        while self.old:
            self.checkpoints.remove(self.old.pop())

    # -- at the end --------------------------------------------------------------------------------

    def model(self, state: Mapping[str, Any], name: str = "model") -> None:
        """Write model.safetensors, the parameters by name. With the name of a stage, such as "autoencoder",
        it is the file that `--from` reads from this folder."""
        if not self.follows:
            save_file(self.path / f"{name}.safetensors", state)

    def curve(self, columns: Mapping[str, str], levels: Mapping[str, float], title: str, ylabel: str) -> None:
        """Draw loss.png: columns of the metrics, by their labels, and horizontal lines to compare with."""
        save_curves(self.path / "loss.png", self.rows, columns, levels, title, ylabel)

    def result(self, figures: Sequence[Figure], head: str = "", foot: str = "", **values: Any) -> None:
        """Write result.json: `values`, the final table, the time of each stage, the peak memory, the
        command and its flags. Then print the table between `head` and `foot`."""
        if self.args.size == "quick":
            figures = quick_figures(figures)
        seconds, memory = self.clock.read(), peak_memory()
        expected = [figure.is_met() for figure in figures if figure.expected]
        found = {
            **values,
            "table": [figure.as_data() for figure in figures],
            "met": all(expected),
            "seconds": sum(seconds.values()),
            "run": {
                "command": command(),
                "date": time.strftime("%Y-%m-%d"),
                "processor": processor(),
                "size": self.args.size,
                "seconds_of_stages": seconds,
                "peak_memory_mb": memory,
            },
            "flags": flags_of(self.args),
        }
        self.args.results.append(found)
        replace_file(self.path / "result.json", [(json.dumps(found, indent=2) + "\n").encode()])
        print(*filter(None, [head, table(figures), foot]), sep="\n")
        print(f"expectations met: {sum(expected)} of {len(expected)}")
        stages = ", ".join(f"{stage} {each:.1f} s" for stage, each in seconds.items())
        peak = f"; peak memory {memory:.0f} MB" if memory else ""
        print(f"{stages}; together {found['seconds']:.0f} s{peak}")
        print(f"metrics, pictures and the model are in {self.path}/")


def command() -> str:
    """The command line of this process, with the script's place in the repository."""
    script = Path(sys.argv[0]).absolute()
    root, comm = Path(__file__).parents[2], processes()
    name = script.relative_to(root) if script.is_relative_to(root) else Path(script.name)
    start = ["python"] if comm is None else ["mpiexec", "-n", str(comm.size), "python", "-m", "mpi4py"]
    return shlex.join([*start, name.as_posix(), *sys.argv[1:]])

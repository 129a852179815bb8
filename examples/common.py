"""What the examples share around their training loops: flags that fail in one line, and the run folder, from
which a run goes on where it was stopped.

Nothing here trains: every example has its own loop. One that can be resumed looks like this:

    run = RunFolder(args.out, columns, settings_of(args), args.resume)
    step = run.restore({"model": model, "optimizer": optimizer, "batches": rng})
    with Stop() as stop:
        while step < args.steps and not stop.asked:
            ...                                                 # one step, and what is logged of it
            step += 1
            if step % args.save_every == 0:
                run.save(step)
    run.save(step)
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

from tinygen import DeviceGenerator
from tinygen.checkpoints import Checkpoints, Saved
from tinygen.data import DataError
from tinygen.files import CheckpointError
from tinygen.safetensors import save_file
from tinygen.state import restore
from tinygen.tensor import to_device

for package in ("matplotlib", "tqdm"):
    if find_spec(package) is None:
        sys.exit(f'{package} is missing: pip install -e ".[examples]"')


class Flags(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2; every flag shows its default in --help. Among the
    arguments is `error`, for what is found to be wrong with them later."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, *given: Any) -> argparse.Namespace:  # type: ignore[override]
        args: argparse.Namespace = super().parse_args(*given)
        args.error = self.error
        return args

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


def add_run_flags(parser: Flags, out: str, often: str) -> None:
    """The flags of a run that can be resumed, `often` being how often it saves by itself; and --device."""
    add = parser.add_argument
    add("--out", default=out, help="folder of the metrics, the curve, the result, the model, the checkpoints")
    add("--save-every", type=number(int, 1), help=f"steps between checkpoints; by default {often}")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out, with the same flags")
    add_device_flag(parser)


def device(text: str) -> str:
    """A flag's type: "cpu", or "cuda" where there is a card."""
    try:
        to_device(np.zeros(0), text)
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_device_flag(parser: Flags) -> None:
    parser.add_argument("--device", type=device, default="cpu", help="where to compute: cpu or cuda")


def generator(seed: int, device: str) -> np.random.Generator:
    """NumPy's, or for a card one that makes masks and noise there; all else they draw alike."""
    return np.random.default_rng(seed) if device == "cpu" else DeviceGenerator(seed)


def asked(model: Any, device: str) -> Callable[..., Any]:
    """A model on the device as a function of NumPy arrays, for samplers and judges on the CPU."""
    return lambda x, *more: model(to_device(x, device), *more).numpy()


def settings_of(args: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The flags that a resumed run must share with the run it goes on, and what else must be the same."""
    free = {"out", "save_every", "resume", "device"}
    return {**{name: value for name, value in flags_of(args).items() if name not in free}, **more}


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name != "error"}


def start(flags: Callable[[], argparse.Namespace], learn: Callable[[argparse.Namespace], None]) -> None:
    """Run an example. What its user can mend, data that is missing or a folder with another run, is said in
    one line."""
    args = flags()
    try:
        learn(args)
    except (CheckpointError, DataError) as error:
        args.error(str(error))


class Stop:
    """`with Stop() as stop:` Ctrl-C, or a polite kill, sets `stop.asked`, so that the loop ends between two
    steps, where its state can be saved. The second one ends the program at once."""

    asked = False

    def __enter__(self) -> Self:
        self.before = {kind: signal.signal(kind, self.ask) for kind in (signal.SIGINT, signal.SIGTERM)}
        return self

    def ask(self, *_: Any) -> None:
        self.asked = True
        self.__exit__()

    def __exit__(self, *_: Any) -> None:
        for kind, handler in self.before.items():
            signal.signal(kind, handler)


class RunFolder:
    """The folder of one run: metrics.csv grows row by row, checkpoints are written on the way, the rest at
    the end.

    With `resume` it goes on from its last checkpoint; CheckpointError when there is none, or it is damaged or
    of other settings. Without, it starts anew; CheckpointError when the run in the folder is not finished."""

    def __init__(
        self, path: str | Path, columns: Sequence[str], settings: Mapping[str, Any], resume: bool = False
    ) -> None:
        self.began = time.perf_counter()
        self.path = Path(path)
        self.columns = list(columns)
        self.rows: list[Mapping[str, float]] = []
        self.settings = dict(settings)
        self.things: dict[str, Any] = {}
        self.saved_step: int | None = None
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.saved = self.checkpoints.load() if resume or self.checkpoints.paths() else None
        if self.saved:
            self.check(self.saved, resume)
        if not resume:
            self.saved = None
            for old in self.checkpoints.paths():
                shutil.rmtree(old)
        self.path.mkdir(parents=True, exist_ok=True)

    def check(self, saved: Saved, resume: bool) -> None:
        theirs = saved.state["settings"]
        if not resume and saved.step < theirs["steps"]:
            choices = f"--resume, another --out, or no {self.checkpoints.folder}"
            found = f"step {saved.step} of {theirs['steps']}"
            raise CheckpointError(self.path, "the run in it is not finished", choices, found)
        for name in sorted(self.settings.keys() | theirs.keys()) if resume else ():
            then, now = theirs.get(name), self.settings.get(name)
            if then != now:
                raise CheckpointError(saved.path, f"saved with another {name}", then, now)

    def restore(self, things: Mapping[str, Any]) -> int:
        """Say what changes in the run. Returns the step to begin with: 0, or that of the checkpoint, and then
        `things` and the rows of the metrics are as they were at that step."""
        self.things, saved = dict(things), self.saved
        if saved:
            restore(self.things, saved.state["things"])
            self.rows, self.saved, self.saved_step = saved.state["rows"], None, saved.step
        with (self.path / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return saved.step if saved else 0

    def save(self, step: int, score: float | None = None) -> None:
        """Write a checkpoint, of which the last three and the one with the lowest score are kept. Nothing is
        written when the last one is of this step."""
        if step != self.saved_step:
            state = {"settings": self.settings, "rows": self.rows, "things": self.things}
            self.checkpoints.save(step, state, score)
            self.saved_step = step

    def log(self, **row: float) -> None:
        self.rows.append(row)
        with (self.path / "metrics.csv").open("a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

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

    def result(self, args: argparse.Namespace, **figures: Any) -> None:
        """result.json: every figure, how long the run took, and its flags. Says where everything is."""
        seconds = time.perf_counter() - self.began
        found = {**figures, "seconds": seconds, "flags": flags_of(args)}
        (self.path / "result.json").write_text(json.dumps(found, indent=2) + "\n")
        print(f"{seconds:.0f} s in all; metrics, pictures and the model are in {self.path}/")

    def model(self, state: Mapping[str, Any]) -> None:
        """model.safetensors: the parameters by name."""
        save_file(self.path / "model.safetensors", state)

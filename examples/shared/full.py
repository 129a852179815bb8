"""--full: an example with three seeds, one after the other, and a table of their means at the end.

Each seed has a folder of its own in --out, seed-0 and so on, with all files of a single run. seeds.json has
the tables of the seeds that are finished. With --resume these are not run again, and the seed that was
stopped goes on from its last checkpoint.

An example with --seeds instead of --seed trains its seeds in one run, so its --full is an ordinary run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.clock import peak_memory, processor
from shared.flags import SEEDS
from shared.folder import check_folder, command, flags_of, settings_of
from shared.table import Figure, mean_figures, table
from shared.together import Follower, in_turn, is_follower, leave_together, processes

from tinygen.storage.files import CheckpointError, read_json, replace_file

LIMIT = 10_000_000  # bytes of seeds.json


def as_json(values: object) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


class Progress:
    """seeds.json: for each seed that has begun, by its number as text, its result, or None until it is
    finished."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.path = args, Path(args.out) / "seeds.json"
        self.settings = json.loads(json.dumps(settings_of(args)))
        self.results: dict[str, Any] = {}
        check_folder(self.path.parent)
        if args.resume or self.path.is_file():
            self.read()

    def read(self) -> None:
        """CheckpointError when the run cannot be resumed with these flags, or is unfinished and would be
        overwritten."""
        if not self.path.is_file():
            raise CheckpointError(self.path.parent, "nothing to resume", self.path.name, "no such file")
        saved = read_json(self.path, LIMIT)
        theirs, results = saved.get("settings"), saved.get("results")
        if not isinstance(theirs, dict) or not isinstance(results, dict):
            raise CheckpointError(self.path, "saved by no example", ["settings", "results"], [*saved])
        if self.args.resume:
            for name in sorted(self.settings.keys() | theirs.keys()):
                then, now = theirs.get(name), self.settings.get(name)
                if then != now:
                    raise CheckpointError(self.path, f"saved with another {name}", then, now)
            self.results = results
        elif 0 < (finished := sum(map(bool, results.values()))) < SEEDS:
            found = f"{finished} of {SEEDS} seeds"
            choices = f"--resume, another --out, or no {self.path}"
            raise CheckpointError(self.path.parent, "the run in it is not finished", choices, found)

    def write(self, seed: int, result: Any) -> None:
        self.results[str(seed)] = result
        if is_follower():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, [as_json({"settings": self.settings, "results": self.results})])


def run_one(main: Callable[[Any], None], args: argparse.Namespace, seed: int, begun: bool) -> dict[str, Any]:
    """One seed, in its folder: its table, and its seconds."""
    folder = Path(args.out) / f"seed-{seed}"
    found: list[Any] = []
    saved = any(folder.rglob("manifest.json"))  # of a checkpoint
    more = {"seed": seed, "out": str(folder), "resume": args.resume and begun and saved, "results": found}
    print(f"\nseed {seed}", flush=True)
    with contextlib.suppress(Follower):
        main(argparse.Namespace(**{**vars(args), **more}))
    leave_together(processes())
    rows = [row for result in found for row in result["table"]]
    return {"table": rows, "seconds": sum(result["seconds"] for result in found)}


def run_seeds(main: Callable[[Any], None], args: argparse.Namespace) -> None:
    """Run `main` with three seeds; then write the means to result.json and print them."""
    seeds, progress = range(args.seed, args.seed + SEEDS), in_turn(lambda: Progress(args), processes())
    for seed in seeds:
        begun = str(seed) in progress.results
        if not progress.results.get(str(seed)):
            progress.write(seed, None)
            progress.write(seed, run_one(main, args, seed, begun))
    if is_follower():
        return
    finish(args, seeds, [progress.results[str(seed)] for seed in seeds])


def finish(args: argparse.Namespace, seeds: Sequence[int], results: Sequence[Any]) -> None:
    figures = mean_figures([[Figure.from_data(row) for row in result["table"]] for result in results])
    seconds = {f"seed {seed}": result["seconds"] for seed, result in zip(seeds, results, strict=True)}
    expected = [figure.is_met() for figure in figures if figure.expected]
    found = {
        "table": [figure.as_data() for figure in figures],
        "met": all(expected),
        "seconds": sum(seconds.values()),
        "run": {
            "command": command(),
            "date": time.strftime("%Y-%m-%d"),
            "processor": processor(),
            "size": args.size,
            "seeds": [*seeds],
            "seconds_of_stages": seconds,
            "peak_memory_mb": peak_memory(),
        },
        "flags": flags_of(args),
    }
    replace_file(Path(args.out) / "result.json", [as_json(found)])
    print(f"\nmeans of the seeds {', '.join(map(str, seeds))}", table(figures), sep="\n")
    print(f"expectations met: {sum(expected)} of {len(expected)}; together {found['seconds']:.0f} s")
    print(f"the seeds' own tables, pictures and models are in {args.out}/seed-*/")

"""Checkpoints: the complete state of a run in a folder. A run that is resumed from it continues bit for bit.

    runs/mine/checkpoints/
        000003-step-750/
            arrays.safetensors      the arrays of the state, by path: "model/tensors/wte.weight"
            manifest.json           the rest of the state; shapes, dtypes, versions, checksums
        000004-step-1000/ ...

    things = {"model": model, "optimizer": optimizer, "batches": rng}     # see `tinygen/storage/state.py`
    with Checkpoints("runs/mine/checkpoints") as checkpoints:   # no other process writes there
        ...
        checkpoints.save(step, things, score=val_loss)

    saved = checkpoints.load()                  # in a new process, with new `things`
    restore(things, saved.state)

`save` writes a checkpoint under a temporary name, syncs each file, and renames the folder when it is
complete. So a checkpoint with its final name is complete, even after a kill or a power cut; the next `save`
removes incomplete ones. Checksums detect later damage. Only one process at a time can write into a folder
(`lock.py`). Nothing is pickled: reading a checkpoint never runs code from it.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tinygen.storage.checkpoint import MANIFEST, Saved, read, read_manifest, write
from tinygen.storage.files import CheckpointError, disk_errors, make_folder, sync_folder
from tinygen.storage.lock import FolderLock
from tinygen.storage.state import snapshot
from tinygen.storage.versions import changes

WRITING, DELETING = ".writing", ".deleting"
NAME = re.compile(r"(\d{6,})-step-(\d+)")


class Checkpoints:
    """The checkpoints in a folder: the last `keep`, and the one with the lowest score.

    They are numbered in the order of writing. Only one process at a time writes into a folder: each `save`
    takes a lock; `with Checkpoints(folder) as checkpoints:` holds the lock for a whole run. If another
    process holds it, a CheckpointError names this process."""

    def __init__(self, folder: str | Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self.lock = FolderLock(self.folder)

    def __enter__(self) -> Self:
        """Create the folder if it is missing, lock it, and remove incomplete checkpoints."""
        with disk_errors(self.folder):
            make_folder(self.folder)
            with self.lock:
                self.sweep()
                self.lock.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.__exit__()

    def paths(self) -> list[Path]:
        """The folders of the checkpoints, in the order of writing."""
        try:
            names = [match for name in os.listdir(self.folder) if (match := NAME.fullmatch(name))]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(self.folder, "cannot be read", "a readable folder", error) from error
        return [self.folder / match[0] for match in sorted(names, key=lambda match: int(match[1]))]

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest score (the first one if scores are equal); None if none has a
        score."""

        def score(path: Path) -> float:
            try:
                value = read_manifest(path / MANIFEST).get("score")
            except CheckpointError:
                return math.inf  # without a readable manifest, it cannot be loaded
            return value if isinstance(value, int | float) and not math.isnan(value) else math.inf

        scores = {path: score(path) for path in self.paths()}
        path = min(scores, key=scores.__getitem__, default=None)
        return path if path is not None and scores[path] < math.inf else None

    def save(self, step: int, things: Mapping[str, Any], score: float | None = None) -> Path:
        """Write a checkpoint, remove old ones that `keep` does not cover, and return the new folder. `step`
        is an int >= 0, of Python or NumPy. `save` writes a copy of `things` taken when it is called.

        Raises CheckpointError if the disk fails, another process writes, or another thread keeps changing
        `things`; TypeError or ValueError for an invalid step; TypeError if something in `things` cannot be
        saved. In all of these cases the earlier checkpoints are unchanged."""
        number = as_step(step)
        score = None if score is None else float(score)
        state = snapshot(things)
        with disk_errors(self.folder):
            make_folder(self.folder)
            with self.lock.turn, self.lock:
                return self.add(number, state, score)

    def add(self, step: int, state: Any, score: float | None) -> Path:
        """Write a checkpoint into a temporary folder, rename it when it is complete, and return its new
        path."""
        aside = self.folder / WRITING
        try:
            self.sweep()
            paths = self.paths()
            number = int(paths[-1].name.split("-")[0]) + 1 if paths else 1
            path = self.folder / f"{number:06d}-step-{step}"
            write(aside, step, state, score)
            os.rename(aside, path)
            sync_folder(self.folder)
            self.prune()
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return path

    def sweep(self) -> None:
        """Remove the incomplete folders of a `save` that was killed."""
        for name in WRITING, DELETING:
            if (self.folder / name).exists():
                shutil.rmtree(self.folder / name)

    def prune(self) -> None:
        """Remove all checkpoints but the last `keep` and the best one."""
        for path in set(self.paths()[: -self.keep]) - {self.best_checkpoint()}:
            self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a checkpoint, if it still exists: first rename the folder, then delete its files."""
        if path.exists():
            os.rename(path, self.folder / DELETING)
            sync_folder(self.folder)
            shutil.rmtree(self.folder / DELETING)

    def load(self, path: Path | None = None) -> Saved:
        """Read a checkpoint, by default the last, and check all of it. Raises CheckpointError if a file is
        missing or damaged; delete the folder that it names to return to the checkpoint before. If it was
        saved with other versions or another number of threads, a line on stderr says so: a run resumed from
        it then rounds differently."""
        if path is None:
            paths = self.paths()
            if not paths:
                raise CheckpointError(self.folder, "no checkpoint", "one called 000001-step-...", "none")
            path = paths[-1]
        saved = read(path)
        if changed := changes(saved.versions):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr, or a closed one
                print(f"tinygen: {saved.path} was saved with {changed}", file=sys.stderr, flush=True)
        return saved


def as_step(step: Any) -> int:
    """A step as an int. Raises TypeError if it is not an integer, ValueError if it is negative."""
    try:
        number = operator.index(step) if not isinstance(step, bool) else None
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"step must be a whole number, an int, not {step!r} of type {type(step).__name__}")
    if number < 0:
        raise ValueError(f"step must be at least 0, got {number}")
    return number

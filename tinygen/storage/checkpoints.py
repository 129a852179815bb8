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
import hashlib
import json
import math
import operator
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from tinygen.storage.files import (
    CheckpointError,
    disk_errors,
    hash_pieces,
    make_folder,
    open_plain,
    parse_json,
    read_array,
    read_small,
    short_repr,
    size_of,
    sync_folder,
    write_synced,
)
from tinygen.storage.lock import FolderLock
from tinygen.storage.safetensors import Entry, as_array, layout, parse_header, pieces, read_header
from tinygen.storage.state import flatten, snapshot, unflatten
from tinygen.storage.versions import changes, versions
from tinygen.types import NumpyArray

FORMAT = 1
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
MANIFEST_LIMIT = 100_000_000
"""Bytes; see `HEADER_LIMIT` in `tinygen/storage/safetensors.py`. Store large data as arrays."""

WRITING, DELETING = ".writing", ".deleting"
NAME = re.compile(r"(\d{6,})-step-(\d+)")


class Saved(NamedTuple):
    """A checkpoint that was read; `state` is the result of `state_of` for the saved things."""

    path: Path
    step: int
    score: float | None
    state: Any
    versions: Mapping[str, Any]


# -- one checkpoint --------------------------------------------------------------------------------


def write(path: Path, step: int, state: Any, score: float | None) -> None:
    """Create the folder `path` with a checkpoint in it. When this returns, all of it is on the disk."""
    arrays: dict[str, NumpyArray] = {}
    tree = flatten(state, "", arrays)
    header, ordered = layout(path / ARRAYS, arrays)
    size = sum(array.nbytes for array in ordered.values())
    entries, _ = parse_header(path / ARRAYS, header[8:], size)
    path.mkdir()
    digests: list[str] = []
    write_synced(path / ARRAYS, hash_pieces(pieces(header, ordered), digests))
    manifest = {
        "format": FORMAT,
        "step": step,
        "score": score,
        "versions": versions(),
        "files": {ARRAYS: {"bytes": len(header) + size, "sha256": digests[-1]}},
        "header": digests[0],
        "arrays": {e.name: describe_array(e, digest) for e, digest in zip(entries, digests[1:], strict=True)},
        "state": tree,
    }
    content = to_sealed_json(manifest)
    if len(content) > MANIFEST_LIMIT:
        raise CheckpointError(path / MANIFEST, "too long", f"at most {MANIFEST_LIMIT} bytes", len(content))
    write_synced(path / MANIFEST, [content])
    sync_folder(path)


def describe_array(entry: Entry, digest: str) -> dict[str, Any]:
    """The manifest's entry for an array."""
    return {"dtype": entry.dtype, "shape": list(entry.shape), "sha256_to_here": digest}


def to_sealed_json(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as JSON, one field per line; the last field, the seal, is the SHA-256 of all text before
    it."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items()]
    body = ("{\n" + ",\n".join(lines)).encode()
    return body + seal(body)


def seal(body: bytes) -> bytes:
    return f',\n"seal": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def read(path: Path) -> Saved:
    """Read a checkpoint and check every byte of it. Raises CheckpointError with the file and the damage."""
    manifest = read_manifest(path / MANIFEST)
    try:
        arrays = read_arrays(path / ARRAYS, manifest)
        state = unflatten(manifest["state"], arrays)
        step, score = operator.index(manifest["step"]), manifest["score"]
        return Saved(path, step, score, state, dict(manifest["versions"]))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise CheckpointError(path / MANIFEST, "no manifest", "the fields of one", found) from error


def read_manifest(path: Path) -> dict[str, Any]:
    content = read_small(path, MANIFEST_LIMIT)
    end = len(seal(b""))
    body, found = content[:-end], content[-end:]
    if found != seal(body):
        raise CheckpointError(path, "damaged", seal(body).split()[-2].decode(), short_repr(found))
    try:
        manifest = parse_json(path, content.decode(errors="replace"))
    except CheckpointError as error:
        raise CheckpointError(path, "no manifest", error.expected, error.found) from error
    if "format" not in manifest:
        raise CheckpointError(path, "no manifest", "a format", short_repr(list(manifest)))
    if manifest["format"] != FORMAT:
        raise CheckpointError(path, "of another version", f"format {FORMAT}", short_repr(manifest["format"]))
    return manifest


def read_arrays(path: Path, manifest: Mapping[str, Any]) -> dict[str, NumpyArray]:
    """The arrays by their paths, each checked against the manifest."""
    if list(manifest["files"]) != [ARRAYS]:
        raise CheckpointError(path.with_name(MANIFEST), "other files", ARRAYS, short_repr(manifest["files"]))
    with open_plain(path) as file:
        whole, length = manifest["files"][ARRAYS]["bytes"], size_of(file)
        if length != whole:
            raise CheckpointError(path, "another size", f"{whole} bytes", length)
        header, size = read_header(path, file)
        sha = hashlib.sha256(len(header).to_bytes(8, "little") + header)
        if sha.hexdigest() != manifest["header"]:
            raise CheckpointError(path, "the header is damaged", manifest["header"], sha.hexdigest())
        entries, _ = parse_header(path, header, size)
        content = read_array(path, file, size)
    arrays = {}
    for entry in entries:
        raw = content[entry.begin : entry.end]
        sha.update(raw.data)
        expected, found = manifest["arrays"][entry.name], describe_array(entry, sha.hexdigest())
        if expected != found:
            raise CheckpointError(path, "damaged", expected, found, entry.name)
        arrays[entry.name] = as_array(path, entry, raw)
    return arrays


# -- many of them ----------------------------------------------------------------------------------


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

"""One checkpoint: a folder with two files. When it is read, every byte is checked.

    arrays.safetensors      the arrays of the state, by path: "model/tensors/wte.weight"
    manifest.json           the rest of the state; shapes, dtypes, versions, checksums

The manifest has the SHA-256 of all bytes up to the end of each array, so that an error can name the first
damaged array. Its own last field, the seal, is the SHA-256 of all text before it. `checkpoints.py` gives the
folder its place in a run.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tinygen.storage.files import (
    CheckpointError,
    hash_pieces,
    open_plain,
    parse_json,
    read_array,
    read_small,
    short_repr,
    size_of,
    sync_folder,
    write_synced,
)
from tinygen.storage.safetensors import Entry, as_array, layout, parse_header, pieces, read_header
from tinygen.storage.state import flatten, unflatten
from tinygen.storage.versions import versions
from tinygen.types import NumpyArray

FORMAT = 1
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
MANIFEST_LIMIT = 100_000_000
"""Bytes; see `HEADER_LIMIT` in `tinygen/storage/safetensors.py`. Store large data as arrays."""


class Saved(NamedTuple):
    """A checkpoint that was read; `state` is the result of `state_of` for the saved things."""

    path: Path
    step: int
    score: float | None
    state: Any
    versions: Mapping[str, Any]


# -- writing ---------------------------------------------------------------------------------------


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


# -- reading ---------------------------------------------------------------------------------------


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

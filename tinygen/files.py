"""Files that are whole or not there, and the error for those that are not.

A file that is written in place is half a file when the process is killed, and may be none after a power cut:
`write` returns long before the disk has the bytes. So what must last is written beside, under another name;
`fsync` waits for the disk; then a rename, which happens at once or not at all, puts it in its place; and the
folder, in which the name stands, is synced too (Pillai et al. 2014, "All File Systems Are Not Created
Equal", shows what goes wrong without each of these).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class CheckpointError(Exception):
    """A file or folder of saved arrays is missing, damaged or cannot be written.

    `file`, `tensor` (or None), `expected` and `found` are in the message, and attributes of their own."""

    def __init__(
        self,
        file: str | Path,
        problem: str,
        expected: object,
        found: object,
        tensor: str | None = None,
    ) -> None:
        self.file, self.tensor, self.expected, self.found = str(file), tensor, expected, found
        where = self.file if tensor is None else f"{self.file}: tensor {short(tensor)}"
        super().__init__(f"{where}: {problem}: expected {expected}, found {found}")


def short(value: object) -> str:
    """repr, cut: what a hostile file says can be long, or too deep for repr."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} of very many levels"
    return text if len(text) <= 80 else text[:60] + f"... ({len(text)} characters)"


KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def plain_size(path: str | Path) -> int:
    """The bytes of a plain file. CheckpointError for anything else, since a pipe could wait forever."""
    none = "none with this name"
    try:
        about = os.stat(path)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a null character in the name
        raise CheckpointError(path, "cannot be read", "a file", none) from error
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error
    if not stat.S_ISREG(about.st_mode):
        kind = KINDS.get(stat.S_IFMT(about.st_mode), "a device")
        raise CheckpointError(path, "cannot be read", "a file", f"{none}: it is {kind}")
    return about.st_size


def read_bytes(path: str | Path, count: int = -1) -> Array:
    """The content of a file, or its first `count` bytes: (N,) uint8. CheckpointError when there is none;
    what is no plain file is refused too."""
    plain_size(path)
    try:
        return np.fromfile(path, np.uint8, count)
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error


def read_text(path: str | Path, limit: int) -> str:
    """All of a text file of at most `limit` bytes, in UTF-8. Its size is looked at before it is read.

    CheckpointError when there is no such file, or it is longer."""
    size = plain_size(path)
    if size > limit:
        raise CheckpointError(path, "too long", f"at most {limit} bytes", size)
    try:
        return read_bytes(path, limit).tobytes().decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(path, "cannot be read", "text in UTF-8", short(str(error))) from error


def read_json(path: str | Path, limit: int) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes. CheckpointError when there is no such thing; JSON
    can take thirty times its size in memory."""
    try:
        found = json.loads(read_text(path, limit))
    except (ValueError, RecursionError) as error:  # not JSON; too many digits, too many levels
        raise CheckpointError(path, "cannot be read", "JSON", short(str(error))) from error
    if not isinstance(found, dict):
        raise CheckpointError(path, "cannot be read", "a JSON object", short(found))
    return found


def write_synced(path: Path, pieces: Iterable[Any]) -> None:
    """Write a file from bytes or arrays of uint8, and return when the disk has it."""
    with open(path, "wb", buffering=0) as file:
        for piece in pieces:
            left = memoryview(piece)
            while left:  # the system may take less than it is given
                left = left[os.write(file.fileno(), left) :]
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the disk has the names in the folder: a rename does not last until then."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, to last."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def replace_file(path: Path, pieces: Iterable[Any]) -> None:
    """Write a file so that `path` is, at any instant, what it was or all of the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_synced(beside, pieces)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)

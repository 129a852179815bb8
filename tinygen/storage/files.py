"""Atomic writing of files, checked reading, and the error for files that cannot be read or written.

If a file is written in place and the process is killed, half a file remains; after a power cut even a
complete file may be lost, since `write` returns long before the bytes are on the disk. An atomic write
therefore has four steps: write under a temporary name; `fsync` the file; rename it, which is atomic; `fsync`
the folder, which holds the name (Pillai et al. 2014, "All File Systems Are Not Created Equal", show the
failure that each step prevents).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.types import NumpyArray

JSON_MEMORY = 500_000_000
"""The largest size of parsed JSON in memory, in bytes."""

NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Opening must not block if a pipe has replaced the file after the check."""


class CheckpointError(Exception):
    """A file or folder of saved arrays is missing, damaged or cannot be written.

    `file`, `tensor` (or None), `expected` and `found` are attributes, and part of the message."""

    def __init__(
        self,
        file: str | Path,
        problem: str,
        expected: object,
        found: object,
        tensor: str | None = None,
    ) -> None:
        self.file, self.tensor, self.expected, self.found = str(file), tensor, expected, found
        where = self.file if tensor is None else f"{self.file}: tensor {short_repr(tensor)}"
        super().__init__(f"{where}: {problem}: expected {expected}, found {found}")


def short_repr(value: object) -> str:
    """A shortened repr: a value from a malicious file can be long, or nested too deeply for repr."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} of very many levels"
    return text if len(text) <= 80 else text[:60] + f"... ({len(text)} characters)"


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an OSError inside the block into a CheckpointError for `path`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(path, "cannot be written", "a disk that takes it", error) from error


KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def plain_size(path: str | Path) -> int:
    """The size of a regular file in bytes. CheckpointError for anything else: reading a pipe could block
    forever."""
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


def open_plain(path: str | Path) -> FileIO:
    """Open a regular file for reading. CheckpointError for anything else."""
    plain_size(path)  # check first: merely opening some devices has effects
    try:
        file = FileIO(path, opener=lambda name, flags: os.open(name, flags | NO_WAIT))
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(path, "cannot be read", "a file", "another thing, put in its place just now")
    return file


def size_of(file: BytesIO | FileIO) -> int:
    """The size of an open file in bytes; its position is 0 afterwards."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def read_array(path: str | Path, file: BytesIO | FileIO, count: int) -> NumpyArray:
    """The next `count` bytes of an open file: (count,) uint8. CheckpointError if the file has fewer, or
    if they do not fit into memory; `path` is for the error's text."""
    require_memory(path, count)
    try:
        array: NumpyArray = np.empty(count, np.uint8)
        left = array.data
        while left:  # one read returns at most two gigabytes
            n = file.readinto(left)
            if not n:
                raise CheckpointError(path, "truncated", f"{count} bytes more", count - len(left))
            left = left[n:]
    except MemoryError as error:
        raise CheckpointError(path, "too long", "what fits into memory", f"{count} bytes") from error
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error
    return array


def require_memory(path: str | Path, count: int) -> None:
    """Raise CheckpointError if `count` bytes do not fit into memory: a system that overcommits memory would
    kill the process later."""
    if count > memory():
        raise CheckpointError(path, "too long", "what fits into memory", f"{count} bytes")


def memory() -> float:
    """The size of the machine's memory in bytes; infinity if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows; a system without these names
        return math.inf


def read_small(path: str | Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. CheckpointError for a longer file, before reading it,
    and for files that `open_plain` refuses."""
    with open_plain(path) as file:
        size = size_of(file)
        if size > limit:
            raise CheckpointError(path, "too long", f"at most {limit} bytes", size)
        return read_array(path, file, size).tobytes()


def read_text(path: str | Path, limit: int) -> str:
    """The text of a UTF-8 file of at most `limit` bytes. Raises CheckpointError like `read_small`."""
    try:
        return read_small(path, limit).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(path, "cannot be read", "text in UTF-8", short_repr(str(error))) from error


def read_json(path: str | Path, limit: int) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes. CheckpointError if it contains no JSON object."""
    return parse_json(path, read_text(path, limit))


def parse_json(path: str | Path, text: str) -> dict[str, Any]:
    """The object that a JSON text describes. CheckpointError if it describes none.

    Parsed JSON needs more memory than its text: the two characters `[]` become a list of 64 bytes. So the
    memory is estimated before parsing, from the number of brackets, braces and commas."""
    needed = 200 * (text.count("{") + text.count("[")) + 64 * text.count(",")
    if needed > JSON_MEMORY:
        raise CheckpointError(path, "too much JSON", f"at most {JSON_MEMORY} bytes of memory", needed)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON; too many digits, too many levels
        raise CheckpointError(path, "cannot be read", "JSON", short_repr(str(error))) from error
    if not isinstance(found, dict):
        raise CheckpointError(path, "cannot be read", "a JSON object", short_repr(found))
    return found


def write_synced(path: Path, pieces: Iterable[Any], like: os.stat_result | None = None) -> None:
    """Write a file from bytes or arrays of uint8, and return when it is on the disk. The file gets the owner
    and mode in `like`; without it, the process's user and a mode that follows its umask."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if like is None else 0o600)

    with open(path, "wb", buffering=0, opener=opener) as file:
        if like is not None:
            with contextlib.suppress(OSError, AttributeError):  # only root changes a file's owner, on POSIX
                os.chown(path, like.st_uid, like.st_gid)
            with contextlib.suppress(OSError):  # some file systems have no modes
                os.chmod(path, stat.S_IMODE(like.st_mode))
        for piece in pieces:
            left = memoryview(piece)
            while left:  # one write may write only a part
                left = left[os.write(file.fileno(), left) :]
        sync(file.fileno())


def hash_pieces(content: Iterable[Any], digests: list[str]) -> Iterator[Any]:
    """Yield the pieces of a file, and append to `digests` the SHA-256 of the file up to the end of each
    piece. The last digest is the whole file's; when the file is read, the first wrong digest locates the
    damage."""
    sha = hashlib.sha256()

    def take(piece: Any) -> None:
        sha.update(piece)
        digests.append(sha.hexdigest())

    with ThreadPoolExecutor(1) as hashing:  # hash a piece while the caller writes it
        for piece in content:
            taken = hashing.submit(take, piece)
            yield piece
            taken.result()


def sync(descriptor: int) -> None:
    """`fsync`, ignored on file systems that do not support it (some network and FUSE file systems)."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def sync_folder(path: Path) -> None:
    """`fsync` a folder: only then does a rename in it survive a power cut."""
    if os.name == "nt":
        return  # Windows opens no folders
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # a folder that may be written and not read
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, and sync them."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def replace_file(path: Path, pieces: Iterable[Any]) -> None:
    """Replace a file atomically: at any instant `path` is the complete old file or the complete new one. Its
    owner and mode do not change."""
    sweep_beside(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        write_synced(beside, pieces, path.stat() if path.is_file() else None)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_beside(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote `path`."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.\d+)?")
    with contextlib.suppress(OSError):  # a missing or foreign folder: the write itself raises the error
        for found in filter(None, map(name.fullmatch, os.listdir(path.parent))):
            if not is_running(int(found[1])):
                (path.parent / found[0]).unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether a process with this number exists. On Windows, where `os.kill` would end it, always False;
    there an open file cannot be removed anyway."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True

"""Files that are whole or not there, and the error for those that are not.

A file that is written in place is half a file when the process is killed, and may be none after a power cut:
`write` returns long before the disk has the bytes. So what must last is written beside, under another name;
`fsync` waits for the disk; then a rename, which happens at once or not at all, puts it in its place; and the
folder, in which the name stands, is synced too (Pillai et al. 2014, "All File Systems Are Not Created
Equal", shows what goes wrong without each of these).
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
"""Bytes that what is read from JSON may take."""

NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""For a pipe that somebody puts in a file's place between two looks."""


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


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """The system's errors, while `path` is written, as CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(path, "cannot be written", "a disk that takes it", error) from error


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


def open_plain(path: str | Path) -> FileIO:
    """A plain file, open for reading. CheckpointError for anything else."""
    plain_size(path)  # before it is opened: that alone moves some devices
    try:
        file = FileIO(path, opener=lambda name, flags: os.open(name, flags | NO_WAIT))
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(path, "cannot be read", "a file", "another thing, put in its place just now")
    return file


def size_of(file: BytesIO | FileIO) -> int:
    """How many bytes are in an open file, which then stands at its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def read_array(path: str | Path, file: BytesIO | FileIO, count: int) -> NumpyArray:
    """The next `count` bytes of an open file: (count,) uint8. CheckpointError when there are fewer, or more
    than fit into memory; `path` is for the errors."""
    try:
        if count > memory():  # a system that promises more memory than it has would end the process later
            raise MemoryError
        array: NumpyArray = np.empty(count, np.uint8)
        left = array.data
        while left:  # the system gives at most two gigabytes at a time
            n = file.readinto(left)
            if not n:
                raise CheckpointError(path, "truncated", f"{count} bytes more", count - len(left))
            left = left[n:]
    except MemoryError as error:
        raise CheckpointError(path, "too long", "what fits into memory", f"{count} bytes") from error
    except OSError as error:
        raise CheckpointError(path, "cannot be read", "a readable file", error) from error
    return array


def memory() -> float:
    """How many bytes of memory the machine has, infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows; a system without these names
        return math.inf


def read_small(path: str | Path, limit: int) -> bytes:
    """The whole of a file of at most `limit` bytes. CheckpointError for a longer one, of which nothing is
    read, and for what `open_plain` refuses."""
    with open_plain(path) as file:
        size = size_of(file)
        if size > limit:
            raise CheckpointError(path, "too long", f"at most {limit} bytes", size)
        return read_array(path, file, size).tobytes()


def read_text(path: str | Path, limit: int) -> str:
    """All of a text file of at most `limit` bytes, in UTF-8. CheckpointError as from `read_small`."""
    try:
        return read_small(path, limit).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(path, "cannot be read", "text in UTF-8", short(str(error))) from error


def read_json(path: str | Path, limit: int) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes. CheckpointError when there is no such thing."""
    return parse_json(path, read_text(path, limit))


def parse_json(path: str | Path, text: str) -> dict[str, Any]:
    """The object that a JSON text describes. CheckpointError when there is none.

    JSON grows as it is read: two letters, `[]`, become a list of 64 bytes. So its size is estimated first,
    from the signs that begin a list, an object, or the next of their items."""
    needed = 200 * (text.count("{") + text.count("[")) + 64 * text.count(",")
    if needed > JSON_MEMORY:
        raise CheckpointError(path, "too much JSON", f"at most {JSON_MEMORY} bytes of memory", needed)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON; too many digits, too many levels
        raise CheckpointError(path, "cannot be read", "JSON", short(str(error))) from error
    if not isinstance(found, dict):
        raise CheckpointError(path, "cannot be read", "a JSON object", short(found))
    return found


def write_synced(path: Path, pieces: Iterable[Any], like: os.stat_result | None = None) -> None:
    """Write a file from bytes or arrays of uint8, and return when the disk has it. Its owner and its mode are
    those of another file; without one, ours, and as the process's umask has it."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if like is None else 0o600)

    with open(path, "wb", buffering=0, opener=opener) as file:
        if like is not None:
            with contextlib.suppress(OSError, AttributeError):  # only root gives files away, and on POSIX
                os.chown(path, like.st_uid, like.st_gid)
            with contextlib.suppress(OSError):  # some file systems have no modes
                os.chmod(path, stat.S_IMODE(like.st_mode))
        for piece in pieces:
            left = memoryview(piece)
            while left:  # the system may take less than it is given
                left = left[os.write(file.fileno(), left) :]
        sync(file.fileno())


def hashed(content: Iterable[Any], digests: list[str]) -> Iterator[Any]:
    """The pieces of a file as they come; `digests` gets the SHA-256 of the file up to the end of each. The
    last is the file's own, and the first that turns out wrong says where the file is damaged."""
    sha = hashlib.sha256()

    def take(piece: Any) -> None:
        sha.update(piece)
        digests.append(sha.hexdigest())

    with ThreadPoolExecutor(1) as hashing:  # while the piece is being written
        for piece in content:
            taken = hashing.submit(take, piece)
            yield piece
            taken.result()


def sync(descriptor: int) -> None:
    """`fsync`. A file system that knows no such thing (some networks' and FUSE's) cannot be waited for."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def sync_folder(path: Path) -> None:
    """Return when the disk has the names in the folder: a rename does not last until then."""
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
    """Make a folder, and those above it, to last."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def replace_file(path: Path, pieces: Iterable[Any]) -> None:
    """Write a file so that `path` is, at any instant, what it was or all of the new one. Who owns it
    and who may read it stays as it was."""
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
    """Remove what processes that were killed while they wrote `path` have left beside it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.\d+)?")
    with contextlib.suppress(OSError):  # a folder that is not there, or not ours: the writing itself will say
        for found in filter(None, map(name.fullmatch, os.listdir(path.parent))):
            if not is_running(int(found[1])):
                (path.parent / found[0]).unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this number. On Windows one cannot ask without risk, and need not: it
    removes no file that is open."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True

"""One writer at a time: a lock on a folder.

The lock is the system's own (flock; on Windows, of a byte), on a file `.lock` in the folder. It ends with the
process that holds it, however that happens: nobody has to find out whether an owner still lives. The file
says who that is, for people. File systems without locks (some networks') are written without.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from io import FileIO
from pathlib import Path
from platform import node

from tinygen.storage.files import CheckpointError, short

LOCK = ".lock"


class FolderLock:
    """`with lock:` no other process, and no other lock in this one, writes into the folder.

    It may be entered again while it is held. CheckpointError says who holds it otherwise. A forked child does
    not hold what its parent holds. `turn` is for what threads that share it do one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.released()
        LOCKS.add(self)

    def released(self) -> None:
        """As at the beginning, whatever was held."""
        self.turn, self.mutex = threading.Lock(), threading.Lock()
        self.holders = 0
        self.file: FileIO | None = None

    def __enter__(self) -> None:
        with self.mutex:
            if self.file is None:
                self.file = take(self.folder / LOCK)
            self.holders += 1

    def __exit__(self, *_: object) -> None:
        with self.mutex:
            if self.file is None:  # a fork within the block
                return
            self.holders -= 1
            if not self.holders:
                with contextlib.suppress(OSError):  # Windows removes no file that is open
                    os.remove(self.folder / LOCK)
                self.file.close()
                self.file = None


LOCKS: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def after_fork() -> None:
    for lock in list(LOCKS):
        if lock.file is not None:
            lock.file.close()  # the parent's stays locked
        lock.released()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)


def take(path: Path) -> FileIO:
    """The file, locked. CheckpointError when somebody else has it."""
    while True:
        file = FileIO(path, "r+", opener=opened)
        try:
            if not locked(file.fileno()):
                who = file.read(1000).decode(errors="replace") or "another process"
                raise CheckpointError(path.parent, "somebody else writes here", "one writer at a time", who)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):  # it was not removed just now
                file.truncate(0)
                file.write(whoami().encode())
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def opened(name: str, flags: int) -> int:
    """Makes the file where it is missing, and follows no link out of the folder."""
    return os.open(name, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def whoami() -> str:
    command = short(" ".join(sys.argv))
    return f"process {os.getpid()} on {node()}, {command}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


if sys.platform == "win32":
    import msvcrt

    def locked(descriptor: int) -> bool:
        """Whether the file could be locked: a byte far beyond its end, so that others can read who has it."""
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def locked(descriptor: int) -> bool:
        """Whether the file could be locked, or the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

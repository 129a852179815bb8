"""One writer at a time: a lock on a folder.

It is a lock of the operating system (flock; on Windows, a lock of one byte) on the file `.lock` in the
folder. The system releases it when the process ends, for whatever reason, so that there are no stale locks.
The file contains a description of the owner, for error messages. On file systems without locks (some network
file systems) no lock is taken.
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

from tinygen.storage.files import CheckpointError, short_repr

LOCK = ".lock"


class FolderLock:
    """`with lock:` no other process, and no other FolderLock in this process, writes into the folder.

    The lock is reentrant. If another process holds it, a CheckpointError names this process. A forked child
    does not hold its parent's lock. `turn` is a mutex for the threads that share this FolderLock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reset()
        LOCKS.add(self)

    def reset(self) -> None:
        """Return to the initial state: not held."""
        self.turn, self.mutex = threading.Lock(), threading.Lock()
        self.holders = 0
        self.file: FileIO | None = None

    def __enter__(self) -> None:
        with self.mutex:
            if self.file is None:
                self.file = acquire(self.folder / LOCK)
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


def reset_locks() -> None:
    for lock in list(LOCKS):
        if lock.file is not None:
            lock.file.close()  # the parent's stays locked
        lock.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset_locks)


def acquire(path: Path) -> FileIO:
    """Open and lock the file. Raises CheckpointError if another process holds the lock."""
    while True:
        file = FileIO(path, "r+", opener=open_lock_file)
        try:
            if not try_lock(file.fileno()):
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


def open_lock_file(name: str, flags: int) -> int:
    """An `opener` that creates a missing file and refuses symbolic links."""
    return os.open(name, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def whoami() -> str:
    command = short_repr(" ".join(sys.argv))
    return f"process {os.getpid()} on {node()}, {command}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock one byte far beyond the end of the file, so that others can read its text. False if it is
        locked."""
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

    def try_lock(descriptor: int) -> bool:
        """Lock the file. False if another process holds the lock; True also if the file system has no
        locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

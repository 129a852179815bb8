"""The cache of machine code on disk: Numba's cache files, with a checksum.

Without the checksum, the processor would run damaged code. A file that is truncated (by a full disk or a
power cut) or has a wrong bit is compiled again. If a file cannot be written, the code is not cached. Code
that was compiled ahead in a folder that is read-only now, as in the image of a container, is copied to a
folder that can be written.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

DIGEST = 32  # bytes of SHA-256


class MachineCode(FunctionCache):
    """Numba's cache of one function; an unreadable or damaged file counts as missing and raises no error."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file.__class__ = Checked

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return super().load_overload(signature, context)
        except Exception:  # pickle raises any error for damaged data
            with contextlib.suppress(OSError):
                self.flush()  # the index of the cache may be damaged, too
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        try:
            super().save_overload(signature, code)
        except OSError as error:
            warn_not_cached(str(error))


class Checked(IndexDataCacheFile):
    """Reads and writes files that begin with the SHA-256 of the rest: the machine code, and the index, which
    has the file of each key. A key is the types of the arguments and the processor.

    Numba writes each file under another name first, and then renames it: a reader sees it whole or not at
    all. Two processes may write the same file, each for a key of its own: so the key is beside the code."""

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        found, data = super().load(key) or (None, None)
        return data if found == key else None

    def _save_data(self, name: str, data: Any) -> None:
        self.write(self._data_path(name), self._dump(data))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(self.read(self._data_path(name)))

    def _save_index(self, overloads: Any) -> None:
        self.write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_index(self) -> Any:
        if not Path(self._index_path).exists():
            return {}
        version, stamp, overloads = pickle.loads(self.read(self._index_path))
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def read(self, path: str) -> bytes:
        content = Path(path).read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            raise ValueError("damaged")
        return content[DIGEST:]


def copy_code(source: Path, target: Path) -> None:
    """Copy the files of machine code in `source` that `target` does not have. Files that cannot be copied are
    compiled again."""
    with contextlib.suppress(OSError):
        for file in source.rglob("*.nb[ci]"):
            copy = target / file.relative_to(source)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                part = copy.with_name(f"{copy.name}.tmp.{os.getpid()}")
                shutil.copyfile(file, part)
                part.replace(copy)


@functools.cache
def warn_not_cached(reason: str) -> None:
    text = f"compiled kernels cannot be kept, each process will compile them anew: {reason}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)

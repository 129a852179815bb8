"""The cache of machine code on disk: Numba's cache files, with a checksum.

Without the checksum, the processor would run damaged code. A file that is truncated (by a full disk or a
power cut) or has a wrong bit is compiled again. If a file cannot be written, the code is not cached.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
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
    """Reads and writes files of machine code that begin with their SHA-256."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            raise ValueError("damaged")
        return pickle.loads(content[DIGEST:])


@functools.cache
def warn_not_cached(reason: str) -> None:
    text = f"compiled kernels cannot be kept, each process will compile them anew: {reason}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)

"""Keep the memory of freed arrays in the process, for the next arrays.

A training step allocates and frees the same large arrays again and again. glibc returns every freed block
of more than 128 kB to the system (malloc_trim, munmap), and the next block costs a page fault for each page.
Three settings of glibc's `mallopt` let the process keep freed memory. They apply to the whole process and
change no result. With `TINYGEN_KEEP_MEMORY=0` in the environment, and with other C libraries (macOS, Windows,
musl), nothing is set.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # from malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory up to 2 GiB, and to take new memory in steps of 64 MiB."""
    if sys.platform != "linux" or os.environ.get("TINYGEN_KEEP_MEMORY") == "0":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
    accepted = [mallopt(option, value) for option, value in settings.items()]
    return all(accepted)

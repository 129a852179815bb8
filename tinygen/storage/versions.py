"""Versions, processor and number of threads: besides the program, the bits of a result depend on them."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.storage.files import short_repr


def versions() -> dict[str, str]:
    """{"numpy": "2.4.6", "threads": "2", ...} of this process. With other versions, processors or numbers of
    threads, matrix products sum in another order and round differently."""
    try:
        numba = metadata.version("numba")
    except metadata.PackageNotFoundError:
        numba = "none"
    cpus = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    given = os.environ.get
    return {
        "tinygen": sys.modules["tinygen"].__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba,
        "processor": processor(),
        "processors": cpus,
        "threads": given("NUMBA_NUM_THREADS") or cpus,
        "threads of BLAS": given("OPENBLAS_NUM_THREADS") or given("OMP_NUM_THREADS") or cpus,
    }


def processor() -> str:
    """The processor's model name, or as much as the system tells."""
    with contextlib.suppress(OSError, StopIteration):
        rows = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(row.partition(":")[2].strip() for row in rows if row.startswith("model name"))
    return platform.processor() or platform.machine()


def changes(then: Mapping[str, Any]) -> str:
    """The differences between `versions()` here and in another process, in a few words; "" if there are none.
    An entry that only one of the two has is ignored."""
    now = versions()
    found = [
        f"{name} {then[name] if type(then[name]) is str else short_repr(then[name])} (now {now[name]})"
        for name in now
        if name in then and then[name] != now[name]
    ]
    return ", ".join(found)

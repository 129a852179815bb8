"""The extra time of `import tinygen` over `import numpy`: both in new processes, in turn.

The first process of each side is not counted: it writes the bytecode, into a folder of this run's own.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paired import Comparison, Report
from benchmarks.worker import OURS

UNIT = "ms a process"
BESIDE = ("numpy",)
PEERS: tuple[str, ...] = ()
MODES = False


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float) -> Report:
    """Like `paired.measure`, but without workers: in a round, each side starts new processes for
    `seconds`."""
    times: dict[str, list[float]] = {side: [] for side in (OURS, *sides)}
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        for side in times:
            import_seconds(side, env)
        count = max(1, round(seconds / import_seconds(OURS, env)))
        for _ in range(rounds * count):
            for side, found in times.items():
                found.append(1e3 * import_seconds(side, env))
    versions = {side: importlib.import_module(side).__version__ for side in times}
    return Report(UNIT, [Comparison.from_times("import", times)], {}, versions, [], shown="differences")


def import_seconds(name: str, env: dict[str, str]) -> float:
    """The seconds of a process that imports the package and exits."""
    start = time.perf_counter()
    command = [sys.executable, "-c", f"import {name}"]
    subprocess.run(command, env=env, cwd=Path(__file__).parent.parent, check=True)
    return time.perf_counter() - start

"""The worker's end of a measurement: one side of a workload, in a process of its own.

The protocol between the two ends of the pipes is one line of JSON each way: the parent asks for so many
steps of a case, the worker answers with the seconds that they took.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

OURS = "tinygen"


def work(workload: str, side: str) -> None:
    """Answer the parent's requests until it closes the pipe."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not get in between

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        package, mode = chosen(side)
        steps = importlib.import_module(workload).build(package if mode else side)
        version = version_of(package)
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    answer(cases=list(steps), version=version)
    for line in sys.stdin:
        request = json.loads(line)
        step = steps[request["case"]]
        if request["warm"]:
            step()  # not timed: it brings code and data back into the caches
        start = time.perf_counter()
        for _ in range(request["count"]):
            result = step()
        seconds = time.perf_counter() - start
        answer(
            seconds=seconds,
            result=fingerprint(result) if request["compare"] else None,
            memory=peak_memory(),
        )
    return None


def chosen(side: str) -> tuple[str, str]:
    """The package that a side is of, and for tinygen's own, as "tinygen-numpy", the kernels' mode, now set.
    Of other packages, what follows the dash is for the workload to know: "torch-compile"."""
    package, _, mode = side.partition("-")
    if package != OURS:
        return package, ""
    if mode:
        import tinygen

        tinygen.kernels(mode)
    return package, mode


def version_of(package: str) -> str:
    module = importlib.import_module(package)
    found: str = getattr(module, "__version__", None) or importlib.metadata.version(package)
    return found


def fingerprint(result: Any) -> list[list[float]]:
    """Of each array in a step's result, its length as a vector and its product with a fixed one that is
    not even and has no symmetry: arrays that agree in both can hardly have been computed differently."""
    arrays = result if isinstance(result, tuple | list) else [result]
    found = []
    for array in arrays:
        flat = np.asarray(array, np.float64).reshape(-1)
        found.append([float(np.linalg.norm(flat)), float(flat @ np.cos(1.7 * np.arange(flat.size)))])
    return found


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes: what is resident."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux: getrusage would count what the parent had when it forked
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    work(*sys.argv[1:])

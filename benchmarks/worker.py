"""The worker of a measurement: one side of a workload, in its own process.

The parent and the worker exchange lines of JSON through pipes: the parent asks for a number of steps of a
case, and the worker answers with the seconds that they took.
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
    answers, sys.stdout = sys.stdout, sys.stderr  # the output of libraries must not mix with the answers

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        package, mode = choose_package(side)
        steps = importlib.import_module(workload).build(package if mode else side)
        version = version_of(package)
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    answer(cases=list(steps), version=version)
    for line in sys.stdin:
        request = json.loads(line)
        step = steps[request["case"]]
        if request["warm"]:
            step()  # not timed: it loads code and data into the caches again
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


def choose_package(side: str) -> tuple[str, str]:
    """The package of a side. For a side of tinygen, such as "tinygen-numpy", this also sets the mode of the
    kernels, or, for "tinygen-alone", one thread. For other packages, as in "torch-compile", the workload
    interprets the part after the dash."""
    package, _, mode = side.partition("-")
    if package != OURS:
        return package, ""
    if mode:
        import tinygen

        if mode == "alone":
            tinygen.kernels.threads(1)
        else:
            tinygen.kernels(mode)
    return package, mode


def version_of(package: str) -> str:
    module = importlib.import_module(package)
    found: str = getattr(module, "__version__", None) or importlib.metadata.version(package)
    return found


def fingerprint(result: Any) -> list[list[float]]:
    """For each array in the result of a step, its norm, and its inner product with a fixed vector that is not
    constant and has no symmetry. Two arrays that agree in both are very probably the same."""
    arrays = result if isinstance(result, tuple | list) else [result]
    found = []
    for array in arrays:
        flat = np.asarray(array, np.float64).reshape(-1)
        found.append([float(np.linalg.norm(flat)), float(flat @ np.cos(1.7 * np.arange(flat.size)))])
    return found


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux: getrusage would include the parent's memory at the time of the fork
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    work(*sys.argv[1:])

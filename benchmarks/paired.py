"""Paired measurements: the same work on several sides, each in a process of its own, block by block in turn.

A machine that others use too is fast in one minute and slow in the next, by a factor of two at times. So
times from different minutes say little, but the ratio of two blocks of work that ran one right after
the other does. In each round every side runs one block, in an order that turns round by round; what
is reported is the median of the rounds' ratios, with their quartiles.

A workload is a module with

    UNIT            what a figure counts, like "ms a step"
    SCALE           how many of the unit a second per step is
    BESIDE, PEERS   the other sides: those always measured, those on request. A side is a package's name.
    build(side)     {case: step}; a step() does the work once and returns its result

The protocol between the two ends of the pipes is one line of JSON each way: the parent asks for so many
steps of a case, the worker answers with the seconds that they took.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

OURS = "tinygen"
THREADS = 2


# -- the worker's end ------------------------------------------------------------------------------


def work(workload: str, side: str) -> None:
    """Answer the parent's requests until it closes the pipe."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not get in between

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        steps = importlib.import_module(workload).build(side)
        version = importlib.import_module(side).__version__
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    answer(cases=list(steps), version=version)
    for line in sys.stdin:
        request = json.loads(line)
        step = steps[request["case"]]
        result = step()  # not timed: it brings code and data back into the caches
        start = time.perf_counter()
        for _ in range(request["count"]):
            step()
        seconds = time.perf_counter() - start
        answer(seconds=seconds, result=float(np.asarray(result).sum()), memory=peak_memory())
    return None


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes: what is resident."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux: getrusage would count what the parent had when it forked
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


# -- the parent's end ------------------------------------------------------------------------------


class Missing(Exception):
    """A side's package is not installed."""


class Worker:
    """One side of a workload, in a process of its own."""

    def __init__(self, workload: str, side: str) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
        self.side = side
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.paired", workload, side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
            cwd=Path(__file__).parent.parent,
        )
        try:
            hello = self.read()
            if "missing" in hello:
                raise Missing(hello["missing"])
        except BaseException:
            self.close()
            raise
        self.cases: list[str] = hello["cases"]
        self.version: str = hello["version"]
        self.memory = 0

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.side} ended with code {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, case: str, count: int) -> tuple[float, float]:
        """Seconds per step in a block of `count` steps, and the sum over a step's result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"case": case, "count": count}) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        self.memory = answer["memory"]
        return answer["seconds"] / count, answer["result"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Spread:
    """The median of the rounds, and their lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))


@dataclass
class Comparison:
    """One case: what each side took, and tinygen's in proportion to, and less, each of the others'."""

    case: str
    times: dict[str, Spread]
    ratios: dict[str, Spread]
    differences: dict[str, Spread]

    @classmethod
    def of(cls, case: str, times: dict[str, list[float]]) -> Comparison:
        """From the times of each side, round by round."""
        ours = np.array(times[OURS])
        others = {side: np.array(t) for side, t in times.items() if side != OURS}
        return cls(
            case,
            {side: Spread.of(t) for side, t in times.items()},
            {side: Spread.of(ours / t) for side, t in others.items()},
            {side: Spread.of(ours - t) for side, t in others.items()},
        )


@dataclass
class Report:
    unit: str
    comparisons: list[Comparison]
    memory: dict[str, int]
    """The peak of each side's process, in bytes."""
    versions: dict[str, str]
    missing: list[str]


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float) -> Report:
    """Run a workload: `rounds` rounds in which each side, tinygen and these, works for about `seconds`.

    Raises RuntimeError when a worker dies, or when results differ: then it was not the same work."""
    module = importlib.import_module(workload)
    workers: dict[str, Worker] = {}
    missing = []
    try:
        for side in (OURS, *sides):
            try:
                workers[side] = Worker(workload, side)
            except Missing as error:
                missing.append(str(error))
        if OURS not in workers:
            raise RuntimeError(f"{missing[0]} cannot be imported: install it")
        comparisons = [
            Comparison.of(case, alternate(workers, case, rounds, seconds, module.SCALE))
            for case in workers[OURS].cases
        ]
    finally:
        for worker in workers.values():
            worker.close()
    return Report(
        module.UNIT,
        comparisons,
        {side: worker.memory for side, worker in workers.items()},
        {side: worker.version for side, worker in workers.items()},
        missing,
    )


def alternate(
    workers: dict[str, Worker], case: str, rounds: int, seconds: float, scale: float
) -> dict[str, list[float]]:
    """The time of a step on each side, round by round, after a warm-up."""
    first = {side: worker.run(case, 2) for side, worker in workers.items()}
    expected = first[OURS][1]
    for side, (_, result) in first.items():
        if not abs(result - expected) <= 1e-3 * abs(expected) + 1e-6:
            raise RuntimeError(f"{case}: {side} computed {result}, {OURS} {expected}: not the same work")
    counts = {side: max(1, round(seconds / took)) for side, (took, _) in first.items()}
    times: dict[str, list[float]] = {side: [] for side in workers}
    order = list(workers)
    for _ in range(rounds):
        for side in order:
            times[side].append(workers[side].run(case, counts[side])[0] * scale)
        order.append(order.pop(0))
    return times


def machine() -> str:
    """Like "AMD EPYC 9B14, 2 cores, Linux, Python 3.11.7, NumPy 2.4.6"."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            row.partition(":")[2].strip() for row in cpuinfo.read_text().splitlines() if "model name" in row
        ]
        name = names[0] if names else name
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )


if __name__ == "__main__":
    work(*sys.argv[1:])

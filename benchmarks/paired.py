"""Paired measurements: several sides do the same work, each in its own process, and take turns block by
block.

A shared machine is fast in one minute and slow in the next, sometimes by a factor of two. So times from
different minutes cannot be compared; the ratio of two blocks that ran directly after each other can. In
each round every side runs one block, in an order that changes from round to round. The report has the
median of the rounds' ratios, with their quartiles.

A workload is a module with

    UNIT            the unit of a figure, like "ms a step"
    SCALE           the number of units for one second per step
    BESIDE, PEERS   the other sides: always measured, and measured on request. A side is the name of a
                    package, with a variant after a dash: "torch-compile"; "tinygen-numpy" is tinygen with
                    these kernels
    build(side)     {case: step}; a step() does the work once and returns its result, one array or several

and, where they make sense,

    ITEMS           the items that a step processes, like ("tokens", 768), or ("GB", {case: number})
    FLOPS           {case: floating-point operations of a step}: their rate is compared, round by round, with
                    the rate of a large product of matrices in NumPy (`gemm.py`)
    ROUNDS, SECONDS the number of rounds, and the length of a block
    COMPACT         one row a case, with the ratios only
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import OURS

THREADS = 2
THREAD_LIMITS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "NPROC",  # of XLA
)
REST = 0.05
"""Seconds of pause before each block: idle threads spin for a while (OpenBLAS's for about 30 ms) and take
processor time from the next block."""
GEMM = ("benchmarks.gemm", "numpy", "1024×1024×1024")
"""The workload, side and case that measure the machine's peak: 1024 × 1024 matrices of float32."""
GEMM_FLOPS = 2 * 1024**3


class Missing(Exception):
    """A side's package is not installed."""


class Worker:
    """One side of a workload, in its own process: `worker.py`, or a `command` that answers as it does."""

    def __init__(self, workload: str, side: str, command: Sequence[str] = (), threads: int = THREADS) -> None:
        self.side = side
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "benchmarks.worker", workload, side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(THREAD_LIMITS, str(threads))},
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
        self.result: list[list[float]] = []

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.side} ended with code {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, case: str, count: int, warm: bool = True, compare: bool = False) -> float:
        """The seconds per step in a block of `count` steps; with `warm`, one more step runs before the
        block. After this, `memory` is the peak of the process so far; with `compare`, `result` is the
        fingerprint of the last result."""
        assert self.process.stdin is not None
        time.sleep(REST)
        request = {"case": case, "count": count, "warm": warm, "compare": compare}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        self.memory, self.result = answer["memory"], answer["result"]
        seconds: float = answer["seconds"]
        return seconds / count

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
    def from_values(cls, values: Any) -> Spread:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))


@dataclass
class Comparison:
    """One case: the time of each side, and the ratio and difference of tinygen's time to each other
    side's."""

    case: str
    times: dict[str, Spread]
    ratios: dict[str, Spread]
    """The ratios "tinygen / torch" and so on, also for each of tinygen's modes."""
    differences: dict[str, Spread]
    rates: dict[str, Spread] = field(default_factory=dict)
    """For each side, the number of the workload's items per second."""
    of_peak: dict[str, Spread] = field(default_factory=dict)
    """For each side, its rate of floating-point operations divided by the rate of NumPy's large product."""

    @classmethod
    def from_times(cls, case: str, times: dict[str, list[float]]) -> Comparison:
        """The comparison from the times of each side, round by round."""
        found = {side: np.array(t) for side, t in times.items()}
        ours = [side for side in found if side.partition("-")[0] == OURS]
        pairs = [(a, b) for a in ours for b in found if b != a and (a == OURS or b not in ours)]
        return cls(
            case,
            {side: Spread.from_values(t) for side, t in found.items()},
            {f"{a} / {b}": Spread.from_values(found[a] / found[b]) for a, b in pairs},
            {f"{a} − {b}": Spread.from_values(found[a] - found[b]) for a, b in pairs},
        )


@dataclass
class Report:
    unit: str
    comparisons: list[Comparison]
    memory: dict[str, int]
    """The peak memory of each side's process, in bytes."""
    versions: dict[str, str]
    missing: list[str]
    items: str = ""
    """The unit of `rates`."""
    gemm: Spread | None = None
    """Floating-point operations per second in the large product, over the rounds of all cases."""
    shown: str = "ratios"
    """How the sides are compared: by "ratios" or by "differences"."""
    compact: bool = False
    """One row for each case, and below them the worst ratios and the means."""


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float, only: str = "") -> Report:
    """Run a workload: in each of `rounds` rounds, tinygen and each of these sides work for about `seconds`;
    only the cases whose names contain `only`.

    Raises RuntimeError if a worker dies, or if results differ: then the sides did not do the same work."""
    module = importlib.import_module(workload)
    flops: dict[str, float] = getattr(module, "FLOPS", {})
    items, count = getattr(module, "ITEMS", ("", 0))
    workers, missing = start_workers(workload, sides)
    cases = [case for case in workers[OURS].cases if only in case]
    gemm = Worker(*GEMM[:2]) if flops else None
    peaks: list[float] = []
    comparisons = []
    try:
        for case in cases:
            took, peak = alternate(workers, case, rounds, seconds, gemm)
            comparison = Comparison.from_times(
                case, {side: [module.SCALE * t for t in ts] for side, ts in took.items()}
            )
            if count:
                number = count[case] if isinstance(count, dict) else count
                rates = {side: number / np.array(t) for side, t in took.items()}
                comparison.rates = {side: Spread.from_values(rate) for side, rate in rates.items()}
            if case in flops:
                comparison.of_peak = {
                    side: Spread.from_values(flops[case] / np.array(t) / np.array(peak))
                    for side, t in took.items()
                }
            comparisons.append(comparison)
            peaks += peak
    finally:
        for worker in [*workers.values(), *([gemm] if gemm else [])]:
            worker.close()
    return Report(
        module.UNIT,
        comparisons,
        {side: worker.memory for side, worker in workers.items()},
        {side: worker.version for side, worker in workers.items()},
        missing,
        items,
        Spread.from_values(peaks) if peaks else None,
        compact=getattr(module, "COMPACT", False),
    )


def start_workers(workload: str, sides: Sequence[str]) -> tuple[dict[str, Worker], list[str]]:
    """The workers of tinygen and of the sides whose packages are installed; the names of the other
    packages."""
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
    except BaseException:
        for worker in workers.values():
            worker.close()
        raise
    return workers, missing


def alternate(
    workers: dict[str, Worker], case: str, rounds: int, seconds: float, gemm: Worker | None = None
) -> tuple[dict[str, list[float]], list[float]]:
    """The seconds per step on each side, round by round, after a warm-up in which the results are compared;
    and the rate of the large product in the same rounds."""
    for worker in workers.values():
        worker.run(
            case, 2, compare=True
        )  # the first of them compiles; two updates of the weights lie before the last
    check_same_work(case, {side: worker.result for side, worker in workers.items()})
    took = {side: worker.run(case, 1, warm=False) for side, worker in workers.items()}
    counts = {side: max(1, round(seconds / t)) for side, t in took.items()}
    times: dict[str, list[float]] = {side: [] for side in workers}
    peaks = []
    order = list(workers)
    for _ in range(rounds):
        for side in order:
            times[side].append(workers[side].run(case, counts[side], warm=took[side] < seconds))
        if gemm:
            peaks.append(GEMM_FLOPS / gemm.run(GEMM[2], 10))
        order.append(order.pop(0))
    return times, peaks


def check_same_work(case: str, results: dict[str, list[list[float]]], tolerance: float = 1e-3) -> None:
    """Raise RuntimeError unless the fingerprints of all sides' results are equal to tinygen's."""
    expected = results[OURS]
    for side, found in results.items():
        if len(found) != len(expected):
            raise RuntimeError(f"{case}: {side} returns {len(found)} arrays, {OURS} {len(expected)}")
        for i, ((length, product), (our_length, our_product)) in enumerate(zip(found, expected, strict=True)):
            apart = max(abs(length - our_length), abs(product - our_product))
            if not apart <= tolerance * our_length + 1e-6:
                raise RuntimeError(
                    f"{case}: array {i} of {side} has length {length:.6g} and product {product:.6g}, "
                    f"the one of {OURS} {our_length:.6g} and {our_product:.6g}: not the same work"
                )


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

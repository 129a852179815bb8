"""How long each stage of a run takes, how much memory it needs, and on which machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path


class Clock:
    """Seconds for each stage of a run, in the order in which the stages came."""

    def __init__(self, stage: str) -> None:
        self.stage, self.since = stage, time.perf_counter()
        self.seconds: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        """Start the stage `stage`: from now on, time is counted for it."""
        now = time.perf_counter()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self.since
        self.stage, self.since = stage, now

    def read(self) -> dict[str, float]:
        """The seconds of all stages until now."""
        self.enter(self.stage)
        return dict(self.seconds)


def peak_memory() -> float | None:
    """The largest resident memory of this process so far, in MB; None where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere


def processor() -> str:
    """The processor's name, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    if (facts := Path("/proc/cpuinfo")).is_file():
        lines = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return f"{name}, {cores} cores"

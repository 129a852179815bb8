"""How the time of a GPT's training step grows with its width, its depth, the context and the batch.

Starting from one small model, one size is doubled a few times while the others stay. If a step takes time ~
sizeᵃ, then a is the slope of ln time over ln size. The slope is fitted to the times of each round, in which
every size runs, so that compared slopes were measured together. "FLOPs" is the slope of the operations that
`GPT.flops_per_token` counts. If the slope of the time is below it, small sizes cost more than their
arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import gpt
from benchmarks.paired import Comparison, Report, start_workers

UNIT = "slope"
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
BASE = gpt.Size(layers=2, heads=4, width=128, context=64, batch=8)
AXES = {
    "width": (64, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "context": (32, 64, 128, 256, 512),
    "batch": (2, 4, 8, 16, 32),
}


def sizes() -> dict[str, gpt.Size]:
    """The sizes of all models in this benchmark."""
    return {
        f"{axis} {value}": BASE._replace(**{axis: value}) for axis, values in AXES.items() for value in values
    }


def build(side: str) -> dict[str, gpt.Step]:
    """A step for every size; a model is built at its first step."""

    def later(size: gpt.Size) -> gpt.Step:
        made: list[gpt.Step] = []

        def step() -> Any:
            if not made:
                made.extend(gpt.build(side, size).values())
            return made[0]()

        return step

    return {case: later(size) for case, size in sizes().items()}


def slope(axis: str, values: Any) -> float:
    """The a of value ~ sizeᵃ that fits the values (one for each of the axis's sizes) best in logarithms."""
    return float(np.polyfit(np.log(AXES[axis]), np.log(values), 1)[0])


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float) -> Report:
    """Like `paired.measure`, but each round runs all sizes, and the slopes of the rounds are compared."""
    workers, missing = start_workers(workload, sides)
    times: dict[str, dict[str, list[float]]] = {side: {case: [] for case in sizes()} for side in workers}
    try:
        for case in sizes():
            for worker in workers.values():
                worker.run(case, 2)
        for _ in range(rounds):
            for case in sizes():
                for side, worker in workers.items():
                    took = worker.run(case, 1)
                    times[side][case].append(worker.run(case, max(1, round(seconds / took)), warm=False))
    finally:
        for worker in workers.values():
            worker.close()
    return Report(
        UNIT,
        [compare_slopes(axis, times, rounds) for axis in AXES],
        {},
        {**{side: worker.version for side, worker in workers.items()}, "FLOPs": "counted"},
        missing,
        shown="differences",
    )


def compare_slopes(axis: str, times: dict[str, dict[str, list[float]]], rounds: int) -> Comparison:
    """The slopes along an axis, for each side and for the operations."""
    slopes = {
        side: [slope(axis, [found[f"{axis} {n}"][i] for n in AXES[axis]]) for i in range(rounds)]
        for side, found in times.items()
    }
    slopes["FLOPs"] = [slope(axis, [BASE._replace(**{axis: n}).flops for n in AXES[axis]])] * rounds
    return Comparison.from_times(f"{axis} {AXES[axis][0]} to {AXES[axis][-1]}", slopes)

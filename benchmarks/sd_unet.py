"""A call of Stable Diffusion 1's UNet at its full size, 860 million random weights in float32: one code of
64 × 64, and two, as guidance needs them. Beside `diffusers`.

Both sides read the same folder. Each needs gigabytes, so that they do not take turns: one side runs all of
its rounds, ends, and then the next one begins. The peak of memory includes the reading.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import sd_folder
from benchmarks.paired import THREADS, Comparison, Missing, Report, Worker, check_same_work
from benchmarks.worker import OURS

UNIT = "s a call"
BESIDE: tuple[str, ...] = ()
PEERS = ("diffusers",)
MODES = False
ONLY = True  # it knows --only
ROUNDS = 3
BATCHES, SIDE, TOKENS, STEP = (1, 2), 64, 77, 500
FOLDER = "TINYGEN_SD_FOLDER"
"""The environment variable by which a worker finds the folder."""

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    folder = os.environ[FOLDER]
    call = tinygen_call(folder) if side == OURS else diffusers_call(folder)
    return {f"batch {batch}, {SIDE}×{SIDE}": call_on(call, batch) for batch in BATCHES}


def call_on(call: Callable[[Any, Any], Any], batch: int) -> Step:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, 4, SIDE, SIDE), dtype=np.float32)
    context = rng.standard_normal((batch, TOKENS, sd_folder.UNET["cross_attention_dim"]), dtype=np.float32)
    return lambda: call(x, context)


def tinygen_call(folder: str) -> Callable[[Any, Any], Any]:
    from tinygen import no_grad
    from tinygen.models.huggingface.diffusers import from_pretrained

    model = from_pretrained(folder, keep_half=True)

    def call(x: Any, context: Any) -> Any:
        with no_grad():
            return model(x, np.full(len(x), STEP), context=context).data

    return call


def diffusers_call(folder: str) -> Callable[[Any, Any], Any]:
    import torch

    diffusers: Any = importlib.import_module("diffusers")  # half of it has no types
    torch.set_num_threads(THREADS)
    model = diffusers.UNet2DConditionModel.from_pretrained(folder).eval()

    def call(x: Any, context: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x), STEP, torch.from_numpy(context)).sample.numpy()

    return call


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float, only: str = "") -> Report:
    """One side after the other; a round is one call, however long."""
    times: dict[str, dict[str, list[float]]] = {}
    results: dict[str, dict[str, list[list[float]]]] = {}
    report = Report(UNIT, [], {}, {}, [])
    with TemporaryDirectory() as folder:
        sd_folder.write_elsewhere(folder, "unet")
        os.environ[FOLDER] = folder
        for side in (OURS, *sides):
            try:
                worker = Worker(workload, side)
            except Missing as error:
                report.missing.append(str(error))
                continue
            try:
                for case in (case for case in worker.cases if only in case):
                    worker.run(case, 1, warm=False, compare=True)  # the first call compiles
                    results.setdefault(case, {})[side] = worker.result
                    took = [worker.run(case, 1, warm=False) for _ in range(rounds)]
                    times.setdefault(case, {})[side] = took
                report.memory[side], report.versions[side] = worker.memory, worker.version
            finally:
                worker.close()
    for case, found in times.items():
        check_same_work(case, results[case])
        report.comparisons.append(Comparison.from_times(case, found))
    return report

"""Speed: the GPU's practical peaks, and ops forward and backward compared with PyTorch's.

The sides of a comparison take turns, block by block, and the median block counts. A block is some calls and
then a wait for the GPU. So the time is the same as in a training loop: the GPU's work or the CPU's work,
whichever takes longer.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from typing import Any, NamedTuple

import numpy as np
from gpu_stage import TF32, Figures, attempted, on_cpu, waiter
from gpu_works import WORKS, Call, Work

from tinygen import kernels
from tinygen.arrays import to_device

ROUNDED = 3e-2 if TF32 else 1e-3
"""How far two libraries' results may be apart, in units of the largest entry."""


class Side(NamedTuple):
    call: Call
    mode: str = "auto"  # of our kernels


def timed(sides: dict[str, Side], wait: Call, rounds: int = 5, least: float = 0.03) -> dict[str, float]:
    """Seconds a call, of each side: the median of `rounds` blocks of at least so many seconds."""

    def block(side: Side, count: int) -> float:
        with kernels(side.mode):
            wait()
            start = time.perf_counter()
            for _ in range(count):
                side.call()
            wait()
            return (time.perf_counter() - start) / count

    for side in sides.values():
        block(side, 2)  # compiles, and fills the pools of memory
    counts = {name: 1 + int(least / block(side, 2)) for name, side in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(block(side, counts[name]))
    return {name: float(np.median(seconds)) for name, seconds in found.items()}


# -- the GPU --------------------------------------------------------------------------------------


def versions(device: str) -> Figures:
    yield "python", platform.python_version()
    for name in ("numpy", "cupy-cuda13x", "cupy-cuda12x", "numba", "numba-cuda", "torch"):
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "-"
    if device != "cpu":
        import cupy

        yield "GPU", cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        yield "CUDA of the driver", cupy.cuda.runtime.driverGetVersion()
        yield "CUDA of CuPy", cupy.cuda.runtime.runtimeGetVersion()
    yield from ceilings(device)


def ceilings(device: str) -> Figures:
    """The practical peaks of the GPU: an upper bound for the kernels."""
    floats, n = (2**16, 64) if device == "cpu" else (2**29, 8192)
    x = to_device(np.ones(floats, np.float32), device)
    y, wait = np.empty_like(x), waiter(device)

    def copy() -> None:
        y[...] = x

    a = to_device(np.ones((n, n), np.float32), device)
    seconds = timed({"copy": Side(copy), "product": Side(lambda: a @ a)}, wait)
    yield "copy", {"GB/s": 2 * x.nbytes / seconds["copy"] / 1e9}
    yield "product of matrices", {"TFLOP/s": 2 * n**3 / seconds["product"] / 1e12}


# -- ops beside PyTorch's --------------------------------------------------------------------------


def beside(work: Work, device: str) -> dict[str, Any]:
    """Milliseconds of our kernels, of our definitions on CuPy and of PyTorch; the rate of what decides."""
    sides = {"ours": Side(work.ours), "definitions": Side(work.ours, "off")}
    figures: dict[str, Any] = {}
    if work.torch is not None:
        sides["torch"] = Side(work.torch)
        figures = {"error": difference(work.ours(), work.torch()), "limit": ROUNDED}
    seconds = timed(sides, waiter(device))
    figures |= {f"{name} ms": 1e3 * s for name, s in seconds.items()}
    if "torch" in seconds:
        figures["ours / torch"] = seconds["ours"] / seconds["torch"]
    figures["GB/s"] = work.moved / seconds["ours"] / 1e9
    if work.flops:
        figures["TFLOP/s"] = work.flops / seconds["ours"] / 1e12
    return figures


def difference(ours: Any, theirs: Any) -> float:
    a, b = on_cpu(ours), on_cpu(theirs)
    return float(np.abs(a - b).max() / np.abs(b).max())


def ops_beside_torch(device: str) -> Figures:
    """With TF32 only those that multiply matrices: to the others it is nothing."""
    if TF32:
        yield from ceilings(device)
    for name, make in WORKS.items():
        figures = attempted(lambda make=make: of_work(make(device), device))  # type: ignore[misc]
        if figures:
            yield name, figures


def of_work(work: Work, device: str) -> dict[str, Any]:
    return {} if TF32 and not work.flops else beside(work, device)

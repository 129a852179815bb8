"""The CPU time of launching a tiny kernel, in microseconds: by Numba, by CuPy and by PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_stage import Figures, attempted, torch_here, waiter

from tinygen.arrays import to_device
from tinygen_cuda.simt import cuda, launch


def one(x):
    x[cuda.threadIdx.x] = cuda.threadIdx.x


def three(x, y, z):
    x[cuda.threadIdx.x] = y[cuda.threadIdx.x] + z[cuda.threadIdx.x]


def five(x, y, z, v, w):
    x[cuda.threadIdx.x] = y[cuda.threadIdx.x] + z[cuda.threadIdx.x]


def launches(device: str) -> Figures:
    for name, call in calls(device).items():
        yield name, attempted(lambda call=call: cost(call, device))  # type: ignore[misc]


def calls(device: str) -> dict[str, Callable[[], Any]]:
    x = to_device(np.ones(4, np.float32), device)
    k1, k3, k5 = cuda.jit(one), cuda.jit(three), cuda.jit(five)
    found = {
        "Numba, 1 array": lambda: launch(k1, 1, 4, x),
        "Numba, 3 arrays": lambda: launch(k3, 1, 4, x, x, x),
        "Numba, 5 arrays": lambda: launch(k5, 1, 4, x, x, x, x, x),
        "x + x": lambda: x + x,
    }
    if device != "cpu":
        import cupy

        plus = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x + 1", "plus_one")
        raw = cupy.RawKernel('extern "C" __global__ void one(float* x) { x[0] = 1; }', "one")
        found |= {"CuPy, elementwise": lambda: plus(x), "CuPy, raw": lambda: raw((1,), (1,), (x,))}
    if torch := torch_here():
        there = torch.ones(4, device=device)
        found["PyTorch, x + x"] = lambda: there + there
    return found


def cost(call: Callable[[], Any], device: str) -> dict[str, Any]:
    times, wait = (3 if device == "cpu" else 500), waiter(device)
    found = []
    for _ in range(4):  # the first is the warm-up
        wait()
        start = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - start) / times)
    wait()
    return {"µs": 1e6 * float(np.median(found[1:]))}

"""The overhead of one op: a chain of 1,000 ops on tiny arrays, forward and backward.

At these sizes the arithmetic takes almost no time, so that the benchmark measures the overhead of recording.
NumPy without a tape, with a hand-written gradient, is the lower bound. Both factors require a gradient,
except in the case "by a constant".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.paired import THREADS

UNIT = "µs an op"
LENGTH = 1000
SCALE = 1e6 / LENGTH
BESIDE = ("numpy",)
PEERS = ("torch",)
NAMES = ("multiply", "add", "matmul")
SIZES = (1, 4, 32)

Step = Callable[[], Any]


def arrays(name: str, n: int) -> tuple[Any, Any, Any]:
    """x, w and the gradient of the end of the chain: float32 (n, n). No value explodes or vanishes in the
    chain."""
    rng = np.random.default_rng(n)
    x, w, g = rng.standard_normal((3, n, n))
    if name == "matmul":
        w = np.linalg.qr(w)[0]  # orthogonal
    elif name == "multiply":
        w = 1 + 1e-4 * w
    return x.astype(np.float32), w.astype(np.float32), g.astype(np.float32)


def build(side: str) -> dict[str, Step]:
    make = {"tinygen": tinygen_chain, "numpy": numpy_chain, "torch": torch_chain}[side]
    cases = {f"{name} {n}×{n}": make(name, *arrays(name, n), constant=False) for name in NAMES for n in SIZES}
    by_constant = {"multiply 4×4 by a constant": make("multiply", *arrays("multiply", 4), constant=True)}
    return {**by_constant, **cases}


def tinygen_chain(name: str, x: Any, w: Any, g: Any, constant: bool) -> Step:
    from tinygen import Tensor, ops

    op = getattr(ops, name)
    x, w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=not constant)

    def step() -> Any:
        x.grad = w.grad = None
        y = x
        for _ in range(LENGTH):
            y = op(y, w)
        y.backward(g)
        return x.grad if constant else w.grad

    return step


def torch_chain(name: str, x: Any, w: Any, g: Any, constant: bool) -> Step:
    import torch

    torch.set_num_threads(THREADS)
    op = getattr(torch, name)
    x, w = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=not constant)
    g = torch.tensor(g)

    def step() -> Any:
        x.grad = w.grad = None
        y = x
        for _ in range(LENGTH):
            y = op(y, w)
        y.backward(g)
        return x.grad if constant else w.grad

    return step


def numpy_chain(name: str, x: Any, w: Any, g: Any, constant: bool) -> Step:
    op = getattr(np, name)

    def step() -> Any:
        ys = [x]
        for _ in range(LENGTH):
            ys.append(op(ys[-1], w))
        gy, gw = g, np.zeros_like(w)
        for y in reversed(ys[:-1]):
            if name == "multiply":
                if not constant:
                    gw += gy * y
                gy = gy * w
            elif name == "add":
                gw += gy
            else:
                gw += y.T @ gy
                gy = gy @ w.T
        return gy if constant else gw

    return step

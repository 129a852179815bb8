"""Products of matrices x (m, k) Wᵀ (k, n) of many shapes: squares, the layers of GPTs, of a VAE and of
generation, and odd and narrow ones. Ours has a bias, fused, which is 0; NumPy's has none. The product of
1024 × 1024 in NumPy is the reference for the other benchmarks: the machine's practical peak."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

UNIT = "ms a product"
SCALE = 1e3
BESIDE = ("numpy",)
PEERS = ("torch", "jax")
ROUNDS, SECONDS = 5, 0.03
COMPACT = True  # one row for each case

SQUARES = (64, 100, 128, 256, 512, 1000, 1024, 2048, 4096)
SHAPES = (
    *((n, n, n) for n in SQUARES),
    *((768, 128, n) for n in (65, 128, 384, 512)),  # a GPT of width 128
    (768, 512, 128),
    *((4096, 384, n) for n in (65, 384, 1152, 1536)),  # of width 384
    (4096, 1536, 384),
    *((128, 784, 400), (128, 400, 784), (128, 400, 20), (128, 20, 400)),  # the VAE
    *((1, 768, 768), (1, 768, 3072), (1, 3072, 768), (1, 4096, 4096)),  # generation
    *((rows, 768, 3072) for rows in (2, 4, 5, 8, 16, 77)),
    *((333, 777, 555), (31, 1024, 4096), (17, 4096, 17), (4096, 17, 4096)),  # odd and narrow
    *((4096, 64, 3), (1024, 1, 1024), (256, 4096, 10)),
)


def name(m: int, k: int, n: int) -> str:
    return f"{m}×{k}×{n}"


def build(side: str) -> dict[str, Callable[[], Any]]:
    return {name(*shape): product(side, *shape) for shape in SHAPES}


def product(side: str, m: int, k: int, n: int) -> Callable[[], Any]:
    """A step; it makes its matrices when it is first called."""
    made = cache(lambda: multiplication(side, m, k, n))
    return lambda: made()()


def multiplication(side: str, m: int, k: int, n: int) -> Callable[[], Any]:
    rng = np.random.default_rng(m + k + n)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (n, k)))
    if side == "tinygen":
        from tinygen import ops

        linear, bias = ops.linear.op, np.zeros(n, np.float32)  # type: ignore[attr-defined]
        return lambda: linear.compute(x, weight, bias)[0]
    if side == "torch":
        import torch

        from benchmarks.paired import THREADS

        torch.set_num_threads(THREADS)
        arrays = (torch.tensor(x), torch.tensor(weight), torch.zeros(n))
        return lambda: torch.nn.functional.linear(*arrays)
    if side == "jax":
        import jax

        left, right = jax.numpy.array(x), jax.numpy.array(weight)
        multiply = jax.jit(lambda a, b: a @ b.T)
        return lambda: multiply(left, right).block_until_ready()
    return lambda: x @ weight.T

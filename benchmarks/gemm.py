"""A product of two large matrices: the machine's practical peak, and the reference for the other
benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

UNIT = "ms a product"
SCALE = 1e3
BESIDE = ("numpy",)
PEERS = ("torch", "jax")
SIZES = (256, 512, 1024, 2048)
FLOPS = {str(n): 2 * n**3 for n in SIZES}


def build(side: str) -> dict[str, Callable[[], Any]]:
    return {str(n): product(side, n) for n in SIZES}


def product(side: str, n: int) -> Callable[[], Any]:
    a, b = np.random.default_rng(n).standard_normal((2, n, n), dtype=np.float32)
    if side == "tinygen":
        from tinygen import Tensor, ops

        x, y = Tensor(a), Tensor(b)
        return lambda: ops.matmul(x, y).data
    if side == "torch":
        import torch

        from benchmarks.paired import THREADS

        torch.set_num_threads(THREADS)
        s, t = torch.tensor(a), torch.tensor(b)
        return lambda: s @ t
    if side == "jax":
        import jax

        u, v, multiply = jax.numpy.array(a), jax.numpy.array(b), jax.jit(jax.numpy.matmul)
        return lambda: multiply(u, v).block_until_ready()
    return lambda: a @ b

"""Layers on maps, forward and backward, at the sizes of real models: discriminators and judges (strided
convolutions on small maps, a large batch), UNets of 8×8 to 32×32, and the layers of Stable Diffusion 1 (one
image, up to 1280 channels).

Each case is a layer of its own, since which way is the fastest depends on the geometry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

UNIT = "ms"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)

CONVOLUTIONS = (  # images, channels in and out, size, kernel, stride, padding
    (64, 128, 256, 4, 4, 1, 0),
    (64, 64, 128, 4, 4, 2, 1),
    (64, 32, 64, 8, 4, 2, 1),
    (64, 3, 32, 32, 4, 2, 1),
    (64, 32, 32, 8, 3, 2, 1),
    (16, 128, 64, 8, 1, 1, 0),
    (16, 64, 64, 32, 3, 1, 1),
    (16, 128, 128, 8, 3, 1, 1),
    (16, 128, 128, 4, 3, 1, 1),
    (1, 256, 256, 16, 3, 1, 1),
    (1, 640, 640, 16, 3, 1, 1),
    (1, 640, 640, 32, 3, 2, 1),
    (1, 1280, 1280, 8, 3, 1, 1),
)
TRANSPOSED = ((64, 128, 64, 2, 4, 2, 1), (64, 64, 32, 8, 4, 2, 1))
MAPS = (64, 64, 16, 16)  # for the layers without a kernel

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "torch":
        import torch
        from torch.nn import functional as layers

        from benchmarks.paired import THREADS

        torch.set_num_threads(THREADS)

        def leaf(a: Any) -> Any:
            return torch.tensor(a).requires_grad_()

        def batch_norm(x: Any, weight: Any, bias: Any) -> Any:
            return torch.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)

    else:
        from tinygen import Tensor
        from tinygen import ops as layers  # type: ignore[no-redef]

        def leaf(a: Any) -> Any:
            return Tensor(a, requires_grad=True)

        def batch_norm(x: Any, weight: Any, bias: Any) -> Any:
            return layers.batch_norm(x, weight, bias)

    rng = np.random.default_rng(0)

    def step(layer: Callable[..., Any], *shapes: tuple[int, ...]) -> Step:
        inputs = [leaf(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]
        g = rng.standard_normal(tuple(layer(*inputs).shape), dtype=np.float32)
        gradient = leaf(g).detach() if side == "torch" else g

        def run() -> Any:
            for x in inputs:
                x.grad = None
            y = layer(*inputs)
            y.backward(gradient)
            return y.detach(), *(x.grad for x in inputs)

        return run

    cases = {}
    for n, into, out, size, k, stride, padding in CONVOLUTIONS:
        shapes = (n, into, size, size), (out, into, k, k), (out,)
        name = f"{k}×{k}, stride {stride}, {into}→{out} on {size}×{size}, batch {n}"
        cases[name] = step(lambda x, w, b, s=stride, p=padding: layers.conv2d(x, w, b, s, p), *shapes)
    for n, into, out, size, k, stride, padding in TRANSPOSED:
        shapes = (n, into, size, size), (into, out, k, k), (out,)
        name = f"transposed {k}×{k}, stride {stride}, {into}→{out} on {size}×{size}, batch {n}"
        cases[name] = step(
            lambda x, w, b, s=stride, p=padding: layers.conv_transpose2d(x, w, b, s, p), *shapes
        )
    per_channel = (MAPS[1],)
    cases["leaky ReLU, 64 channels on 16×16, batch 64"] = step(lambda x: layers.leaky_relu(x, 0.2), MAPS)
    cases["batch norm, 64 channels on 16×16, batch 64"] = step(batch_norm, MAPS, per_channel, per_channel)
    return cases

"""A 3×3 convolution forward and backward (gradients of maps and weight), and group norm with SiLU.

The shapes come from the UNet of a small diffusion model: maps of 32×32 to 8×8, channels 64 to 256.
PyTorch's maps have its default memory layout, channel by channel ("torch"), or the channels of a pixel side
by side ("torch-nhwc").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

UNIT = "ms"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch", "torch-nhwc")
BATCH = 16
ITEMS = ("images", BATCH)
CONVOLUTIONS = ((64, 32, 64), (128, 16, 128), (256, 16, 128), (128, 8, 128))  # in, size, out
NORM = (64, 32, 32)  # channels, size, groups
FLOPS = {
    f"3×3, {into}→{out}, {size}×{size}": 3 * 2 * 9 * BATCH * into * out * size**2
    for into, size, out in CONVOLUTIONS
}
"""The operations of a convolution by its definition. Winograd's algorithm needs fewer, so it may exceed 100
%."""

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    convolution, norm = {
        "tinygen": (tinygen_convolution, tinygen_norm),
        "torch": (torch_convolution, torch_norm),
        "torch-nhwc": (torch_convolution, torch_norm),
    }[side]
    cases = {
        name: convolution(*arrays(into, size, out), side)
        for name, (into, size, out) in zip(FLOPS, CONVOLUTIONS, strict=True)
    }
    channels, size, groups = NORM
    x, _, g = arrays(channels, size, channels)
    scale, shift = np.random.default_rng(0).standard_normal((2, channels), dtype=np.float32)
    return {**cases, f"group norm, SiLU, {channels}, {size}×{size}": norm(x, scale, shift, g, groups, side)}


def arrays(into: int, size: int, out: int) -> tuple[Any, Any, Any]:
    """Input maps, a weight, and the gradient of the output maps, float32."""
    rng = np.random.default_rng(into + size)
    x = rng.standard_normal((BATCH, into, size, size), dtype=np.float32)
    w = rng.standard_normal((out, into, 3, 3), dtype=np.float32) / (9 * into) ** 0.5
    g = rng.standard_normal((BATCH, out, size, size), dtype=np.float32)
    return x, w.astype(np.float32), g


def tinygen_convolution(x: Any, w: Any, g: Any, side: str) -> Step:
    from tinygen import Tensor, ops

    x, w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)

    def step() -> Any:
        x.grad = w.grad = None
        y = ops.conv2d(x, w, padding=1)
        y.backward(g)
        return y.data, x.grad, w.grad

    return step


def tinygen_norm(x: Any, scale: Any, shift: Any, g: Any, groups: int, side: str) -> Step:
    from tinygen import Tensor, ops

    leaves = [Tensor(a, requires_grad=True) for a in (x, scale, shift)]
    x, scale, shift = leaves

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        y = ops.silu(ops.group_norm(x, groups, scale, shift))
        y.backward(g)
        return y.data, *(leaf.grad for leaf in leaves)

    return step


def torch_leaf(a: Any, side: str) -> Any:
    import torch

    from benchmarks.paired import THREADS

    torch.set_num_threads(THREADS)
    layout = torch.channels_last if side == "torch-nhwc" and a.ndim == 4 else torch.contiguous_format
    return torch.tensor(a).to(memory_format=layout).requires_grad_()


def torch_convolution(x: Any, w: Any, g: Any, side: str) -> Step:
    from torch.nn import functional as F

    x, w, g = torch_leaf(x, side), torch_leaf(w, side), torch_leaf(g, side).detach()

    def step() -> Any:
        x.grad = w.grad = None
        y: Any = F.conv2d(x, w, padding=1)
        y.backward(g)
        return y.detach(), x.grad, w.grad

    return step


def torch_norm(x: Any, scale: Any, shift: Any, g: Any, groups: int, side: str) -> Step:
    from torch.nn import functional as F

    leaves = [torch_leaf(a, side) for a in (x, scale, shift)]
    x, scale, shift = leaves
    g = torch_leaf(g, side).detach()

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        y: Any = F.silu(F.group_norm(x, groups, scale, shift))
        y.backward(g)
        return y.detach(), *(leaf.grad for leaf in leaves)

    return step

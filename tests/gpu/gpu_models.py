"""Whole models beside PyTorch's on the same GPU: a step of nanoGPT's GPT for Shakespeare, a step of a UNet,
a token of GPT-2.

The models and their peers come from `benchmarks/` and have equal weights: their first results must agree.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from gpu_speed import ROUNDED, Side, difference, timed
from gpu_stage import Figures, attempted, of_checkout, torch_here, waiter

Step = Callable[[], Any]
SIZES = {"cuda": ((6, 6, 384, 256, 64), 32), "cpu": ((1, 2, 16, 8, 2), 4)}
"""Of the GPT: layers, heads, width, context and batch; and the sides of the UNet's smaller pictures."""


class Pair(NamedTuple):
    """How to make both sides' step. The first results agree, unless each draws its own numbers."""

    ours: Callable[[], Step]
    theirs: Callable[[Any], Step]  # given the module of benchmarks/ that has PyTorch's side
    peer: str
    same: bool = True


def pairs(device: str) -> dict[str, Pair]:
    of_checkout("benchmarks")
    gpt, unet, generate = (
        importlib.import_module(f"benchmarks.{name}") for name in ("gpt", "unet", "generate")
    )
    shape, side = SIZES[device]
    size = gpt.Size(*shape)

    def training(dropout: float) -> Pair:
        ours = lambda: gpt.tinygen_step(size, device, dropout)
        theirs = lambda peer: peer.training_step(size, False, device, dropout)
        return Pair(ours, theirs, "gpt_torch", same=not dropout)

    sampling = generate.POSITIONS, generate.TEMPERATURE, generate.TOP_K
    return {
        "GPT": training(0.0),
        "GPT, dropout 0.2": training(0.2),
        f"UNet, {side}×{side}": Pair(
            lambda: unet.tinygen_training(side, device),
            lambda peer: peer.training_step(side, False, device),
            "unet_torch",
        ),
        f"UNet, {2 * side}×{2 * side}": Pair(
            lambda: unet.tinygen_training(2 * side, device),
            lambda peer: peer.training_step(2 * side, False, device),
            "unet_torch",
        ),
        "a token of GPT-2, 124M": Pair(
            lambda: generate.tinygen_step(device),
            lambda peer: peer.generating_step(generate.SIZE, generate.text(), *sampling, device),
            "gpt_torch",
        ),
    }


def models_beside_torch(device: str) -> Figures:
    for name, pair in pairs(device).items():
        yield name, attempted(lambda pair=pair: of_pair(pair, device))  # type: ignore[misc]


def of_pair(pair: Pair, device: str) -> dict[str, Any]:
    """Milliseconds a step, the ratio, and the most memory that each library has taken from the GPU."""
    torch = torch_here()
    release(device)
    figures: dict[str, Any] = {}
    ours = pair.ours()
    sides, first = {"ours": Side(ours)}, ours()
    if torch is not None:
        theirs = pair.theirs(importlib.import_module(f"benchmarks.{pair.peer}"))
        sides["torch"], beside = Side(theirs), theirs()
        if pair.same:
            figures = {"error": difference(first, beside), "limit": ROUNDED}
    seconds = timed(sides, waiter(device), least=0.1)
    figures |= {f"{name} ms": 1e3 * s for name, s in seconds.items()}
    if torch is not None:
        figures["ours / torch"] = seconds["ours"] / seconds["torch"]
    return figures | memory(device)


def release(device: str) -> None:
    """Give memory that nothing uses back to the GPU, so that what comes next is counted alone."""
    gc.collect()
    if device != "cpu":
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()
        if torch := torch_here():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def memory(device: str) -> dict[str, float]:
    """Megabytes that were taken from the GPU: CuPy's pool gives nothing back by itself."""
    if device == "cpu":
        return {}
    import cupy

    found = {"ours MB": cupy.get_default_memory_pool().total_bytes() / 1e6}
    if torch := torch_here():
        found["torch MB"] = torch.cuda.max_memory_reserved() / 1e6
    return found

"""Whether a GPU computes what the CPU does: every kernel at real sizes, every op, ten steps of training."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from gpu_stage import Figures, attempted, of_checkout, on_cpu
from kernel_checks import CHECKS
from no_waiting import NEVER, no_waiting

from tinygen import Tensor, kernels
from tinygen.arrays import to_device
from tinygen.diffusion import Process, cosine_schedule, simple_loss
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.nn import Module
from tinygen.ops.window import Geometry
from tinygen.optim import AdamW

# -- kernels ---------------------------------------------------------------------------------------

FAMILIES = (
    *("reduce", "softmax", "layer_norm", "group_norm", "gelu", "cross_entropy"),
    *("embedding", "im2col", "adam", "philox", "flash", "attention"),
)
CLOSE = 1e-4  # of the largest entry: sums of thousands of float32 numbers

SAME, STRIDED = Geometry((1, 1), (1, 1), (1, 1), 1), Geometry((2, 1), (1, 0), (1, 2), 2)
Sizes = dict[str, list[tuple[Any, ...]]]
SIZES: Sizes = {
    "reduce": [(4096, 4097), (3, 1)],
    "softmax": [(4096, 1000), (1, 50257), (257, 1)],
    "layer_norm": [(4096, 768), (255, 33), (1, 2)],
    "group_norm": [(16, 32, 4, 1024), (3, 1, 5, 7)],
    "gelu": [(2**20 + 1,), (1,)],
    "cross_entropy": [(512, 50257), (1000, 65), (1, 2)],
    "embedding": [(8192, 768, 65), (1024, 33, 50257), (1, 1, 1)],
    "columns": [((8, 64, 32, 32), (3, 3), SAME), ((3, 4, 17, 9), (3, 2), STRIDED)],
    "convolutions": [((8, 64, 32, 32), 128, (3, 3), SAME), ((3, 4, 17, 9), 6, (3, 2), STRIDED)],
    "adam": [(2**20 + 1,), (1,)],
    "philox": [(2**20 + 1,), (1,)],
    "attention": [(24, 200, 256, 64, True), (3, 1, 77, 128, False), (2, 33, 33, 5, True)],
}
"""Of the checks: as models have them, and odd ones, that no block divides."""
SMALL: Sizes = {
    **{name: [(2, 5)] for name in ("reduce", "softmax", "layer_norm", "cross_entropy")},
    **{name: [(5,)] for name in ("gelu", "adam", "philox")},
    "group_norm": [(1, 2, 2, 3)],
    "embedding": [(5, 3, 3)],
    "columns": [((1, 1, 2, 2), (3, 3), SAME)],
    "convolutions": [((1, 1, 2, 2), 1, (3, 3), SAME)],
    "attention": [(1, 3, 4, 3, True)],
}
"""For the simulator."""


def agreement(device: str) -> Figures:
    """Every kernel beside its definition in float64 on the CPU."""
    if device != "cpu":
        yield "loaded", {"failed": missing} if (missing := not_loaded()) else "all"
    modules = {name: importlib.import_module(f"tinygen_cuda.{name}") for name in FAMILIES}
    families, sizes = SimpleNamespace(**modules), SMALL if device == "cpu" else SIZES
    for name in CHECKS:
        yield name, attempted(lambda name=name: compared(families, device, name, sizes[name]))  # type: ignore[misc]


def not_loaded() -> str:
    """Kernels that could not be imported, for which definitions would stand in without a word."""
    rows = [row for row in kernels.table().splitlines() if " cuda " in row and " no: " in row]
    return "; ".join(" ".join(row.split()) for row in rows)


def compared(families: Any, device: str, name: str, sizes: list[tuple[Any, ...]]) -> dict[str, Any]:
    start, found = time.perf_counter(), []
    for size in sizes:
        put = lambda array: to_device(array, device)
        results = CHECKS[name](families, put, np.random.default_rng(0), *size)
        found += [(r.error, f"{r.what} {r.shape}") for r in results]
    error, worst = max(found)
    return {"error": error, "limit": CLOSE, "worst": worst, "seconds": time.perf_counter() - start}


# -- ops -------------------------------------------------------------------------------------------


def every_op(device: str, dtype: str = "float32") -> Figures:
    """Every public op, forward and backward, by the table of cases that the tests have."""
    of_checkout("tests/ops")
    yield from importlib.import_module("on_gpu").figures(device, dtype)


def every_definition(device: str) -> Figures:
    """In float64, which no kernel takes: a definition that means something else to CuPy is seen best so."""
    yield from every_op(device, "float64")


# -- training --------------------------------------------------------------------------------------

STEPS, LIMIT = 10, 1e-3

Loss = Callable[[Any, str, np.random.Generator], Tensor]


class Course(NamedTuple):
    """A model, and its loss on a random batch."""

    model: Callable[[np.random.Generator], Module]
    loss: Loss


def of_text(model: Any, device: str, rng: np.random.Generator) -> Tensor:
    ids = rng.integers(model.config.vocab_size, size=(4, model.config.block_size + 1))
    return model(ids[:, :-1], ids[:, 1:])[1]


def of_noise(model: Any, device: str, rng: np.random.Generator) -> Tensor:
    """DDPM's, of pictures and a class each."""
    x = to_device(rng.standard_normal((4, 3, 16, 16), dtype=np.float32), device)
    labels = rng.integers(10, size=4)
    return simple_loss(Process(cosine_schedule(1000)), lambda noisy, t: model(noisy, t, labels), x, rng=rng)


def of_pixels(*shape: int) -> Loss:
    return lambda model, device, rng: model.loss(
        to_device(rng.random(shape, dtype=np.float32), device), rng=rng
    )


PICTURES = UNetConfig(3, 3, channels=32, multipliers=(1, 2), blocks=1, classes=10)
COURSES = {
    "GPT": Course(lambda rng: GPT(GPTConfig(65, 64, n_layer=2, n_head=2, n_embd=64), rng=rng), of_text),
    "UNet": Course(lambda rng: UNet(PICTURES, rng=rng), of_noise),
    "VAE": Course(lambda rng: VAE(rng=rng), of_pixels(16, 784)),
    "convolutional VAE": Course(lambda rng: ConvVAE(rng=rng), of_pixels(16, 1, 8, 8)),
}


def training(device: str) -> Figures:
    """Ten steps on the GPU, and by the definitions on the CPU; and steps during which nothing may wait."""
    for name, course in COURSES.items():
        yield name, attempted(lambda course=course: beside_cpu(course, device))  # type: ignore[misc]
    if device != "cpu":
        for name, found in no_waiting(device).items():
            yield f"{name}, without waiting", found if found == NEVER else {"failed": found}


def beside_cpu(course: Course, device: str) -> dict[str, Any]:
    """How far the losses are apart, and the first step's gradients: Adam's steps hardly depend on how long
    gradients are, so that losses alone would not tell of wrong ones. A parameter's error is in units of its
    largest entry; where that is next to nothing, in units of a thousandth of the largest of all."""
    steps = 2 if device == "cpu" else STEPS
    with kernels("off"):
        losses, gradients = trained(course, "cpu", steps)
    there, found = trained(course, device, steps)
    least = 1e-3 * max(np.abs(g).max() for g in gradients.values())
    errors = {
        f"gradient of {name}": float(np.abs(found[name] - g).max() / max(np.abs(g).max(), least))
        for name, g in gradients.items()
    }
    errors["losses"] = max(abs(a - b) / abs(a) for a, b in zip(losses, there, strict=True))
    worst = max(errors, key=lambda name: errors[name])
    return {"error": errors[worst], "limit": LIMIT, "worst": worst, "last loss": there[-1]}


def trained(course: Course, device: str, steps: int) -> tuple[list[float], dict[str, Any]]:
    """The losses, and the gradients of the first step. Every weight is moved a little first: none is 0 and
    keeps others from having a gradient."""
    model = course.model(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.02 * rng.standard_normal(p.shape, dtype=np.float32)
    optimizer = AdamW(model.to(device).parameters(), lr=1e-3)
    losses: list[float] = []
    gradients: dict[str, Any] = {}
    for _ in range(steps):
        loss = course.loss(model, device, rng)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            gradients = {name: on_cpu(p.grad).copy() for name, p in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return losses, gradients

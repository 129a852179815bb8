"""A small UNet for diffusion: one training step (loss of ε, AdamW) at two resolutions, one step of DDIM.

The UNet has two levels of 64 and 128 channels, two residual blocks in each, and self-attention in the lower
level and in the middle; the pictures are RGB, the batch 16. All weights are random, including the ones that
a UNet initializes to zero, so that each weight has an effect. The peer (`unet_torch.py`) is the same UNet
in PyTorch. Its maps are stored channel by channel ("torch"), or with the channels of a pixel side by side
("torch-nhwc"). All must reach the same loss and picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

UNIT = "ms"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch", "torch-nhwc")
CHANNELS, MULTIPLIERS, BLOCKS, ATTENTION, HEADS, GROUPS = 64, (1, 2), 2, (False, True), 4, 32
COLORS, BATCH, STEPS = 3, 16, 1000
SIZES = (16, 32)
LR, BETAS, EPS, DECAY = 2e-4, (0.9, 0.999), 1e-8, 0.01
JUMPS, AT = 10, 5  # the DDIM has this many steps, of which this one is done
ITEMS = ("images", BATCH)

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    if side == "tinygen":
        return cases(tinygen_training, tinygen_sampling)
    from benchmarks import unet_torch

    nhwc = side == "torch-nhwc"
    return cases(partial(unet_torch.training_step, nhwc=nhwc), partial(unet_torch.sampling_step, nhwc=nhwc))


def cases(training: Callable[[int], Step], sampling: Callable[[int], Step]) -> dict[str, Step]:
    steps = {f"training, {size}×{size}": training(size) for size in SIZES}
    return {**steps, f"DDIM, {SIZES[0]}×{SIZES[0]}": sampling(SIZES[0])}


def weights(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Initial weights, the same for the same names and shapes: uniform in ±1/sqrt(fan_in), 1 in norms, 0 for
    biases."""
    rng = np.random.default_rng(0)
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) > 1:
            bound = 1 / np.prod(shape[1:]) ** 0.5
            yield name, (bound * (2 * rng.random(shape) - 1)).astype(np.float32)
        else:
            yield name, np.full(shape, float(name.endswith("weight")), np.float32)


def batches(size: int) -> list[tuple[Any, Any, Any]]:
    """Pictures (B, 3, H, W), the step numbers of their noise (B,), counted from 0, and the noise."""
    rng, shape = np.random.default_rng(1), (BATCH, COLORS, size, size)
    return [
        (
            rng.uniform(-1, 1, shape).astype(np.float32),
            rng.integers(STEPS, size=BATCH),
            rng.standard_normal(shape, dtype=np.float32),
        )
        for _ in range(4)
    ]


def tinygen_model() -> Any:
    from tinygen.models.pictures.unet import UNet, UNetConfig

    config = UNetConfig(COLORS, COLORS, CHANNELS, MULTIPLIERS, BLOCKS, ATTENTION, HEADS, groups=GROUPS)
    model = UNet(config, rng=np.random.default_rng(0))
    parameters = dict(model.named_parameters())
    for name, array in weights({name: p.shape for name, p in parameters.items()}):
        parameters[name].data = array
    return model


def tinygen_training(size: int, device: str = "cpu") -> Step:
    from tinygen.arrays import to_device
    from tinygen.diffusion import Process, linear_schedule, loss_at
    from tinygen.optim import AdamW

    model, process = tinygen_model().to(device), Process(linear_schedule(STEPS))
    data = cycle([(to_device(x0, device), t + 1, to_device(eps, device)) for x0, t, eps in batches(size)])
    optimizer = AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)

    def step() -> Any:
        loss = loss_at(process, model, *next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step


def tinygen_sampling(size: int) -> Step:
    from tinygen.diffusion import Process, ddim_step, evenly_spaced, linear_schedule

    model, process = (
        tinygen_model().eval(),
        Process(linear_schedule(STEPS)).respace(evenly_spaced(STEPS, JUMPS)),
    )
    x = batches(size)[0][2]
    return lambda: ddim_step(process, model, x, AT + 1)

"""Inpainting: a model of whole pictures fills in the part that is missing, without being trained for that.

Before each step of ancestral sampling the known part of x_t is put in, with its own noise of that step, so
that the model makes the rest to go with it. But the rest of x_t was made before the known part got this
noise, and never quite fits. RePaint (Lugmayr et al. 2022, arXiv:2201.09865, section 4.2 and algorithm 1) goes
some steps back into noise, and makes them again with the known part renewed: time after time the two grow
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, Variance
from tinygen.diffusion.sampling import Model, ancestral_step
from tinygen.ops.random import noise_like
from tinygen.tensor import Array


def inpaint(
    process: Process,
    model: Model,
    x: Array,
    known: Array,
    mask: Any,
    rng: np.random.Generator,
    repeats: int = 1,
    jump: int = 10,
    variance: Variance = "small",
    clip: float | None = None,
) -> Array:
    """Data (B, ...) that is `known` (B, ...) where `mask` is true (bools that broadcast with it), and made
    from noise x (B, ...) elsewhere.

    Every `jump` steps it goes that far back, `repeats` - 1 times: with 1 it never does, with r the model is
    asked about r times as often. What `known` holds elsewhere does not matter, if it is finite. The model,
    `variance` and `clip` are those of `ancestral`. Raises ValueError for repeats or jump below 1."""
    mask = np.broadcast_to(mask, x.shape)
    for before, after in pairwise(walk(len(process.schedule), repeats, jump)):
        if after > before:
            x = process.step(x, after, noise_like(x, rng))
        else:
            x = np.where(mask, process.diffuse(known, before, noise_like(x, rng)), x)
            x = ancestral_step(process, model, x, before, rng, variance, clip)
    return np.where(mask, known, x)


def walk(steps: int, repeats: int, jump: int) -> Iterator[int]:
    """Which x_t RePaint comes by: from steps - 1 down to the data, -1, but at 0, jump, 2·jump, ... that far
    up again, `repeats` - 1 times each."""
    if repeats < 1 or jump < 1:
        raise ValueError(f"repeats and jump must be at least 1, got {repeats} and {jump}")
    left = dict.fromkeys(range(0, steps - jump, jump), repeats - 1)
    t = steps - 1
    yield t
    while t >= 0:
        if left.get(t, 0) > 0:
            left[t] -= 1
            for _ in range(jump):
                t += 1
                yield t
        t -= 1
        yield t

"""Inpainting: a model of whole pictures fills in a missing part, without being trained for it.

Before each step of ancestral sampling the known part of x_t is put in, with noise of step t, so that the
model makes the rest fit it. But the rest of x_t was made before this noise was drawn, and never fits quite
well. RePaint (Lugmayr et al. 2022, arXiv:2201.09865, section 4.2 and algorithm 1) goes some steps back into
noise and makes them again with the known part renewed: each time, the two parts fit better.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, Variance
from tinygen.diffusion.sampling import Model, ancestral_step
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array


def inpaint(
    process: Process,
    model: Model,
    x: Array,
    known: Array,
    mask: Any,
    *,
    rng: RNGLike,
    repeats: int = 1,
    jump: int = 10,
    variance: Variance = "small",
    clip: float | None = None,
) -> Iterator[Array]:
    """A sampler: yields every state (B, ...) on the way from noise x = x_T to data that is `known` (B, ...)
    where `mask` is true (bools that broadcast with it), and made by the model elsewhere.

    Every `jump` steps it goes that far back into noise, `repeats` - 1 times: with repeats = 1 it never does,
    with r the model is called about r times as often. The entries of `known` where the mask is false do not
    matter, if they are finite. The model, `variance` and `clip` are as in `ancestral_sampling`.
    Raises ValueError for repeats or jump below 1."""
    mask, rng = on_device_of(x, np.broadcast_to(mask, x.shape)), as_generator(rng)
    for t, following in pairwise(visited_times(len(process.schedule), repeats, jump)):
        if following == t + 1:
            x = process.step(x, following, noise_like(x, rng))
        else:
            x = np.where(mask, process.diffuse(known, t, noise_like(x, rng)), x)
            x = ancestral_step(process, model, x, t, rng=rng, variance=variance, clip=clip)
        yield x if following > 0 else np.where(mask, known, x)


def visited_times(steps: int, repeats: int, jump: int) -> Iterator[int]:
    """The t of each x_t that RePaint visits: from `steps` down to 0, the data; but from 1, 1 + jump, 1 +
    2·jump, ... it goes up by `jump` again, `repeats` - 1 times each.

    Raises ValueError for repeats or jump below 1."""
    if repeats < 1 or jump < 1:
        raise ValueError(f"repeats and jump must be at least 1, got {repeats} and {jump}")
    jumps_left = dict.fromkeys(range(1, steps - jump + 1, jump), repeats - 1)
    t = steps
    yield t
    while t > 0:
        if jumps_left.get(t):
            jumps_left[t] -= 1
            for _ in range(jump):
                t += 1
                yield t
        t -= 1
        yield t

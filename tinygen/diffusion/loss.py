"""What a diffusion model is trained by: the squared error of its prediction (Ho et al. 2020, eq. 14), and
where it learns variances the variational bound (Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.diffusion.bound import step_bits
from tinygen.diffusion.process import Process, at, halves
from tinygen.ops.random import noise_like
from tinygen.tape import detach
from tinygen.tensor import Array
from tinygen.types import Floats


def min_snr(process: Process, most: float = 5.0) -> Floats:
    """Weights (T,) for `loss_at` with which a step counts as the error of the data does, times its ratio of
    signal to noise, signal²/noise², but no more than `most` (Hang et al. 2023, arXiv:2303.09556). The steps
    next to the data, where that is thousands, don't outweigh the others then; nor do those next to the noise,
    as they do in the error of ε."""
    ratio: Floats = np.square(process.schedule.signal / process.schedule.noise)
    of_data = {"eps": ratio, "x0": np.ones_like(ratio), "v": ratio + 1}  # error² of that, by error² of x0
    weights: Floats = np.minimum(ratio, most) / of_data[process.predicts]
    return weights


def loss_at(
    process: Process,
    model: Callable[..., Any],
    x0: Array,
    t: Any,
    noise: Array,
    weights: Floats | None = None,
) -> Any:
    """The mean of (model(x_t, t) - target)² over everything, for data x0 (B, ...), steps t (B,) and noise
    (B, ...); times weights[t], if there are `weights` (T,). The model gets x_t as an array and the numbers of
    the steps (B,); what it returns has the shape of x0, and if that is a Tensor, so is the loss."""
    prediction = model(process.diffuse(x0, t, noise), process.schedule.timesteps[t])
    target = process.target(x0, noise, t)
    if weights is None:
        return ops.mse(prediction, target)
    return np.mean(at(weights, t, x0) * ops.mse(prediction, target, "none"))


def simple_loss(
    process: Process,
    model: Callable[..., Any],
    x0: Array,
    rng: np.random.Generator,
    weights: Floats | None = None,
) -> Any:
    """`loss_at` for a step and noise drawn for each x0 (B, ...): all steps are equally likely. As the
    prediction of ε, and without weights, it is the bound on -ln p(x0) with its own weights left out."""
    t = rng.integers(len(process.schedule), size=len(x0))
    return loss_at(process, model, x0, t, noise_like(x0, rng), weights)


def hybrid_loss_at(
    process: Process,
    model: Callable[..., Any],
    x0: Array,
    t: Any,
    noise: Array,
    levels: int | None,
    weight: float = 1e-3,
) -> Any:
    """`loss_at` plus `weight` times the bound in bits per dimension, T times the mean of these steps' terms,
    for a model that makes 2C channels of the C of x_t, the second half for the variance.

    The bound teaches the variances alone: to it the prediction is a constant. For `levels` see `bound`."""
    x = process.diffuse(x0, t, noise)
    prediction, between = halves(model(x, process.schedule.timesteps[t]), x, "learned")
    guess, _ = process.split(detach(prediction), x, t)
    log_variance = process.log_variance("learned", x, t, between)
    bound = len(process.schedule) * np.mean(step_bits(process, x0, t, guess, log_variance, levels))
    return ops.mse(prediction, process.target(x0, noise, t)) + weight * bound


def hybrid_loss(
    process: Process,
    model: Callable[..., Any],
    x0: Array,
    rng: np.random.Generator,
    levels: int | None,
    weight: float = 1e-3,
) -> Any:
    """`hybrid_loss_at` for a step and noise drawn for each x0 (B, ...), as in `simple_loss`."""
    t = rng.integers(len(process.schedule), size=len(x0))
    return hybrid_loss_at(process, model, x0, t, noise_like(x0, rng), levels, weight)

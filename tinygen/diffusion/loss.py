"""What a diffusion model is trained by: the squared error of its prediction (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.diffusion.process import Process, noise_like
from tinygen.tensor import Array


def loss_at(process: Process, model: Callable[..., Any], x0: Array, t: Any, noise: Array) -> Any:
    """The mean of (model(x_t, t) - target)² over everything, for data x0 (B, ...), steps t (B,) and noise
    (B, ...). The model gets x_t as an array and the numbers of the steps (B,); what it returns has the shape
    of x0, and if that is a Tensor, so is the loss."""
    prediction = model(process.diffuse(x0, t, noise), process.schedule.timesteps[t])
    return ops.mse(prediction, process.target(x0, noise, t))


def simple_loss(process: Process, model: Callable[..., Any], x0: Array, rng: np.random.Generator) -> Any:
    """`loss_at` for a step and noise drawn for each x0 (B, ...): all steps are equally likely, and count the
    same. As the prediction of ε it is the bound on -ln p(x0) with its weights left out."""
    t = rng.integers(len(process.schedule), size=len(x0))
    return loss_at(process, model, x0, t, noise_like(x0, rng))

"""From noise to data: ancestral sampling (Ho, Jain & Abbeel 2020, arXiv:2006.11239, algorithm 2) and DDIM
(Song, Meng & Ermon 2020, arXiv:2010.02502), with a model that says what x_t is made of.

The model is any function of x (B, ...) and the numbers of the steps (B,) that returns what its process
`predicts`, in the shape of x, as an array or a Tensor. Nothing is recorded; a module should be in evaluation
mode. Both samplers go through all steps of the process; for fewer, pass `process.respaced(spread(steps, n))`.
They start from x ~ N(0, 1).

`clip` bounds the x0 that the model sees to [-clip, clip] in every step: 1 for pictures in [-1, 1], None for
data without bounds, such as latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, Variance, halves
from tinygen.modes import no_grad
from tinygen.ops.random import noise_like
from tinygen.tensor import Array, Tensor

Model = Callable[[Any, Any], Any]


def predict(
    process: Process, model: Model, x: Array, t: int, clip: float | None, variance: Variance = "small"
) -> tuple[Array, Array, Array]:
    """What the model takes for the data and the noise in x = x_t, both (B, ...), and the logarithm of the
    variance of its step back."""
    with no_grad():
        prediction = model(x, np.full(len(x), process.schedule.timesteps[t]))
    if isinstance(prediction, Tensor):
        prediction = prediction.data
    prediction, between = halves(prediction, x, variance)
    log_variance = process.log_variance(variance, x, t, between)
    x0, eps = process.split(prediction, x, t)
    if clip is None:
        return x0, eps, log_variance
    x0 = np.clip(x0, -clip, clip)
    return x0, process.eps(x0, x, t), log_variance


# -- ancestral sampling ----------------------------------------------------------------------------


def ancestral_step(
    process: Process,
    model: Model,
    x: Array,
    t: int,
    rng: np.random.Generator,
    variance: Variance = "small",
    clip: float | None = None,
) -> Array:
    """A draw of x_{t-1} given x = x_t: the posterior's mean at the model's x0, and noise of its variance
    ("small"), of β ("large"), or of what the model says, which then makes 2C channels of the C of x
    ("learned"; `Process.log_variance`). The last step, t = 0, adds no noise."""
    x0, _, log_variance = predict(process, model, x, t, clip, variance)
    mean, _ = process.posterior(x0, x, t)
    if t == 0:
        return mean
    return mean + np.exp(0.5 * log_variance) * noise_like(x, rng)


def ancestral(
    process: Process,
    model: Model,
    x: Array,
    rng: np.random.Generator,
    variance: Variance = "small",
    clip: float | None = None,
) -> Array:
    """Data (B, ...) from noise x (B, ...), by `ancestral_step` through all steps."""
    for t in reversed(range(len(process.schedule))):
        x = ancestral_step(process, model, x, t, rng, variance, clip)
    return x


# -- DDIM ------------------------------------------------------------------------------------------


def ddim_step(
    process: Process,
    model: Model,
    x: Array,
    t: int,
    eta: float = 0.0,
    rng: np.random.Generator | None = None,
    clip: float | None = None,
) -> Array:
    """x_{t-1} of x = x_t: the model's x0 with less of the model's noise, a part of which new noise replaces;
    the part grows with eta (eq. 12 and 16). At 0 nothing is drawn, at 1 this is `ancestral_step` with the
    small variance. ValueError for eta outside [0, 1], or above 0 without a generator."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be within [0, 1], got {eta}")
    x0, eps, _ = predict(process, model, x, t, clip)
    left = process.schedule.alpha_bars_prev[t]
    new = eta**2 * process.schedule.posterior_variance[t]
    x = math.sqrt(left) * x0 + math.sqrt(1 - left - new) * eps
    if new == 0:
        return x
    if rng is None:
        raise ValueError(f"eta={eta} adds noise: pass a generator, or eta=0")
    return x + math.sqrt(new) * noise_like(x, rng)


def ddim(
    process: Process,
    model: Model,
    x: Array,
    eta: float = 0.0,
    rng: np.random.Generator | None = None,
    clip: float | None = None,
) -> Array:
    """Data (B, ...) from noise x (B, ...), by `ddim_step` through all steps; with eta = 0 a function of x."""
    for t in reversed(range(len(process.schedule))):
        x = ddim_step(process, model, x, t, eta, rng, clip)
    return x


def ddim_encode(process: Process, model: Model, x: Array, iterations: int = 1) -> Array:
    """The noise (B, ...) from which `ddim` with eta = 0 makes the data x (B, ...).

    x_t is what `ddim_step` takes to x_{t-1}; to solve for it, the model would have to be asked about x_t
    itself. It is asked about x_{t-1} instead, which is as far off as one step is long (section 4.3), and
    with more iterations about the solution so far: where that converges, `ddim` returns exactly."""
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    s = process.schedule
    for t in range(len(s)):
        before = x
        kept = math.sqrt(s.alphas[t])
        fresh = s.noise[t] - kept * math.sqrt(1 - s.alpha_bars_prev[t])
        for _ in range(iterations):
            _, eps, _ = predict(process, model, x, t, None)
            x = kept * before + float(fresh) * eps
    return x

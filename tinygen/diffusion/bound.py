"""How many bits does a diffusion spend on the data? The variational bound on -log p(x0), the sum of

    KL(q(x_{T-1} | x0) ‖ N(0, 1))                               what the last step still shows of the data,
    E KL(q(x_{t-1} | x_t, x0) ‖ p(x_{t-1} | x_t)), t ≥ 1        what each step of the model is off by,
    E -log p(x0 | x_0),                                         and its last step, to the data itself

(Ho, Jain & Abbeel 2020, arXiv:2006.11239, eq. 5, with steps from 0 as in `schedule`). Divided by the entries
of x0 it is in bits per dimension: a figure to compare models of the same data by, without looking at samples.

The last step has to name one of the data's `levels`: numbers at even distances from -1 to 1, 256 of them for
pictures of bytes. Its normal distribution gives each the interval around it, and the outermost two all that
is beyond (eq. 13). Data without levels has densities in place of probabilities: `levels` is None.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygen import ops
from tinygen.diffusion.process import Process, Variance, at
from tinygen.diffusion.sampling import Model, predict
from tinygen.ops.random import noise_like
from tinygen.tensor import Array
from tinygen.types import Floats

LEAST = 1e-12
"""Probabilities below are taken for this one: the difference of two numbers near 1 has no digits left there.
So a model that is sure of a wrong level is let off with 40 bits."""


class Bound(NamedTuple):
    """Bits per dimension: of each step (T,), that to the data being the first, and of the prior."""

    steps: Floats
    prior: float

    @property
    def total(self) -> float:
        """The sum of all terms."""
        return float(self.steps.sum()) + self.prior


def bits_per_dim(
    process: Process,
    model: Model,
    x0: Array,
    rng: np.random.Generator,
    levels: int | None,
    variance: Variance = "small",
    clip: float | None = None,
) -> Bound:
    """The bound for data x0 (B, ...), the mean over the batch, with one draw of x_t for each x0 and t.

    The model, `variance` and `clip` are those of `ancestral`. Raises ValueError for data that is not on its
    levels."""
    if levels is not None:
        check_levels(x0, levels)
    steps = np.zeros(len(process.schedule))
    exact = x0.astype(np.float64)  # for the differences of numbers near 1
    for t in range(len(process.schedule)):
        x = process.diffuse(x0, t, noise_like(x0, rng))
        guess, _, log_variance = predict(process, model, x, t, clip, variance)
        steps[t] = float(step_bits(process, exact, t, guess, log_variance, levels).mean())
    signal, noise = process.schedule.signal[-1], process.schedule.noise[-1]
    prior = ops.kl_gaussian(signal * exact, np.full_like(exact, 2 * math.log(noise)))
    return Bound(steps, float(prior) / math.log(2))


def check_levels(x0: Array, levels: int) -> None:
    if levels < 2:
        raise ValueError(f"data has at least 2 levels, -1 and 1, got {levels}")
    number = (x0 + 1) * ((levels - 1) / 2)
    off = np.abs(number - np.clip(np.round(number), 0, levels - 1))
    if off.max() > 0.01:
        raise ValueError(
            f"x0 must be on {levels} levels from -1 to 1, got {x0.flat[int(off.argmax())]:.4g} between them: "
            "scale the data to them, or pass levels=None for a density"
        )


def step_bits(process: Process, x0: Array, t: Any, guess: Any, log_variance: Any, levels: int | None) -> Any:
    """What the step from x_t costs in each entry of x0 (B, ...), in bits, where the model takes `guess`
    (B, ...) for the data, and gives its step back this logarithm of the variance. Differentiable by both."""
    t = np.broadcast_to(t, len(x0))
    back = step_divergence(process, x0, t, guess, log_variance)
    last = -log_likelihood(x0, guess, log_variance, levels)
    first_step = (t == 0).reshape(-1, *(1,) * (x0.ndim - 1))
    return np.where(first_step, last, back) / math.log(2)


def step_divergence(process: Process, x0: Array, t: Any, guess: Any, log_variance: Any) -> Any:
    """KL(q(x_{t-1} | x_t, x0) ‖ p(x_{t-1} | x_t)) in each entry (B, ...), in nats: both are normal, and their
    means differ in nothing but what they have of the data."""
    s = process.schedule
    ratio = at(s.log_small, t, x0) - log_variance
    off = at(s.posterior_from_x0, t, x0) * (x0 - guess)
    return 0.5 * (np.exp(ratio) - 1 - ratio + off * off * np.exp(-log_variance))


def log_likelihood(x: Array, mean: Any, log_variance: Any, levels: int | None) -> Any:
    """ln of the density of N(mean, exp(log_variance)) at x (B, ...) for levels=None, else of what it gives
    to the level that x is."""
    narrow = np.exp(-0.5 * log_variance)
    if levels is None:
        return -0.5 * (np.square((x - mean) * narrow) + log_variance + math.log(2 * math.pi))
    half = 1 / (levels - 1)  # of the interval of a level
    below, above = (ops.erf((x + d - mean) * (narrow / math.sqrt(2))) for d in (-half, half))
    inside = np.where(x > 1 - half, 1.0, above) - np.where(x < half - 1, -1.0, below)
    return np.log(np.maximum(0.5 * inside, LEAST))

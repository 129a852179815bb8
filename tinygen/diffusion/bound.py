"""How many bits does a diffusion model need for the data? The variational bound on -log p(x_0) is the sum of

    L_T = KL(q(x_T | x_0) ‖ N(0, 1))                                   the prior: x_T still depends on x_0,
    L_{t-1} = E KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)), t ≥ 2    the error of the model's step t,
    L_0 = E -log p(x_0 | x_1)                                          the cost of the last step, to the data

(Ho, Jain & Abbeel 2020, arXiv:2006.11239, eq. 5). Divided by the number of entries of x_0 it is in bits per
dimension: a figure that compares models of the same data, without looking at samples.

The last step chooses one of the data's `levels`: evenly spaced numbers from -1 to 1, 256 of them for pictures
of bytes. A level's probability is the integral of the normal density over the interval around it; the two
outermost intervals extend to infinity (eq. 13). Data without levels has densities in place of probabilities:
`levels` is None.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygen import ops
from tinygen.diffusion.process import Process, Variance, coefficient
from tinygen.diffusion.sampling import Model, predict
from tinygen.ops.compose import on_device_of
from tinygen.ops.loss import log_normal
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array
from tinygen.types import Floats, IdsLike, TensorLike

MIN_PROBABILITY = 1e-12
"""Smaller probabilities are raised to this value: the difference of two numbers near 1 has lost all digits
there. So a model that is sure of a wrong level pays at most 40 bits."""


class Bound(NamedTuple):
    """Bits per dimension: of the steps (T,), L_0 ... L_{T-1}, and of the prior, L_T."""

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
    *,
    rng: RNGLike,
    levels: int | None,
    variance: Variance = "small",
    clip: float | None = None,
) -> Bound:
    """The bound for data x0 (B, ...), the mean over the batch, with one draw of x_t for each x_0 and t.

    The model, `variance` and `clip` are as in `ancestral_sampling`. Raises ValueError for data that is
    not on its levels."""
    if levels is not None:
        check_levels(x0, levels)
    s, rng = process.schedule, as_generator(rng)
    steps = np.zeros(len(s))
    exact = x0.astype(np.float64)  # for the differences of numbers near 1
    for t in range(1, len(s) + 1):
        x = process.diffuse(x0, t, noise_like(x0, rng))
        x0_hat, _, log_variance = predict(process, model, x, t, clip, variance)
        steps[t - 1] = float(step_bits(process, exact, t, x0_hat, log_variance, levels).mean())
    prior = ops.kl_gaussian(s.alpha[-1] * exact, np.full_like(exact, 2 * math.log(s.sigma[-1])))
    return Bound(steps, float(prior) / math.log(2))


def check_levels(x0: Array, levels: int) -> None:
    if levels < 2:
        raise ValueError(f"data has at least 2 levels, -1 and 1, got {levels}")
    number = (x0 + 1) * ((levels - 1) / 2)
    off = np.abs(number - np.clip(np.round(number), 0, levels - 1))
    if off.max() > 0.01:
        wrong = float(x0.ravel()[off.argmax()])
        raise ValueError(
            f"x0 must be on {levels} levels from -1 to 1, got {wrong:.4g} between them: "
            "scale the data to them, or pass levels=None for a density"
        )


def step_bits(
    process: Process, x0: Array, t: IdsLike, x0_hat: TensorLike, log_variance: TensorLike, levels: int | None
) -> TensorLike:
    """L_{t-1} in each entry of x0 (B, ...), in bits, for a model whose x_0 in x_t is x0_hat (B, ...) and
    whose step back has this logarithm of the variance. Differentiable in both."""
    t = np.broadcast_to(t, len(x0))
    back = step_divergence(process, x0, t, x0_hat, log_variance)
    last = -log_likelihood(x0, x0_hat, log_variance, levels)
    is_last = on_device_of(x0, (t == 1).reshape(len(t), *(1,) * (x0.ndim - 1)))
    return np.where(is_last, last, back) / math.log(2)


def step_divergence(
    process: Process, x0: Array, t: IdsLike, x0_hat: TensorLike, log_variance: TensorLike
) -> TensorLike:
    """KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)) in each entry (B, ...), in nats: of two normal
    distributions whose means differ only by the difference of x_0 and the model's x_0.

    Eq.: KL(N(μ, σ²) ‖ N(m, s²)) = ln(s/σ) + (σ² + (μ - m)²) / (2 s²) - 1/2
        (Ho et al. 2020, eq. 5, the terms L_{t-1})
    Held by: tests/diffusion/test_bound.py::test_divergence_is_the_integral
    """
    s = process.schedule
    ratio = coefficient(s.log_small, t, x0) - log_variance
    difference = coefficient(s.posterior_from_x0, t, x0) * (x0 - x0_hat)
    return 0.5 * (np.exp(ratio) - 1 - ratio + difference * difference * np.exp(-log_variance))


def log_likelihood(x: Array, mean: Any, log_variance: Any, levels: int | None) -> TensorLike:
    """ln of the density of N(mean, exp(log_variance)) at x (B, ...), where levels is None; else ln of the
    probability of the level x.

    Eq.: p(x_0 | x_1) = ∫ N(x; μ, σ²) dx over the interval around the level x_0  (Ho et al. 2020, eq. 13)
    Held by: tests/diffusion/test_bound.py::test_levels_share_all_of_the_probability
    """
    if levels is None:
        return log_normal(x, mean, log_variance)
    half = 1 / (levels - 1)  # of the interval around a level
    below, above = (
        ops.erf((x + d - mean) * (np.exp(-0.5 * log_variance) / math.sqrt(2))) for d in (-half, half)
    )
    inside = np.where(x > 1 - half, 1.0, above) - np.where(x < half - 1, -1.0, below)
    return np.log(np.maximum(0.5 * inside, MIN_PROBABILITY))

"""Sampling in σ: the probability flow where it is simplest (Karras, Aittala, Aila & Laine 2022,
arXiv:2206.00364).

With y = x_t/α_t and σ = σ_t/α_t the state is data plus noise, y = x_0 + σ ε, and the differential equation
that goes from noise to data without new noise is dy/dσ = ε (eq. 1, with σ for the time). Euler's method takes
ε at the beginning of a step for all of it. That is DDIM: nothing but the scale of the states differs.

A network that was trained for x_t sees α_t y. Between its steps it takes any level of noise: `sigma_schedule`
is the schedule of levels that one chooses, and `karras_sigmas` are Karras et al.'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import Model, predict
from tinygen.diffusion.schedule import Schedule
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array
from tinygen.types import Floats, Ids


def sigma_schedule(sigmas: Floats, timesteps: Ids | Floats, last: float = 0.0) -> Schedule:
    """The schedule whose states are data with noise of the standard deviations sigmas (T,), falling, and
    `last` in the end; `timesteps` (T,) are the numbers that the network receives for them.

    Raises ValueError unless each is below the one before.

    Eq.: ᾱ = 1/(1 + σ²)  (Karras et al. 2022, table 1: s(t)² of VP)
    Held by: tests/diffusion/test_karras.py::test_a_schedule_of_sigmas
    """
    levels = np.array([*sigmas, last], np.float64)[::-1]
    if not np.all(np.diff(levels) > 0) or last < 0:
        raise ValueError(f"sigmas must fall to last={last}, which is at least 0, got {levels[:0:-1]}")
    alpha_bar = 1 / (1 + np.square(levels))
    schedule = Schedule(1 - alpha_bar[1:] / alpha_bar[:-1], timesteps[::-1], float(1 - alpha_bar[0]))
    # products of 1 - β would lose digits of a small ᾱ
    schedule.alpha_bar, schedule.alpha = alpha_bar, np.sqrt(alpha_bar)
    schedule.sigma = levels * schedule.alpha
    return schedule


def karras_sigmas(n: int, smallest: float, largest: float, rho: float = 7.0) -> Floats:
    """n levels of noise (n,) from the largest to the smallest, evenly spaced in their roots of degree rho:
    the steps are shortest near the data, where errors are easiest to see.

    Eq.: σ_i = (σ_max^(1/ρ) + i/(n-1) (σ_min^(1/ρ) - σ_max^(1/ρ)))^ρ  (Karras et al. 2022, eq. 5)
    Held by: tests/diffusion/test_karras.py::test_karras_sigmas
    """
    return np.linspace(largest ** (1 / rho), smallest ** (1 / rho), n) ** rho


def sigma_euler(
    process: Process, model: Model, x: Array, *, eta: float = 0.0, rng: RNGLike | None = None
) -> Iterator[Array]:
    """Yields y = x_t/α_t for t = T-1, ..., 0 (B, ...) from noise x = x_T, by Euler's method in σ; the last
    one is the data. The model sees x_t.

    With `eta` above 0 a part of the noise is replaced by new noise, as in `ddim`: with 1 this is ancestral
    sampling.

    Raises ValueError for eta outside [0, 1], or above 0 without a generator, and where α_T = 0: σ is then
    infinite.

    Eq.: y_{t-1} = y_t + (σ↓ - σ_t) ε̂ + σ↑ z,  σ↑² = η² σ_{t-1}² (σ_t² - σ_{t-1}²)/σ_t²,
        σ↓² = σ_{t-1}² - σ↑²,  σ_t for σ_t/α_t
        (Karras et al. 2022, algorithm 1, without lines 6 to 8; Song et al. 2020, eq. 16, in σ)
    Held by: tests/diffusion/test_karras.py::test_euler_is_ddim
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be within [0, 1], got {eta}")
    rng = None if rng is None else as_generator(rng)
    s = process.schedule
    if s.alpha[-1] == 0:
        raise ValueError("with zero-terminal SNR (α_T = 0) σ is infinite: take a schedule with α_T > 0")
    sigma = s.sigma / s.alpha  # (T + 1,)
    y = x / float(s.alpha[-1])
    for t in range(len(s), 0, -1):
        _, eps, _ = predict(process, model, y * float(s.alpha[t]), t, None)
        up = eta * sigma[t - 1] * math.sqrt(1 - (sigma[t - 1] / sigma[t]) ** 2)
        down = math.sqrt(sigma[t - 1] ** 2 - up**2)
        y = y + eps * float(down - sigma[t])
        if up > 0:
            if rng is None:
                raise ValueError(f"eta={eta} adds noise: pass a generator, or eta=0")
            y = y + noise_like(y, rng) * float(up)
        yield y

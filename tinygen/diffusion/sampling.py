"""From noise to data with a model that predicts what x_t consists of: ancestral sampling (Ho, Jain & Abbeel
2020, arXiv:2006.11239, algorithm 2) and DDIM (Song, Meng & Ermon 2020, arXiv:2010.02502).

A sampler is a generator of its states: from x = x_T ~ N(0, 1) it yields x_{T-1}, ..., x_0, one after every
step.

    x = last_state(ddim(process, model, x))        the data
    film = [x, *ddim(process, model, x)]           all T + 1 states

It goes through all steps of its process; for fewer, pass `process.respace(evenly_spaced(T, n))`. The model is
any function of x (B, ...) and the numbers of the steps (B,) (`Schedule.timesteps`) that returns what its
process `predicts`, in the shape of x, as an array or a Tensor. Nothing is recorded; a module should be in
evaluation mode. A sampler of your own needs nothing but `predict`.

`clip` bounds the predicted x_0 to [-clip, clip] in every step: 1 for pictures in [-1, 1], None for data
without bounds, such as latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, Variance, split_variance
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor

Model = Callable[[Any, Any], Any]
Sampler = Callable[[Process, Model, Array], Iterator[Array]]


def predict(
    process: Process, model: Model, x: Array, t: int, clip: float | None, variance: Variance = "small"
) -> tuple[Array, Array, Array]:
    """The model's x_0 and ε in x = x_t, both (B, ...), and the logarithm of the variance of its step back."""
    with no_grad():
        prediction = model(x, np.full(len(x), process.schedule.timesteps[t]))
    if isinstance(prediction, Tensor):
        prediction = prediction.data
    prediction, fraction = split_variance(prediction, x, variance)
    log_variance = process.log_variance(variance, x, t, fraction)
    x0, eps = process.x0_and_eps(prediction, x, t)
    if clip is None:
        return x0, eps, log_variance
    x0 = np.clip(x0, -clip, clip)
    return x0, process.eps_of(x0, x, t), log_variance


def last_state(states: Iterable[Array]) -> Array:
    """The last state that a sampler yields, the data; no other is kept."""
    for x in states:  # noqa: B007
        pass
    return x


# -- ancestral sampling ----------------------------------------------------------------------------


def ancestral_step(
    process: Process,
    model: Model,
    x: Array,
    t: int,
    *,
    rng: RNGLike,
    variance: Variance = "small",
    clip: float | None = None,
) -> Array:
    """A draw of x_{t-1} given x = x_t: the mean of the posterior at the model's x_0, plus noise. Its variance
    is the posterior's ("small"), β_t ("large"), or the model's, which then makes 2C channels of the C of x
    ("learned"; `Process.log_variance`). The last step, t = 1, adds no noise.

    Eq.: x_{t-1} = μ̃_t(x_t, x̂_0) + √Σ_t z,  z ~ N(0, 1)  (Ho et al. 2020, algorithm 2)
    Held by: tests/diffusion/test_sampling.py::test_ancestral_step_is_gaussian_conditioning
    """
    x0, _, log_variance = predict(process, model, x, t, clip, variance)
    mean, _ = process.posterior(x0, x, t)
    if t == 1:
        return mean
    return mean + np.exp(0.5 * log_variance) * noise_like(x, as_generator(rng))


def ancestral_sampling(
    process: Process,
    model: Model,
    x: Array,
    *,
    rng: RNGLike,
    variance: Variance = "small",
    clip: float | None = None,
) -> Iterator[Array]:
    """Yields x_{T-1}, ..., x_0 (B, ...) from noise x = x_T, by `ancestral_step`."""
    rng = as_generator(rng)
    for t in range(len(process.schedule), 0, -1):
        x = ancestral_step(process, model, x, t, rng=rng, variance=variance, clip=clip)
        yield x


# -- DDIM ------------------------------------------------------------------------------------------


def ddim_step(
    process: Process,
    model: Model,
    x: Array,
    t: int,
    *,
    eta: float = 0.0,
    rng: RNGLike | None = None,
    clip: float | None = None,
) -> Array:
    """x_{t-1} from x = x_t: the model's x_0, with as much of the model's ε as belongs to step t - 1. New
    noise replaces a part of that ε; its variance is η² times the posterior's (eq. 12 and 16). With eta = 0
    nothing is drawn, with 1 this is `ancestral_step` with the small variance.

    Raises ValueError for eta outside [0, 1], or above 0 without a generator.

    Eq.: x_{t-1} = α_{t-1} x̂_0 + √(σ_{t-1}² - η² β̃_t) ε̂ + η √β̃_t z  (Song et al. 2020, eq. 12 and 16)
    Held by: tests/diffusion/test_sampling.py::test_ddim_step_is_the_exact_affine_map,
        tests/diffusion/test_sampling.py::test_ddim_with_eta_1_is_ancestral_sampling
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be within [0, 1], got {eta}")
    x0, eps, _ = predict(process, model, x, t, clip)
    alpha_bar = process.schedule.alpha_bar[t - 1]
    new = eta**2 * process.schedule.posterior_variance[t]
    x = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar - new) * eps
    if new == 0:
        return x
    if rng is None:
        raise ValueError(f"eta={eta} adds noise: pass a generator, or eta=0")
    return x + math.sqrt(new) * noise_like(x, as_generator(rng))


def ddim(
    process: Process,
    model: Model,
    x: Array,
    *,
    eta: float = 0.0,
    rng: RNGLike | None = None,
    clip: float | None = None,
) -> Iterator[Array]:
    """Yields x_{T-1}, ..., x_0 (B, ...) from noise x = x_T, by `ddim_step`; with eta = 0 a function of x."""
    rng = None if rng is None else as_generator(rng)
    for t in range(len(process.schedule), 0, -1):
        x = ddim_step(process, model, x, t, eta=eta, rng=rng, clip=clip)
        yield x


def ddim_encode(process: Process, model: Model, x: Array, iterations: int = 1) -> Array:
    """The noise (B, ...) from which `ddim` with eta = 0 makes the data x (B, ...).

    `ddim_step` takes x_t to the given x_{t-1}. To solve for x_t, the model would have to see x_t itself. It
    sees x_{t-1} instead, which is off by the length of one step (section 4.3), and with more iterations the
    solution so far: where that converges, `ddim` returns exactly.

    Raises ValueError for less than 1 iteration, and where α_T = 0 (zero-terminal SNR): ε in x_T is x_T
    itself."""
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    s = process.schedule
    if s.alpha[-1] == 0:
        raise ValueError(
            "with zero-terminal SNR (α_T = 0) DDIM cannot be inverted: take a schedule with α_T > 0"
        )
    for t in range(1, len(s) + 1):
        before, scale = x, math.sqrt(1 - s.beta[t])
        added = float(s.sigma[t] - scale * s.sigma[t - 1])
        for _ in range(iterations):
            _, eps, _ = predict(process, model, x, t, None)
            x = scale * before + added * eps
    return x

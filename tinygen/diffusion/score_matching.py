"""Score matching: a model learns the score ∇ ln p of noisy data, at several levels of noise, and Langevin
dynamics follows it from noise to data (Song & Ermon 2019, arXiv:1907.05600).

Where there is no data, nothing can be learned about its score. So noise is added, σ_1 > ... > σ_L: with the
largest it is everywhere that sampling begins, and with the smallest the data is hardly changed. The score of
p_σ, the density of x̃ = x + σ ε, need not be known to be learned: the mean of -ε/σ over all pairs that give
the same x̃ is the score (Vincent 2011), so the model is trained to predict -ε/σ.

Time here is the level σ itself, and no data is scaled down: x̃ has variance 1 + σ² where the data has 1. In
the letters of `process` x̃ = x_t / α_t with σ = σ_t / α_t, and the score times -σ is the ε that a diffusion
predicts.

The model is any function of x (B, ...) and the levels σ (B,), both on one device, that returns scores in the
shape of x, as an array or a Tensor. The sampler is a generator of its states, as in `sampling`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.diffusion.sampling import Model
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor
from tinygen.types import Floats, TensorLike


def noise_levels(largest: float, smallest: float, count: int) -> Floats:
    """σ_1 > ... > σ_L, (count,), in float64: each is the same multiple of the next (section 4.1 and 5). The
    largest should be the largest distance of two data points, the smallest the finest scale that matters.

    Raises ValueError unless largest > smallest > 0, and for less than two levels."""
    if not largest > smallest > 0:
        raise ValueError(f"levels fall from the largest to a smallest above 0, got {largest} and {smallest}")
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    return np.geomspace(largest, smallest, count)


# -- the loss --------------------------------------------------------------------------------------


def score_matching_loss_at(model: Model, x: Array, sigma: Array, eps: Array) -> TensorLike:
    """The mean over the batch of σ²/2 |model(x̃, σ) + ε/σ|², x̃ = x + σ ε, for data x (B, ...), levels sigma
    (B,) and noise eps (B, ...); if the model returns a Tensor, so is the loss. The weight σ² makes all levels
    count alike. The least value is not 0, since many pairs give one x̃: for data N(m, s²) in D dimensions it
    is D/2 · s²/(s² + σ²).

    Raises TypeError unless x is of floats, ValueError for levels that are not (B,) or not above 0, and for
    noise or scores of another shape than x.

    Eq.: ℓ(θ; σ) = 1/2 E |s_θ(x̃, σ) + (x̃ - x)/σ²|²  (Song & Ermon 2019, section 4.2)
    Held by: tests/diffusion/test_score_matching.py::test_the_loss_by_hand,
        tests/diffusion/test_score_matching.py::test_the_least_loss_of_gaussian_data

    Eq.: L(θ) = 1/L Σ_i λ(σ_i) ℓ(θ; σ_i),  λ(σ) = σ²  (Song & Ermon 2019, section 4.2)
    Held by: tests/diffusion/test_score_matching.py::test_the_loss_is_a_mean_over_the_levels
    """
    if x.dtype.kind != "f":
        raise TypeError(f"noise is added to floats, got {x.dtype}: scale the data, for pictures to [-1, 1]")
    sigma = np.asarray(sigma, dtype=x.dtype)
    if sigma.shape != x.shape[:1]:
        raise ValueError(f"sigma must be one level for each of x {x.shape}, got shape {sigma.shape}")
    if not np.all(sigma > 0):
        raise ValueError(f"sigma must be above 0, got {sigma.min()}")
    if eps.shape != x.shape:
        raise ValueError(f"eps must have one number for each of x {x.shape}, got shape {eps.shape}")
    sigma = np.asarray(sigma, like=x)
    each = sigma.reshape(len(x), *(1,) * (x.ndim - 1))  # (B, 1, ...)
    score = require_shape(model(x + each * eps, sigma), x)
    return 0.5 * ops.mse(each * score, -eps, "sum") / len(x)


def score_matching_loss(model: Model, x: Array, levels: Floats, *, rng: RNGLike) -> TensorLike:
    """`score_matching_loss_at` for one of the levels (L,), all equally likely, and noise for each of x (B,
    ...)."""
    rng = as_generator(rng)
    sigma = levels[rng.integers(len(levels), size=len(x))]  # (B,)
    return score_matching_loss_at(model, x, sigma, noise_like(x, rng))


def require_shape(score: Any, x: Array) -> TensorLike:
    if score.shape != x.shape:
        raise ValueError(f"the model made {score.shape} of x {x.shape}: a score must keep the shape")
    return score


# -- the sampler -----------------------------------------------------------------------------------


def langevin_step(model: Model, x: Array, sigma: float, step_size: float, *, rng: RNGLike) -> Array:
    """One step of Langevin dynamics from x (B, ...), by the score at the level sigma: half the step size up
    the density, and noise. Many small steps lead to draws from p_σ. A step of the size α leaves an error: for
    data N(m, s²) the variance becomes (s² + σ²) / (1 - α/(4 (s² + σ²))), and the dynamics diverges for α from
    4 (s² + σ²) on.

    Raises ValueError unless sigma and the step size are above 0.

    Eq.: x̃_t = x̃_{t-1} + α/2 s_θ(x̃_{t-1}, σ) + √α z_t,  z_t ~ N(0, 1)  (Song & Ermon 2019, section 2.2)
    Held by: tests/diffusion/test_score_matching.py::test_steps_by_hand,
        tests/diffusion/test_score_matching.py::test_the_stationary_distribution_of_gaussian_data
    """
    if not (sigma > 0 and step_size > 0):
        raise ValueError(f"sigma and the step size must be above 0, got {sigma} and {step_size}")
    with no_grad():
        score = require_shape(model(x, np.full_like(x, sigma, shape=(len(x),))), x)
    score = score.data if isinstance(score, Tensor) else score
    return x + 0.5 * step_size * score + step_size**0.5 * noise_like(x, as_generator(rng))


def annealed_langevin(
    model: Model, x: Array, levels: Floats, steps: int, step_size: float, *, rng: RNGLike
) -> Iterator[Array]:
    """Yields x (B, ...) after each of `steps` steps at each of the levels (L,), from the largest to the
    smallest: L · steps states. At the level σ the step is step_size · σ²/σ_L², so that signal and noise of a
    step are in the same ratio at all levels; `step_size` is for the last level, the paper's ε. Its x is
    uniform noise at the beginning; x of variance σ_1² does as well.

    The last states are draws from p_σ at the last level, still with its noise. Raises ValueError for levels
    that do not fall, and for less than one step.

    Eq.: α_i = ε σ_i²/σ_L²  (Song & Ermon 2019, algorithm 1)
    Held by: tests/diffusion/test_score_matching.py::test_annealing_of_gaussian_data,
        tests/diffusion/test_score_matching.py::test_steps_by_hand
    """
    if not np.all(np.diff(levels) < 0):
        raise ValueError("levels must fall from the largest to the smallest")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    rng = as_generator(rng)
    for sigma in levels:
        for _ in range(steps):
            x = langevin_step(model, x, sigma, step_size * float((sigma / levels[-1]) ** 2), rng=rng)
            yield x

"""The loss of a diffusion model: the squared error of its prediction (Ho et al. 2020, eq. 14), and where it
learns variances also the variational bound (Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1)."""

from __future__ import annotations

import numpy as np

from tinygen import ops
from tinygen.diffusion.bound import step_bits
from tinygen.diffusion.process import Process, coefficient, split_variance
from tinygen.diffusion.sampling import Model
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tape import detach
from tinygen.tensor import Array
from tinygen.types import Floats, Ids, IdsLike, TensorLike


def min_snr(process: Process, gamma: float = 5.0) -> Floats:
    """Weights (T + 1,) for `loss_at`, entry 0 unused: step t counts as the squared error of x_0 times the
    signal-to-noise ratio α_t²/σ_t², capped at `gamma` (Hang et al. 2023, arXiv:2303.09556).

    Without the cap, steps near the data, where the ratio is in the thousands, would dominate; with the plain
    loss of ε, steps near pure noise do.

    Eq.: w_t = min(α_t²/σ_t², γ) of the error of x_0  (Hang et al. 2023, arXiv:2303.09556)
    Held by: tests/diffusion/test_loss.py::test_min_snr_is_one_loss_whatever_is_predicted
    """
    s = process.schedule
    snr: Floats = np.square(s.alpha[1:] / s.sigma[1:])
    error_ratio = {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1}  # squared error / x_0's squared error
    weights: Floats = np.minimum(snr, gamma) / error_ratio[process.predicts]
    return np.append(0.0, weights)


def loss_at(
    process: Process,
    model: Model,
    x0: Array,
    t: IdsLike,
    eps: Array,
    weights: Floats | None = None,
) -> TensorLike:
    """The mean of (model(x_t, t) - target)² over everything, for data x0 (B, ...), steps t (B,) and noise eps
    (B, ...); times weights[t], if there are `weights` (T + 1,). The model gets x_t as an array and the
    numbers of the steps (B,). Its prediction has the shape of x0; if it is a Tensor, the loss is one, too.

    Eq.: L = E |ε - ε_θ(α_t x_0 + σ_t ε, t)|²  (Ho et al. 2020, eq. 14)
    Held by: tests/diffusion/test_loss.py::test_by_hand,
        tests/diffusion/test_loss.py::test_floor_for_gaussian_data
    """
    prediction = model(process.diffuse(x0, t, eps), process.schedule.timesteps[t])
    target = process.target(x0, eps, t)
    if weights is None:
        return ops.mse(prediction, target)
    return np.mean(coefficient(weights, t, x0) * ops.mse(prediction, target, "none"))


def random_steps(process: Process, n: int, rng: np.random.Generator) -> Ids:
    """n of the steps 1 ... T, all equally likely."""
    return 1 + rng.integers(len(process.schedule), size=n)


def simple_loss(
    process: Process,
    model: Model,
    x0: Array,
    *,
    rng: RNGLike,
    weights: Floats | None = None,
) -> TensorLike:
    """`loss_at` for a random step and noise for each x0 (B, ...) (algorithm 1). For a model of ε and without
    weights it is the bound on -ln p(x_0), with the bound's own weights left out."""
    rng = as_generator(rng)
    t = random_steps(process, len(x0), rng)
    return loss_at(process, model, x0, t, noise_like(x0, rng), weights)


def hybrid_loss_at(
    process: Process,
    model: Model,
    x0: Array,
    t: IdsLike,
    eps: Array,
    levels: int | None,
    weight: float = 1e-3,
) -> TensorLike:
    """`loss_at` plus `weight` times the bound in bits per dimension, for a model that makes 2C channels of
    the C of x_t, the second half for the variance. The bound is estimated as T times the mean of the terms of
    these steps.

    The bound trains the variance alone: it takes the prediction as a constant. For `levels` see `bound`.

    Eq.: L_hybrid = L_simple + λ L_vlb  (Nichol & Dhariwal 2021, eq. 16)
    Held by: tests/diffusion/test_bound.py::test_hybrid_loss
    """
    x = process.diffuse(x0, t, eps)
    prediction, fraction = split_variance(model(x, process.schedule.timesteps[t]), x, "learned")
    x0_hat, _ = process.x0_and_eps(detach(prediction), x, t)
    log_variance = process.log_variance("learned", x, t, fraction)
    bound = len(process.schedule) * np.mean(step_bits(process, x0, t, x0_hat, log_variance, levels))
    return ops.mse(prediction, process.target(x0, eps, t)) + weight * bound


def hybrid_loss(
    process: Process,
    model: Model,
    x0: Array,
    *,
    rng: RNGLike,
    levels: int | None,
    weight: float = 1e-3,
) -> TensorLike:
    """`hybrid_loss_at` for a random step and noise for each x0 (B, ...), as in `simple_loss`."""
    rng = as_generator(rng)
    t = random_steps(process, len(x0), rng)
    return hybrid_loss_at(process, model, x0, t, noise_like(x0, rng), levels, weight)

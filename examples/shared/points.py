"""Measurements for the examples with points in the plane, whose data is a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from shared.flags import numpy_function

from tinygen import no_grad
from tinygen.data.mixtures import Mixture
from tinygen.density import GaussianKDE
from tinygen.nn import Module

if TYPE_CHECKING:
    from tinygen.diffusion import Process

SQUARE = 2.6  # half the side of the square of the pictures


def sliced_wasserstein(x: Any, y: Any, directions: int = 64) -> float:
    """The sliced Wasserstein-1 distance of two sets of n points (n, 2): project both sets on many
    directions, and take the mean distance by which the projections of one set must move to become the
    projections of the other. Even two samples of the same distribution have a distance above 0."""
    angles = np.pi * np.arange(directions) / directions
    along = np.stack([np.cos(angles), np.sin(angles)])  # (2, directions)
    return float(np.mean(np.abs(np.sort(x @ along, axis=0) - np.sort(y @ along, axis=0))))


def quality_of(x: Any, truth: Any, data: Mixture) -> dict[str, float]:
    """Compare points with equally many points of the data: their distance; the share of the points within 3
    standard deviations of the nearest mean; and the number of modes, which are the components that get at
    least half of their share of such points."""
    away = np.sqrt(np.sum((x[:, None] - data.means) ** 2, axis=2))  # (n, K)
    nearest = away.argmin(axis=1)
    near = away.min(axis=1) < 3 * data.stds[nearest]
    counts = np.bincount(nearest[near], minlength=len(data.means))
    modes = int(np.sum(counts >= data.weights * len(x) / 2))
    return {"distance": sliced_wasserstein(truth, x), "near a mean": float(near.mean()), "modes": modes}


def nats_above(data: Mixture, x: Any, log_q: Any) -> float:
    """The mean of ln p - ln q over points x (N, 2) of the data, with ln q (N,): the nats that a model of
    the density lacks. Its expectation is the Kullback-Leibler divergence, at least 0."""
    return float(np.mean(data.log_density(np.asarray(x, np.float64)) - log_q))


def score_errors(score: Any, data: Mixture, levels: Any, n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """At each level σ (L,) of noise the mean of (σ score - σ exact score)² over n noisy points and their
    coordinates, and that mean for a score of 0; both (L,). `score` is a function of x (n, 2) and σ (n,)."""
    errors, of_zero = [], []
    for sigma in levels:
        x = data.sample(n, rng) + sigma * rng.standard_normal((n, 2))
        off = score(x, np.full(n, sigma)) - data.diffuse(1.0, sigma).score(x)
        errors.append(np.mean((sigma * off) ** 2))
        of_zero.append(1 - data.eps_floor(1.0, sigma))
    return np.array(errors), np.array(of_zero)


def exact_denoiser(data: Mixture, process: Process) -> Callable[[Any, Any], Any]:
    """The best denoiser, as a function of x and the step numbers, which count from 0."""
    s = process.schedule
    return lambda x, t: data.eps(x, s.alpha[t[0] + 1], s.sigma[t[0] + 1])


@no_grad()
def excess_loss(model: Any, data: Mixture, process: Process, n: int, seed: int) -> tuple[Any, Any, Any]:
    """Three arrays (T,): at each step, the loss above the floor, its standard error, and the loss. Each is
    a mean over n new points, which depend on the seed only. The model is a function of NumPy arrays."""
    rng, best = np.random.default_rng(seed), exact_denoiser(data, process)
    rows = []
    for t in range(1, len(process.schedule) + 1):
        x0, eps = data.sample(n, rng), rng.standard_normal((n, 2))
        x, numbers = process.diffuse(x0, t, eps), np.full(n, process.schedule.timesteps[t])
        prediction = model(x, numbers)
        above = np.mean((prediction - best(x, numbers)) ** 2, axis=1)
        loss = np.mean((prediction - eps) ** 2)
        rows.append((above.mean(), above.std() / np.sqrt(n), loss))
    above, error, loss = np.transpose(rows)
    return above, error, loss


def best_discriminator(data: Mixture, fakes: Any, x: Any) -> Any:
    """p/(p + q) at the points x (N, 2), (N,), with q estimated from the generator's points `fakes`. The
    kernels blur q, so p is blurred with the same kernel."""
    width = data.stds.min() / 3
    q = GaussianKDE(width).fit(fakes).score_samples(x)
    return sigmoid(data.diffuse(1.0, width).log_density(x) - q)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def probability(discriminator: Module, device: str) -> Callable[[Any], Any]:
    """σ of a discriminator's output, as a function of NumPy arrays."""
    logits = numpy_function(discriminator, device)
    return lambda x: sigmoid(logits(x.astype(np.float32)).astype(np.float64))


def map_of(f: Callable[[Any], Any]) -> Any:
    """f (N, 2) -> (N,) on a grid over the square of the pictures: (60, 60)."""
    line = np.linspace(-SQUARE, SQUARE, 60)
    x = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return f(x).reshape(60, 60)

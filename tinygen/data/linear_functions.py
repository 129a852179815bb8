"""Prompts of random linear functions, and the best possible answers: Bayesian linear regression.

Garg et al. 2022, *What can transformers learn in-context?* (arXiv:2208.01066): a prompt shows pairs x_1, y_1,
x_2, y_2, ... with y = w·x + σ ε, and asks for the next y. The weights w ~ N(0, I) are new in each prompt, so
only its pairs tell about them. Given the pairs, w is Gaussian. Its mean is ridge regression with λ = σ², and
without noise least squares, the solution of minimum norm. No model has a smaller mean squared error than this
mean, so the error of a model minus the error of the mean is what the model has not learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen.types import Floats, NumpyArray


@dataclass(frozen=True)
class LinearFunctions:
    """Functions y = w·x + σ ε of x in D dimensions, with w ~ N(0, I), ε ~ N(0, 1), and σ = `noise`.

    Raises ValueError for a dimension below 1, or a noise that is negative or not finite."""

    dim: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"x must have at least 1 dimension, got {self.dim}")
        if not 0 <= self.noise < np.inf:
            raise ValueError(f"noise must be a standard deviation of at least 0, got {self.noise:g}")

    def sample(self, n: int, pairs: int, *, rng: np.random.Generator | int) -> tuple[Floats, Floats]:
        """n prompts of different functions: x (n, K, D) from N(0, I), and y (n, K), where K is `pairs`."""
        rng = np.random.default_rng(rng)
        x = rng.standard_normal((n, pairs, self.dim))
        return x, self.answer(x, rng=rng)

    def answer(self, x: NumpyArray, *, rng: np.random.Generator | int) -> Floats:
        """y (n, K) of any x (n, K, D), by a new function for each of the n prompts."""
        rng = np.random.default_rng(rng)
        w = rng.standard_normal((len(x), self.dim, 1))
        y: Floats = (self.check(x) @ w)[..., 0]
        return y + self.noise * rng.standard_normal(y.shape)

    def posterior(self, x: NumpyArray, y: NumpyArray) -> tuple[Floats, Floats]:
        """Mean (n, D) and covariance (n, D, D) of the weights, given pairs x (n, K, D) and y (n, K).

        With the singular value decomposition X = U S Vᵀ, the mean is V diag(s / (s² + σ²)) Uᵀ y. So one
        formula is ridge regression with noise and the pseudo-inverse without.

        Eq.: mean = (XᵀX + σ² I)⁻¹ Xᵀ y,  covariance = σ² (XᵀX + σ² I)⁻¹  (Bishop 2006, section 3.3.1)
        Held by: tests/data/test_linear_functions.py::test_the_posterior_against_a_sum_over_weights
        """
        x = self.check(x)
        if y.shape != x.shape[:2]:
            raise ValueError(f"y must be {x.shape[:2]}, one for each x, got {y.shape}")
        u, s, v = np.linalg.svd(x, full_matrices=False)  # (n, K, R), (n, R), (n, R, D)
        smallest = s.max(axis=-1, keepdims=True, initial=0.0) * max(x.shape[1:]) * np.finfo(np.float64).eps
        known = s > smallest  # without noise, a direction that X lacks stays unknown
        s = np.where(known, s, 1.0)[..., None]
        gain = known[..., None] / (s * s + self.noise**2)  # (n, R, 1)
        directions = v.transpose(0, 2, 1)  # (n, D, R)
        mean = directions @ (gain * s * (u.transpose(0, 2, 1) @ y[..., None]))  # (n, D, 1)
        return mean[..., 0], np.eye(self.dim) - directions @ (gain * s * s * v)

    def predictions(self, x: NumpyArray, y: NumpyArray) -> tuple[Floats, Floats]:
        """Mean (n, K) and variance (n, K) of each y, given its x and the pairs before it: the best answers,
        and their expected squared errors. x (n, K, D), y (n, K)."""
        means, variances = np.empty(y.shape), np.empty(y.shape)
        for k in range(y.shape[1]):
            mean, covariance = self.posterior(x[:, :k], y[:, :k])
            query = x[:, k]  # (n, D)
            means[:, k] = np.sum(query * mean, axis=1)
            variances[:, k] = np.einsum("nd,nde,ne->n", query, covariance, query) + self.noise**2
        return means, variances

    def best_errors(self, pairs: int, draws: int, *, rng: np.random.Generator | int) -> tuple[Floats, Floats]:
        """The least possible mean squared error of y after 0 ... K - 1 pairs, (K,), and its standard error
        (K,). Given all x, the expectation over w, ε and the next x is exact: the trace of the covariance plus
        σ². The expectation over the x in the pairs is a mean of `draws` prompts.

        Without noise the error is D - k for k < D and 0 from D pairs on: k pairs tell k of D directions."""
        x, y = self.sample(draws, pairs, rng=rng)
        traces = np.stack(
            [np.trace(self.posterior(x[:, :k], y[:, :k])[1], axis1=1, axis2=2) for k in range(pairs)], axis=1
        )  # (draws, K)
        return traces.mean(axis=0) + self.noise**2, traces.std(axis=0) / np.sqrt(draws)

    def check(self, x: NumpyArray) -> Floats:
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise ValueError(f"x must be (n, K, {self.dim}), got {x.shape}")
        return np.asarray(x, np.float64)

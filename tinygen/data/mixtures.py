"""Mixtures of Gaussians: data whose density, score and best denoiser are known exactly.

With them you can evaluate a diffusion model without another model, and test a sampler with the exact score,
without training. All formulas follow from one fact: if x_0 is from a mixture and ε ~ N(0, 1), then
alpha·x_0 + sigma·ε is again from a mixture of Gaussians.

The formulas use NumPy functions that also accept Tensors, so that `tinygen.grad` can differentiate them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats, NumpyArray


class Mixture:
    """K isotropic Gaussians in D dimensions: `weights` (K,), normalized to sum to 1, `means` (K, D), and
    `stds` (K,) or one number for all.

    Raises ValueError if shapes do not match, a weight or std is not positive, or a number is not finite."""

    def __init__(self, weights: ArrayLike, means: ArrayLike, stds: ArrayLike) -> None:
        self.weights: Floats = np.array(weights, np.float64)
        self.means: Floats = np.array(means, np.float64)
        if self.means.ndim != 2 or self.means.size == 0 or self.weights.shape != self.means.shape[:1]:
            raise ValueError(
                f"means must be (K, D) and weights (K,), got {self.means.shape} and {self.weights.shape}"
            )
        given = np.asarray(stds, np.float64)
        if given.shape not in ((), self.weights.shape):
            raise ValueError(f"stds must be one, or one for each of {len(self.weights)}, got {given.shape}")
        self.stds: Floats = np.array(np.broadcast_to(given, self.weights.shape))
        for name, values in (("weights", self.weights), ("stds", self.stds)):
            if not np.all((values > 0) & np.isfinite(values)):
                raise ValueError(
                    f"{name} must be above 0 and finite, got {values.min():g} .. {values.max():g}"
                )
        if not np.all(np.isfinite(self.means)):
            raise ValueError("means must be finite")
        self.weights /= self.weights.sum()

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """n points, (n, D)."""
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        drawn: Floats = self.means[k] + self.stds[k, None] * noise
        return drawn

    def part(self, components: Sequence[int]) -> Mixture:
        """The mixture of these components only: p(x | class) if they form one class."""
        k = list(components)
        return Mixture(self.weights[k], self.means[k], self.stds[k])

    # -- density and score -------------------------------------------------------------------------

    def log_joint(self, x: NumpyArray) -> Floats:
        """ln p(x, k), (N, K), of points x (N, D)."""
        lengths = np.sum(x * x, axis=1, keepdims=True) + np.sum(self.means**2, axis=1)
        squares = lengths - 2 * (x @ self.means.T)  # (N, K), |x - mean|² without an array (N, K, D)
        constants = np.log(self.weights) - self.means.shape[1] * np.log(self.stds * np.sqrt(2 * np.pi))
        return constants - squares / (2 * self.stds**2)

    def log_density(self, x: NumpyArray) -> Floats:
        """ln p(x), (N,), of points x (N, D)."""
        joint = self.log_joint(x)
        largest = np.max(
            joint, axis=1
        )  # subtracted, so that the sum does not underflow to 0 far from all means
        return largest + np.log(np.sum(np.exp(joint - largest[:, None]), axis=1))

    def responsibilities(self, x: NumpyArray) -> Floats:
        """p(k | x), (N, K): the probability that component k generated the point x; x (N, D)."""
        joint = self.log_joint(x)
        parts = np.exp(joint - np.max(joint, axis=1, keepdims=True))
        return parts / np.sum(parts, axis=1, keepdims=True)

    def score(self, x: NumpyArray) -> Floats:
        """∇ ln p(x), (N, D): each component pulls toward its mean, by its responsibility.

        Eq.: ∇ ln p(x) = Σ_k p(k | x) (m_k - x) / s_k²  (the gradient of ln Σ_k w_k N(x; m_k, s_k²))
        Held by: tests/data/test_mixtures.py::test_the_score_is_the_gradient_of_the_log_density
        """
        pull = self.responsibilities(x) / self.stds**2  # (N, K)
        return pull @ self.means - np.sum(pull, axis=1, keepdims=True) * x

    # -- diffusion ---------------------------------------------------------------------------------

    def diffuse(self, alpha: float, sigma: float) -> Mixture:
        """The distribution of x_t = alpha·x_0 + sigma·ε, with x_0 from this mixture and ε ~ N(0, 1)."""
        return Mixture(self.weights, alpha * self.means, np.hypot(alpha * self.stds, sigma))

    def eps(self, x: NumpyArray, alpha: float, sigma: float) -> Floats:
        """E[ε | x_t = x], (N, D): the best possible prediction of the noise in the points x (N, D). It is
        -sigma times the score of x_t (Tweedie's formula: Efron 2011).

        Eq.: E[ε | x_t] = -σ_t ∇ ln p(x_t)  (Efron 2011, section 1)
        Held by: tests/data/test_mixtures.py::test_denoisers_are_conditional_means
        """
        return -sigma * self.diffuse(alpha, sigma).score(x)

    def x0(self, x: NumpyArray, alpha: float, sigma: float) -> Floats:
        """E[x_0 | x_t = x], (N, D): in each component the data is m + alpha·s²/(alpha²·s² + sigma²)·
        (x - alpha·m) on average, by Gaussian conditioning."""
        there = self.diffuse(alpha, sigma)
        chosen = there.responsibilities(x)  # (N, K)
        gain = alpha * self.stds**2 / there.stds**2  # (K,)
        return chosen @ (self.means * (1 - gain * alpha)[:, None]) + (chosen @ gain)[:, None] * x

    def eps_floor(self, alpha: float, sigma: float, fineness: float = 5.0) -> float:
        """The least possible E|ε - ε̂(x_t)|²/D, which ε̂ = E[ε | x_t] reaches: 1 - E|E[ε | x_t]|²/D.

        The expectation is a sum over a regular grid on the line or the plane, `fineness` points to the
        smallest std of x_t, up to 9 stds around all means. For such smooth functions that is as good as
        exact: off by less than 1e-7 unless stds differ widely. ValueError when D > 2."""
        there = self.diffuse(alpha, sigma)
        dim = there.means.shape[1]
        if dim > 2:
            raise ValueError(f"a grid has too many points in {dim} dimensions: the floor is for D = 1 or 2")
        step, margin = there.stds.min() / fineness, 9 * there.stds.max()
        low, high = there.means.min(axis=0) - margin, there.means.max(axis=0) + margin
        axes = [np.arange(low[i], high[i] + step, step) for i in range(dim)]
        x = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, dim)  # (N, D)
        squares = np.sum(self.eps(x, alpha, sigma) ** 2, axis=1)
        return float(1 - step**dim * np.sum(np.exp(there.log_density(x)) * squares) / dim)


# -- presets: mean 0, and variance 1 on average over the two directions ----------------------------


def standardize(means: Floats, std: float) -> Mixture:
    """Equally weighted Gaussians with this std at `means` (K, D), shifted and scaled to mean 0 and variance
    1."""
    if not 0 < std < 1:
        raise ValueError(f"std must be between 0 and 1, the std of the whole mixture, got {std}")
    means = means - means.mean(axis=0)
    means *= np.sqrt((1 - std**2) / np.mean(means**2))
    return Mixture(np.ones(len(means)), means, std)


def ring(n: int = 8, std: float = 0.1) -> Mixture:
    """n Gaussians evenly spaced on a circle, the first one on the right."""
    if n < 2:
        raise ValueError(f"a ring has at least 2 components, got {n}")
    angles = 2 * np.pi * np.arange(n) / n
    return standardize(np.stack([np.cos(angles), np.sin(angles)], axis=1), std)


def lattice(side: int = 5, std: float = 0.1) -> Mixture:
    """side × side Gaussians on a square lattice, row by row from the bottom."""
    if side < 2:
        raise ValueError(f"a lattice has at least 2 × 2 components, got {side} × {side}")
    y, x = np.divmod(np.arange(side * side), side)
    return standardize(np.stack([x, y], axis=1).astype(np.float64), std)


def moons(n: int = 12, std: float = 0.1) -> Mixture:
    """Two interlocking half circles of n overlapping Gaussians each: the first n components form the
    upper half circle, the others the lower one."""
    if n < 2:
        raise ValueError(f"a moon has at least 2 components, got {n}")
    angles = np.pi * np.arange(n) / (n - 1)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return standardize(np.concatenate([upper, [1.0, 0.5] - upper]), std)

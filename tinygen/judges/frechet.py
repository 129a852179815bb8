"""The Fréchet distance between two sets of features (Heusel et al. 2017, arXiv:1706.08500, section 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tinygen.density.gaussian import wasserstein2_of_gaussians


def frechet(a: ArrayLike, b: ArrayLike) -> float:
    """The Fréchet distance of two sets of features, (N, F) and (M, F), each taken as a Gaussian with its mean
    and its covariance (divided by N - 1). Its unit is the square of the features' unit.

    ValueError when the sets have fewer than two rows or other numbers of features."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, F) and (M, F), N and M at least 2: got {a.shape}, {b.shape}")
    cov_a, cov_b = (np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in (a, b))
    return frechet_of_gaussians(a.mean(axis=0), cov_a, b.mean(axis=0), cov_b)


def frechet_of_gaussians(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """The same from means (F,) and covariances (F, F), which may be singular.

    Eq.: d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½)  (Dowson & Landau 1982; Heusel et al. 2017, eq. 6)
    Held by: tests/judges/test_digits.py::test_covariances_that_commute,
        tests/judges/test_digits.py::test_two_by_two_that_do_not_commute

    It is the square of the 2-Wasserstein distance (`tinygen.density.gaussian`)."""
    return wasserstein2_of_gaussians(mean_a, cov_a, mean_b, cov_b) ** 2

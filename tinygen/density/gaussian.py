"""Comparison of two Gaussians in closed form: the KL divergence and the 2-Wasserstein distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats


def kl_of_gaussians(mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike) -> float:
    """KL(N(μ_p, Σ_p) ‖ N(μ_q, Σ_q)) in nats, from means (D,) and covariances (D, D).

    With the singular values s of L_q⁻¹ L_p (Σ = L Lᵀ) it is ½ Σ (s² - 1 - ln s²), each term at least 0, plus
    the term of the means.

    Raises ValueError when the shapes do not match, or a covariance is not symmetric and positive definite
    (the divergence would be infinite if the covariance of q is singular).

    Eq.: KL = ½ (tr(Σ_q⁻¹ Σ_p) + (μ_q - μ_p)ᵀ Σ_q⁻¹ (μ_q - μ_p) - D + ln |Σ_q|/|Σ_p|)
        (Rasmussen & Williams 2006, appendix A)
    Held by: tests/density/test_gaussian.py::test_kl_by_its_formula,
        tests/density/test_gaussian.py::test_kl_is_the_mean_of_log_ratios
    """
    mean_p, cov_p = checked_gaussian(mean_p, cov_p)
    mean_q, cov_q = checked_gaussian(mean_q, cov_q)
    check_same_size(mean_p, mean_q)
    try:
        factor_p, factor_q = np.linalg.cholesky(cov_p), np.linalg.cholesky(cov_q)
    except np.linalg.LinAlgError:
        raise ValueError(
            "covariances must be positive definite: one has an eigenvalue of 0 or below"
        ) from None
    s = np.linalg.svd(np.linalg.solve(factor_q, factor_p), compute_uv=False)
    away = np.linalg.solve(factor_q, mean_q - mean_p)
    return float(0.5 * (np.sum(s**2 - 1 - 2 * np.log(s)) + away @ away))


def wasserstein2_of_gaussians(
    mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike
) -> float:
    """The 2-Wasserstein distance of N(μ_p, Σ_p) and N(μ_q, Σ_q), in the unit of the data, from means (D,) and
    covariances (D, D), which may be singular. Its square is the Fréchet distance of FID.

    The trace below is the least |A - B U|² over rotations U, with A Aᵀ = Σ_p and B Bᵀ = Σ_q (Bhatia et al.
    2019, section 2). It is computed in this form: a difference of traces would turn rounding errors of
    1e-16 into errors of 1e-8 for Gaussians that are nearly the same.

    Raises ValueError when the shapes do not match, or a covariance is not symmetric, or has an eigenvalue
    below 0.

    Eq.: W₂² = |μ_p - μ_q|² + tr(Σ_p + Σ_q - 2 (Σ_p^½ Σ_q Σ_p^½)^½)  (Olkin & Pukelsheim 1982)
    Held by: tests/density/test_gaussian.py::test_wasserstein_by_its_formula,
        tests/density/test_gaussian.py::test_wasserstein_of_covariances_that_commute
    """
    mean_p, cov_p = checked_gaussian(mean_p, cov_p)
    mean_q, cov_q = checked_gaussian(mean_q, cov_q)
    check_same_size(mean_p, mean_q)
    root_p, root_q = square_root(cov_p), square_root(cov_q)
    left, _, right = np.linalg.svd(root_q @ root_p)
    rotated = root_q @ (left @ right)  # the rotation that brings this root nearest to the other root
    return float(np.sqrt(np.sum((mean_p - mean_q) ** 2) + np.sum((root_p - rotated) ** 2)))


def square_root(covariance: Floats) -> Floats:
    """The symmetric square root. Raises ValueError for an eigenvalue below 0 that is too large for a
    rounding error."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-8 * max(values[-1], 0):
        raise ValueError(f"a covariance has no eigenvalue below 0, got {values[0]:g}")
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def checked_gaussian(mean: ArrayLike, covariance: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64. Raises ValueError unless they are a mean (D,) and a symmetric covariance (D, D)."""
    m, c = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if m.ndim != 1 or len(m) == 0 or c.shape != (len(m), len(m)):
        raise ValueError(f"a mean is (D,) and its covariance (D, D), got {m.shape} and {c.shape}")
    if not (np.all(np.isfinite(m)) and np.all(np.isfinite(c))):
        raise ValueError("means and covariances must be finite")
    if not np.allclose(c, c.T, rtol=1e-8, atol=1e-10 * np.abs(c).max()):
        raise ValueError("a covariance is symmetric, and this one is not")
    return m, c


def check_same_size(mean_p: Floats, mean_q: Floats) -> None:
    if len(mean_p) != len(mean_q):
        raise ValueError(
            f"the Gaussians have {len(mean_p)} and {len(mean_q)} dimensions: they must be the same"
        )

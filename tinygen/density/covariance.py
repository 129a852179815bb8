"""The four kinds of covariance of a Gaussian mixture. For each: its estimate in the M-step, its floor, the
density that it gives, its number of free parameters, and a draw.

    "full"        a covariance for each component, (K, D, D)
    "tied"        one for all components, (D, D)
    "diag"        variances of the columns for each component, (K, D)
    "spherical"   one variance for each component, (K,)

No variance falls below a floor (D,), one number per column. This is a constraint under which the likelihood
is maximized: Σ - diag(floor) has no negative eigenvalue. The maximum is known: in columns scaled by
1/√floor, eigenvalues below 1 of the usual estimate become 1. Without a floor the likelihood has no maximum:
the density of a component on a single row can be arbitrarily high. With the floor there is a maximum, and a
step of EM never lowers the likelihood.
"""

from __future__ import annotations

import numpy as np

from tinygen.types import Floats, Ids, Mask

KINDS = ("full", "tied", "diag", "spherical")


def estimate(kind: str, x: Floats, shares: Floats, counts: Floats, means: Floats) -> Floats:
    """The covariances of highest likelihood, without a floor, for rows x (N, D) with responsibilities
    `shares` (N, K) around `means` (K, D). `counts` (K,) are the sums of the responsibilities, above 0.

    Eq.: Σ_k = 1/N_k Σ_n r_nk (x_n - μ_k)(x_n - μ_k)ᵀ  (Bishop 2006, eq. 9.25)
    Held by: tests/density/test_mixture.py::test_a_step_by_its_definition
    """
    centered = (x - mean for mean in means)
    if kind in ("diag", "spherical"):
        variances = np.array([r @ d**2 for r, d in zip(shares.T, centered, strict=True)]) / counts[:, None]
        return variances if kind == "diag" else variances.mean(axis=1)
    sums = np.array([(r[:, None] * d).T @ d for r, d in zip(shares.T, centered, strict=True)])  # (K, D, D)
    return sums / counts[:, None, None] if kind == "full" else sums.sum(axis=0) / counts.sum()


def covariance_of_kind(kind: str, shared: Floats, k: int) -> Floats:
    """The covariance (D, D), for each of k components, in the form of this kind: itself, its variances, or
    their mean."""
    if kind == "tied":
        return shared
    one = {"full": shared, "diag": np.diagonal(shared), "spherical": np.diagonal(shared).mean()}[kind]
    return np.array([one] * k)


def raise_to_floor(kind: str, covariances: Floats, floor: Floats) -> Floats:
    """The covariances of highest likelihood that keep the floor (D,), from those without a floor."""
    if kind == "diag":
        return np.maximum(covariances, floor)
    if kind == "spherical":
        return np.maximum(covariances, floor.mean())
    scale = np.sqrt(floor)
    values, vectors = np.linalg.eigh(covariances / scale / scale[:, None])
    if np.all(values > 1):
        return covariances
    raised = (vectors * np.maximum(values, 1)[..., None, :]) @ vectors.swapaxes(-1, -2)
    return raised * scale * scale[:, None]


def floor_mask(kind: str, covariances: Floats, floor: Floats, k: int) -> Mask:
    """(K,), True for components of which some variance is at the floor."""
    near = 1 + 1e-6
    if kind == "spherical":
        return covariances <= near * floor.mean()
    if kind == "diag":
        return np.any(covariances <= near * floor, axis=1)
    scale = np.sqrt(floor)
    least = np.linalg.eigvalsh(covariances / scale / scale[:, None])[..., 0]
    return np.broadcast_to(least <= near, (k,)).copy()


def log_normal(kind: str, x: Floats, means: Floats, covariances: Floats) -> Floats:
    """ln N(x_n; μ_k, Σ_k), (N, K), of rows x (N, D).

    Eq.: ln N(x; μ, Σ) = -½ (D ln 2π + ln |Σ| + (x - μ)ᵀ Σ⁻¹ (x - μ))  (Bishop 2006, section 2.3)
    Held by: tests/density/test_mixture.py::test_the_density_by_its_definition
    """
    k, dim = means.shape
    if kind in ("diag", "spherical"):
        variances = np.broadcast_to(covariances.reshape(k, -1), (k, dim))
        distances = [np.sum((x - m) ** 2 / v, axis=1) for m, v in zip(means, variances, strict=True)]
        logdets = np.log(variances).sum(axis=1)  # (K,)
    else:
        factors = np.broadcast_to(np.linalg.cholesky(covariances), (k, dim, dim))  # L Lᵀ = Σ
        distances = [
            np.sum(np.linalg.solve(L, (x - m).T) ** 2, axis=0) for m, L in zip(means, factors, strict=True)
        ]
        logdets = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)  # (K,)
    return -0.5 * (np.stack(distances, axis=1) + logdets + dim * np.log(2 * np.pi))


def free_parameters(kind: str, k: int, dim: int) -> int:
    """The number of free numbers in the covariances of k components in D columns."""
    of_one = dim * (dim + 1) // 2
    return {"full": k * of_one, "tied": of_one, "diag": k * dim, "spherical": k}[kind]


def correlate(kind: str, noise: Floats, chosen: Ids, covariances: Floats) -> Floats:
    """Noise (n, D) of variance 1 -> noise in which row i has the covariance of the component `chosen[i]`."""
    if kind == "spherical":
        return noise * np.sqrt(covariances)[chosen, None]
    if kind == "diag":
        return noise * np.sqrt(covariances)[chosen]
    factors = np.linalg.cholesky(covariances)
    if kind == "tied":
        return noise @ factors.T
    return np.einsum("nij,nj->ni", factors[chosen], noise)

"""Expectation maximization on one page: a mixture of Gaussians (Dempster, Laird & Rubin 1977; Bishop 2006).

Each row x comes from one of K Gaussians, but it is not known from which one. EM alternates two steps, and no
step lowers the likelihood:

    p(x) = Σ_k π_k N(x; μ_k, Σ_k)                                              Bishop, eq. 9.7
    E:  γ_nk = π_k N(x_n; μ_k, Σ_k) / Σ_j π_j N(x_n; μ_j, Σ_j)                      eq. 9.23
    M:  N_k = Σ_n γ_nk,  μ_k = 1/N_k Σ_n γ_nk x_n,  π_k = N_k / N            eq. 9.24, 26, 27
        Σ_k = 1/N_k Σ_n γ_nk (x_n - μ_k)(x_n - μ_k)ᵀ                              eq. 9.25

`params` is a dict of NumPy arrays; `train_step` changes it. No gradient is needed.
Letters in shapes: N rows, D columns, K components.
"""

import math

import numpy as np


def init(x, K, rng):
    """Means at K rows of x (N, D) by k-means++: each row is drawn by its squared distance to the nearest
    earlier one."""
    N, D = x.shape
    mu = x[rng.integers(N, size=1)]  # (1, D)
    while len(mu) < K:
        distance = np.min(np.sum((x[:, None] - mu) ** 2, axis=2), axis=1)  # (N,)
        mu = np.append(mu, x[rng.choice(N, size=1, p=distance / distance.sum())], axis=0)  # (..., D)
    Sigma = np.cov(x.T, ddof=0).reshape(D, D)  # (D, D): of all rows
    return {
        "pi": np.full(K, 1 / K),  # (K,)
        "mu": mu,  # (K, D)
        "Sigma": np.array([Sigma] * K),  # (K, D, D)
    }


def log_joint(p, x):
    """log π_k N(x_n; μ_k, Σ_k), (N, K), for x (N, D)."""
    D = x.shape[1]
    L = np.linalg.cholesky(p["Sigma"])  # (K, D, D): Σ = L Lᵀ
    away = x.T - p["mu"][:, :, None]  # (K, D, N)
    distance = np.sum(np.linalg.solve(L, away) ** 2, axis=1)  # (K, N)
    log_det = 2 * np.sum(np.log(np.diagonal(L, axis1=1, axis2=2)), axis=1)  # (K,)
    return np.log(p["pi"]) - 0.5 * (distance.T + log_det + D * math.log(2 * math.pi))  # (N, K)


def log_density(p, x):
    """log p(x), (N,), for x (N, D)."""
    return np.logaddexp.reduce(log_joint(p, x), axis=1)  # (N,)


def e_step(p, x):
    """The responsibilities γ (N, K) of the components for x (N, D)."""
    return np.exp(log_joint(p, x) - log_density(p, x)[:, None])  # (N, K)


def m_step(x, gamma):
    """The parameters of highest likelihood for x (N, D) with responsibilities gamma (N, K)."""
    N_k = gamma.sum(axis=0)  # (K,)
    mu = gamma.T @ x / N_k[:, None]  # (K, D)
    away = x - mu[:, None]  # (K, N, D)
    Sigma = (gamma.T[:, :, None] * away).swapaxes(1, 2) @ away / N_k[:, None, None]  # (K, D, D)
    return {
        "pi": N_k / len(x),  # (K,)
        "mu": mu,  # (K, D)
        "Sigma": Sigma,  # (K, D, D)
    }


def train_step(params, x):
    """One step on the rows x (N, D). Returns the mean of -log p(x) before it."""
    loss = -np.mean(log_density(params, x))  # ()
    params.update(m_step(x, e_step(params, x)))
    return float(loss)


def sample(p, n, rng):
    """n new rows: a component for each, then a draw from its Gaussian."""
    k = rng.choice(len(p["pi"]), size=n, p=p["pi"])  # (n,)
    L = np.linalg.cholesky(p["Sigma"])[k]  # (n, D, D)
    z = rng.standard_normal((n, L.shape[1], 1))  # (n, D, 1)
    return p["mu"][k] + (L @ z)[:, :, 0]  # (n, D)

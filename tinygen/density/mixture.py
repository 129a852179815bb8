"""A mixture of Gaussians, fitted by expectation maximization (Dempster, Laird & Rubin 1977; Bishop 2006,
section 9.2). The same on one page is `examples/pages/em.py`.

    p(x) = Σ_k w_k N(x; μ_k, Σ_k)

It is not known which component a row comes from. The E-step computes the probability of each component for
each row. The M-step estimates weights, means and covariances, where each row counts with these
probabilities. No step lowers the likelihood.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, Self

import numpy as np

from tinygen.density import covariance
from tinygen.density.estimator import Density, checked_count, checked_rows, log_sum_exp
from tinygen.density.k_means import k_means_plus_plus
from tinygen.types import Floats, Mask

EMPTY = 1e-200  # a sum of responsibilities below which it has no digits: the component has no rows


class Parameters(NamedTuple):
    """The parameters of K components in D columns."""

    weights: Floats  # (K,), which sum to 1
    means: Floats  # (K, D)
    covariances: Floats  # "full" (K, D, D), "tied" (D, D), "diag" (K, D), "spherical" (K,)


class Climb(NamedTuple):
    """The result of EM from one start."""

    parameters: Parameters
    log_likelihoods: list[float]  # the mean of ln p(x) at the start and after each step
    collapsed: Mask  # (K,), the components with a variance at the floor
    converged: bool

    def rank(self) -> tuple[int, float]:
        """A key for comparing runs: the better run has the larger one. A run with fewer collapsed
        components is better, since a component on a few rows has a high likelihood, limited only by the
        floor, that means nothing. Then the higher likelihood is better."""
        return -int(self.collapsed.sum()), self.log_likelihoods[-1]


class GaussianMixture(Density):
    """K = `n_components` Gaussians with covariances of the type "full", "tied", "diag" or "spherical".

    EM runs from `n_init` starts by k-means++, until the mean of ln p(x) rises by less than `tol` in a step,
    or for `max_iter` steps; of all runs without collapsed components, the likeliest is kept. In no direction
    does a component's variance fall below `min_variance` times the variance of the data (`covariance.py`):
    so components cannot collapse to a row, and the likelihood never falls. scikit-learn adds `reg_covar`
    instead, and then the likelihood may fall.

    After `fit` there are: `weights_` (K,), `means_` (K, D) and `covariances_`, with the shapes of
    `Parameters`; `log_likelihoods_`, the mean of ln p(x) in nats at the start and after each step;
    `n_iter_`, the number of steps; `converged_`; `empty_` (K,), True for components without rows: their
    weight is 0, and they keep the mean and covariance of the step before; `collapsed_` (K,), True for
    components with a variance at the floor. A warning reports such components, and an EM that has not
    converged.

    Raises ValueError when an argument is out of its range.
    """

    weights_: Floats
    means_: Floats
    covariances_: Floats
    log_likelihoods_: Floats
    n_iter_: int
    converged_: bool
    empty_: Mask
    collapsed_: Mask

    def __init__(
        self,
        n_components: int,
        covariance_type: str = "full",
        *,
        n_init: int = 5,
        tol: float = 1e-6,
        max_iter: int = 1000,
        min_variance: float = 1e-6,
        rng: np.random.Generator | int,
    ) -> None:
        if covariance_type not in covariance.KINDS:
            raise ValueError(
                f"covariance_type must be one of {', '.join(covariance.KINDS)}, got {covariance_type!r}"
            )
        if not tol >= 0:
            raise ValueError(f"tol must be at least 0, got {tol}")
        if not 1e-12 <= min_variance < 1:
            raise ValueError(
                f"min_variance must be from 1e-12, below which float64 has no digits left, to below 1, "
                f"got {min_variance}"
            )
        self.n_components = checked_count("n_components", n_components)
        self.covariance_type = covariance_type
        self.n_init = checked_count("n_init", n_init)
        self.tol = tol
        self.max_iter = checked_count("max_iter", max_iter)
        self.min_variance = min_variance
        self.rng = np.random.default_rng(rng)

    def fit(self, x: Any, *, start: Parameters | None = None) -> Self:
        """Fit the mixture to the rows x (N, D); with `start`, EM runs once, from these parameters.

        Raises ValueError when x is not a table of finite numbers, when it has fewer different rows than
        components, or when all rows are equal; also when the parameters of `start` have other shapes or are
        not valid."""
        x = checked_rows(x)
        if len(x) < self.n_components:
            raise ValueError(f"{len(x)} rows cannot be fitted by {self.n_components} components: take fewer")
        floor = self.floor(x)
        if start is not None:
            starts = iter([self.checked_start(start, floor)])
        else:
            starts = (self.drawn_start(x, floor) for _ in range(self.n_init))
        best = max((self.climb(x, first, floor) for first in starts), key=Climb.rank)
        self.weights_, self.means_, self.covariances_ = best.parameters
        self.collapsed_ = best.collapsed
        self.log_likelihoods_ = np.array(best.log_likelihoods)
        self.n_iter_ = len(best.log_likelihoods) - 1
        self.converged_ = best.converged
        self.empty_ = self.weights_ == 0
        self.n_features_in_ = x.shape[1]
        self.warn()
        return self

    # -- EM ------------------------------------------------------------------------------------------

    def climb(self, x: Floats, start: Parameters, floor: Floats) -> Climb:
        """Steps of EM from `start`, until the likelihood rises by less than `tol`."""
        parameters = start
        shares, log_likelihood = self.e_step(x, parameters)
        path = [log_likelihood]
        for _ in range(self.max_iter):
            parameters = self.m_step(x, shares, floor, parameters)
            shares, log_likelihood = self.e_step(x, parameters)
            path.append(log_likelihood)
            if path[-1] - path[-2] < self.tol:
                break
        kind, k = self.covariance_type, self.n_components
        collapsed = covariance.floor_mask(kind, parameters.covariances, floor, k)
        return Climb(parameters, path, collapsed, path[-1] - path[-2] < self.tol)

    def drawn_start(self, x: Floats, floor: Floats) -> Parameters:
        """Random initial parameters: k-means++ draws centers, and each component gets the weight and the
        mean of the rows nearest to its center. All get the same covariance, so that a component that begins
        with few rows does not stay there."""
        k, kind = self.n_components, self.covariance_type
        shares = k_means_plus_plus(x, k, self.rng)
        counts = shares.sum(axis=0)
        means = shares.T @ x / counts[:, None]
        within = covariance.estimate("tied", x, shares, counts, means)  # (D, D)
        covariances = covariance.covariance_of_kind(kind, within, k)
        return Parameters(counts / len(x), means, covariance.raise_to_floor(kind, covariances, floor))

    def e_step(self, x: Floats, parameters: Parameters) -> tuple[Floats, float]:
        """The responsibilities (N, K) of the components for the rows x (N, D), and the mean of ln p(x).

        Eq.: r_nk = w_k N(x_n; μ_k, Σ_k) / Σ_j w_j N(x_n; μ_j, Σ_j)  (Bishop 2006, eq. 9.23)
        Held by: tests/density/test_mixture.py::test_a_step_by_its_definition
        """
        joint = self.log_joint(x, parameters)
        log_p = log_sum_exp(joint)
        return np.exp(joint - log_p[:, None]), float(np.mean(log_p))

    def m_step(self, x: Floats, shares: Floats, floor: Floats, before: Parameters) -> Parameters:
        """The parameters of highest likelihood if component k has the shares (N, K) of the rows x (N, D).
        For a component without rows, every mean and covariance is equally good, so it keeps its values in
        `before`.

        Eq.: w_k = N_k/N,  μ_k = 1/N_k Σ_n r_nk x_n,  N_k = Σ_n r_nk  (Bishop 2006, eq. 9.24, 9.26, 9.27)
        Held by: tests/density/test_mixture.py::test_a_step_by_its_definition
        """
        counts = shares.sum(axis=0)  # (K,)
        empty = counts < EMPTY
        safe = np.where(empty, 1.0, counts)
        means = shares.T @ x / safe[:, None]
        means[empty] = before.means[empty]
        kind = self.covariance_type
        covariances = covariance.estimate(kind, x, shares, safe if kind != "tied" else counts, means)
        covariances = covariance.raise_to_floor(kind, covariances, floor)
        if kind != "tied":
            covariances[empty] = before.covariances[empty]
        weights = np.where(empty, 0.0, counts)
        return Parameters(weights / weights.sum(), means, covariances)

    def log_joint(self, x: Floats, parameters: Parameters) -> Floats:
        """ln w_k N(x; μ_k, Σ_k) of each row and component, (N, K)."""
        with np.errstate(divide="ignore"):  # the weight of an empty component is 0
            logs = np.log(parameters.weights)
        return logs + covariance.log_normal(self.covariance_type, x, parameters.means, parameters.covariances)

    def floor(self, x: Floats) -> Floats:
        """The least variance of each column (D,): `min_variance` times the column's variance. A constant
        column gets the floor for the mean variance of all columns, since a floor must be above 0."""
        variances = x.var(axis=0)
        constant = np.ptp(x, axis=0) == 0
        if np.all(constant):
            raise ValueError("all rows are equal: a density of them has no maximum; give rows that differ")
        return self.min_variance * np.where(constant, variances[~constant].sum() / len(variances), variances)

    def checked_start(self, start: Parameters, floor: Floats) -> Parameters:
        """`start` as float64, within the floor."""
        weights, means, covariances = (np.array(part, np.float64) for part in start)
        k, dim, kind = self.n_components, len(floor), self.covariance_type
        shape = {"full": (k, dim, dim), "tied": (dim, dim), "diag": (k, dim), "spherical": (k,)}[kind]
        for name, part, wanted in (
            ("weights", weights, (k,)),
            ("means", means, (k, dim)),
            ("covariances", covariances, shape),
        ):
            if part.shape != wanted or not np.all(np.isfinite(part)):
                raise ValueError(f"start: {name} must be finite and {wanted}, got {part.shape}")
        if np.any(weights < 0) or not np.isclose(weights.sum(), 1):
            raise ValueError(f"start: weights must be at least 0 and sum to 1, got {weights}")
        return Parameters(weights, means, covariance.raise_to_floor(kind, covariances, floor))

    def warn(self) -> None:
        """Warn of empty and collapsed components, and if EM has not converged."""
        if np.any(self.empty_):
            warnings.warn(
                f"components {np.flatnonzero(self.empty_).tolist()} are empty, and have the weight 0: "
                "take fewer components, or another start",
                stacklevel=3,
            )
        if np.any(self.collapsed_):
            warnings.warn(
                f"components {np.flatnonzero(self.collapsed_).tolist()} have a variance at the floor, "
                f"min_variance={self.min_variance:g} of the data's: they lie on few rows, or on a "
                "line or plane. Take fewer components, a simpler covariance_type or a larger min_variance",
                stacklevel=3,
            )
        if not self.converged_:
            warnings.warn(
                f"EM has not converged in {self.max_iter} steps: raise max_iter, or tol ({self.tol:g})",
                stacklevel=3,
            )

    # -- the fitted density --------------------------------------------------------------------------

    def fitted_parameters(self) -> Parameters:
        """The fitted parameters."""
        return Parameters(self.weights_, self.means_, self.covariances_)

    def score_samples(self, x: Any) -> Floats:
        """ln p(x) of each row of x (N, D): (N,), in nats."""
        x = self.rows_to_judge(x)
        return log_sum_exp(self.log_joint(x, self.fitted_parameters()))

    def predict_proba(self, x: Any) -> Floats:
        """The responsibilities p(k | x), (N, K), of the components for the rows x (N, D)."""
        x = self.rows_to_judge(x)
        return self.e_step(x, self.fitted_parameters())[0]

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Floats:
        """n rows (n, D): for each a component is drawn, then a row from its Gaussian. scikit-learn's `sample`
        returns the components, too."""
        n = self.rows_to_draw(n)
        rng = np.random.default_rng(rng)
        chosen = rng.choice(self.n_components, size=n, p=self.weights_)
        noise = rng.standard_normal((n, self.n_features_in_))
        noise = covariance.correlate(self.covariance_type, noise, chosen, self.covariances_)
        drawn: Floats = self.means_[chosen] + noise
        return drawn

    def bic(self, x: Any) -> float:
        """The Bayesian information criterion on the rows x (N, D): of several mixtures take the lowest.

        Eq.: BIC = P ln N - 2 ln p(x_1, …, x_N), with P free parameters  (Schwarz 1978)
        Held by: tests/density/test_mixture.py::test_bic,
            tests/density/test_mixture.py::test_bic_finds_the_number_of_components
        """
        log_p = self.score_samples(x)
        k, dim = self.n_components, self.n_features_in_
        free = k - 1 + k * dim + covariance.free_parameters(self.covariance_type, k, dim)
        return float(free * np.log(len(log_p)) - 2 * log_p.sum())

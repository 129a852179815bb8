"""Principal component analysis, and the density that belongs to it.

PCA gives each row a code of fewer numbers: its coordinates along the directions in which the data vary
most. Probabilistic PCA (Tipping & Bishop 1999) is a Gaussian p(x) of rows that are made from codes z ~ N(0,
I) and noise ε:

    x = W z + μ + σ ε

It is the linear case of a VAE, and its likelihood has a maximum in closed form.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from tinygen.density.estimator import Density, Estimator, checked_count, checked_rows
from tinygen.types import Floats


class PCA(Estimator):
    """The first Q = `n_components` principal components; None means all, min(N, D). With `whiten`, each
    number of a code has variance 1 over the training rows. PCA has no density; `ProbabilisticPCA` has one.

    After `fit` there are: `mean_` (D,); `components_` (Q, D), orthonormal rows, each with its largest entry
    above 0; `explained_variance_` (Q,), computed with N - 1; `explained_variance_ratio_` (Q,), their shares
    of the variance of all columns; and `singular_values_` (Q,).

    Raises ValueError when `n_components` is below 1.
    """

    mean_: Floats
    components_: Floats
    explained_variance_: Floats
    explained_variance_ratio_: Floats
    singular_values_: Floats

    def __init__(self, n_components: int | None = None, *, whiten: bool = False) -> None:
        self.n_components = (
            n_components if n_components is None else checked_count("n_components", n_components)
        )
        self.whiten = whiten

    def fit(self, x: Any) -> Self:
        """Find the components of the rows x (N, D).

        Raises ValueError when x is not a table of finite numbers, has fewer than 2 rows, or fewer rows or
        columns than components; with `whiten` also when a component has no variance.

        Eq.: X - μ = U S Vᵀ, components Vᵀ, explained variances S²/(N - 1)  (Jolliffe 2002, chapter 3)
        Held by: tests/density/test_principal.py::test_components_are_eigenvectors_of_the_covariance
        """
        x = checked_rows(x, at_least=2)
        q = min(x.shape) if self.n_components is None else self.n_components
        if q > min(x.shape):
            raise ValueError(f"{q} components need as many rows and columns at least, got x {x.shape}")
        mean, components, singular_values = centered_svd(x)
        variances = singular_values**2 / (len(x) - 1)
        if self.whiten and variances[q - 1] <= 1e-14 * variances[0]:
            rank = int(np.sum(variances > 1e-14 * variances[0]))
            raise ValueError(
                f"whitening divides by the variance of each component, and only {rank} of {q} have one: "
                f"take n_components={rank} at most"
            )
        self.mean_ = mean
        self.components_ = components[:q]
        self.singular_values_ = singular_values[:q]
        self.explained_variance_ = variances[:q]
        total = variances.sum()
        self.explained_variance_ratio_ = variances[:q] / total if total > 0 else np.zeros(q)
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Floats:
        """The codes (N, Q) of rows x (N, D)."""
        codes: Floats = (self.rows_to_judge(x) - self.mean_) @ self.components_.T
        return codes / np.sqrt(self.explained_variance_) if self.whiten else codes

    def inverse_transform(self, z: Any) -> Floats:
        """The rows (N, D) with the codes z (N, Q). For the code of a row x, it is the row nearest to x in
        the space of the components. With as many components as the data have dimensions, it is x itself.

        Raises NotFittedError before the first `fit`; ValueError when z is no such array."""
        z = codes_of(self, z, len(self.components_) if hasattr(self, "components_") else 0)
        rows: Floats = (z * np.sqrt(self.explained_variance_) if self.whiten else z) @ self.components_
        return rows + self.mean_


class ProbabilisticPCA(Density):
    """p(x) = N(μ, W Wᵀ + σ² I) with W (D, Q). Q = `n_components` is from 0, where p is N(μ, σ² I), to D - 1.

    `fit` is exact. scikit-learn's PCA has this density, too, but divides variances by N - 1, which does not
    maximize the likelihood.

    After `fit` there are: `mean_` (D,); `loadings_` W (D, Q), whose columns are orthogonal;
    `noise_variance_` σ².

    Raises ValueError when `n_components` is below 0.
    """

    mean_: Floats
    loadings_: Floats
    noise_variance_: float

    def __init__(self, n_components: int) -> None:
        self.n_components = checked_count("n_components", n_components, 0)

    def fit(self, x: Any) -> Self:
        """The parameters of highest likelihood for the rows x (N, D).

        Raises ValueError when x is not a table of finite numbers, when it has fewer than Q + 1 columns, or
        when its rows lie in a space of Q dimensions, since the likelihood then grows without bound as σ²
        goes to 0.

        Eq.: W = U_Q (Λ_Q - σ² I)^½,  σ² = 1/(D - Q) Σ_{j>Q} λ_j, with λ and U the eigenvalues and
            eigenvectors of the covariance of the data, divided by N
            (Bishop 2006, eq. 12.45 and 12.46; Tipping & Bishop 1999)
        Held by: tests/density/test_principal.py::test_ppca_is_the_maximum_of_the_likelihood,
            tests/density/test_principal.py::test_ppca_by_the_eigenvalues_of_the_covariance
        """
        x = checked_rows(x)
        q, dim = self.n_components, x.shape[1]
        if q >= dim:
            raise ValueError(
                f"{q} components of {dim} columns leave none for the noise: take {dim - 1} at most"
            )
        mean, components, singular_values = centered_svd(x)
        variances = singular_values**2 / len(x)  # λ; those beyond min(N, D) are 0
        noise = variances[q:].sum() / (dim - q)
        if noise <= 1e-14 * variances.sum():
            raise ValueError(
                f"the {len(x)} rows lie in a space of {q} dimensions or fewer: with {q} components and no "
                "noise the likelihood has no maximum. Take fewer components, or more rows"
            )
        self.mean_ = mean
        self.noise_variance_ = float(noise)
        self.loadings_ = components[:q].T * np.sqrt(np.maximum(variances[:q] - noise, 0))
        self.n_features_in_ = dim
        return self

    def score_samples(self, x: Any) -> Floats:
        """ln p(x) of each row of x (N, D): (N,), in nats. It needs no matrix (D, D): in the direction of a
        column w of W the variance is |w|² + σ², in all directions orthogonal to the columns it is σ².

        Eq.: ln p(x) = -½ (D ln 2π + ln |C| + (x - μ)ᵀ C⁻¹ (x - μ)),  C = W Wᵀ + σ² I
            (Bishop 2006, eq. 12.43)
        Held by: tests/density/test_principal.py::test_ppca_s_density_is_the_gaussian_s
        """
        x = self.rows_to_judge(x) - self.mean_
        lengths = np.sqrt(np.sum(self.loadings_**2, axis=0))  # (Q,)
        directions = self.loadings_ / np.where(lengths > 0, lengths, 1)
        variances = lengths**2 + self.noise_variance_
        along = x @ directions  # (N, Q)
        across = x - along @ directions.T  # (N, D)
        distances = np.sum(along**2 / variances, axis=1) + np.sum(across**2, axis=1) / self.noise_variance_
        logdet = np.log(variances).sum() + (x.shape[1] - len(lengths)) * np.log(self.noise_variance_)
        log_p: Floats = -0.5 * (x.shape[1] * np.log(2 * np.pi) + logdet + distances)
        return log_p

    def transform(self, x: Any) -> Floats:
        """The means of p(z|x), (N, Q), for rows x (N, D).

        Eq.: E[z|x] = M⁻¹ Wᵀ (x - μ),  M = Wᵀ W + σ² I  (Tipping & Bishop 1999)
        Held by: tests/density/test_principal.py::test_ppca_s_codes_are_conditional_means
        """
        x = self.rows_to_judge(x)
        m = np.sum(self.loadings_**2, axis=0) + self.noise_variance_  # the diagonal; the rest of M is 0
        codes: Floats = (x - self.mean_) @ self.loadings_ / m
        return codes

    def inverse_transform(self, z: Any) -> Floats:
        """The means of p(x|z), W z + μ, (N, D), for codes z (N, Q).

        Raises NotFittedError before the first `fit`; ValueError when z is no such array."""
        rows: Floats = codes_of(self, z, self.n_components) @ self.loadings_.T + self.mean_
        return rows

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Floats:
        """n rows (n, D): codes from N(0, I), decoded, plus noise."""
        n = self.rows_to_draw(n)
        rng = np.random.default_rng(rng)
        z = rng.standard_normal((n, self.n_components))
        noise = rng.standard_normal((n, self.n_features_in_))
        return z @ self.loadings_.T + self.mean_ + np.sqrt(self.noise_variance_) * noise


def centered_svd(x: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean (D,) of the rows x (N, D), and all principal components (min(N, D), D) and singular values.
    The sign of a component is free: its largest entry is made positive, as scikit-learn does."""
    mean: Floats = x.mean(axis=0)
    _, values, components = np.linalg.svd(x - mean, full_matrices=False)
    largest = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
    return mean, components * np.sign(largest)[:, None], values


def codes_of(estimator: Estimator, z: Any, q: int) -> Floats:
    """z (N, Q) as float64. Raises NotFittedError before the first `fit`; ValueError for other shapes."""
    estimator.check_fitted()
    codes: Floats = np.asarray(z, np.float64)
    if codes.ndim != 2 or codes.shape[1] != q:
        raise ValueError(f"codes must be (rows, {q}), got {codes.shape}")
    return codes

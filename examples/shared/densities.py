"""For `density_ladder.py`: digits as points of a density, densities of codes, and the density of an
autoencoder.

All models have the same points x (N, 64): the 17 levels of the pixels plus uniform noise from 0 to 1, each
pixel then scaled to mean 0 and variance 1 over the training digits. Without noise, the density of levels
could be arbitrarily high. A density of x becomes one of the noisy levels by a constant (`Scale.log_det`), so
the nats of all rungs have one base measure.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np

from tinygen import jvp, no_grad
from tinygen.data import digits
from tinygen.density import PCA, GaussianMixture
from tinygen.density.covariance import free_parameters
from tinygen.density.estimator import Density, log_sum_exp
from tinygen.models.pictures.plain_autoencoder import Autoencoder, sliced_wasserstein2

PIXELS = digits.SIDE**2


# -- digits as points ------------------------------------------------------------------------------


def levels_of(pictures: Any) -> Any:
    """The levels 0 … 16 of the pixels of pictures (N, 1, 8, 8), as float64 (N, 64)."""
    return np.rint((pictures.reshape(len(pictures), PIXELS) + 1.0) * digits.INK / 2)


class Scale(NamedTuple):
    """x = (noisy levels - mean) / std, for each pixel."""

    mean: Any  # (64,)
    std: Any  # (64,)

    @classmethod
    def of(cls, levels: Any) -> Self:
        """The scale of levels (N, 64) with noise, whose variance is 1/12."""
        return cls(levels.mean(axis=0) + 0.5, np.sqrt(levels.var(axis=0) + 1 / 12))

    def points(self, levels: Any, rng: np.random.Generator) -> Any:
        """Points (N, 64), float32, of levels (N, 64), with new noise."""
        return ((levels + rng.random(levels.shape) - self.mean) / self.std).astype(np.float32)

    def pictures(self, x: Any) -> Any:
        """Pictures (N, 1, 8, 8) of points (N, 64): noisy levels, rounded down to levels."""
        levels = np.clip(np.floor(x * self.std + self.mean), 0, digits.INK)
        pictures = (levels * (2 / digits.INK) - 1).astype(np.float32)
        return pictures.reshape(-1, 1, digits.SIDE, digits.SIDE)

    def log_det(self) -> float:
        """What to add to ln p(x) for the density of the noisy levels."""
        return -float(np.log(self.std).sum())


# -- densities of codes ----------------------------------------------------------------------------


class PrincipalDensity(Density):
    """The density `of_codes` on the codes of PCA, times a Gaussian of one variance, σ², in the D - Q
    directions that PCA leaves out. With one Gaussian on the codes this is probabilistic PCA."""

    def __init__(self, n_components: int, of_codes: Density) -> None:
        self.pca = PCA(n_components)
        self.of_codes = of_codes

    def fit(self, x: Any) -> Self:
        """Fit both parts to rows x (N, D)."""
        codes = self.pca.fit(x).transform(x)
        self.of_codes.fit(codes)
        missed = x - self.pca.inverse_transform(codes)  # (N, D)
        self.left = x.shape[1] - codes.shape[1]  # D - Q
        self.variance = float(np.sum(missed**2)) / (len(x) * self.left)
        self.n_features_in_ = x.shape[1]
        return self

    def score_samples(self, x: Any) -> Any:
        """ln p(x) of each row, exactly: PCA's components are orthonormal, so its determinant is 1."""
        codes = self.pca.transform(x)
        missed = np.sum((x - self.pca.inverse_transform(codes)) ** 2, axis=1)
        noise = -0.5 * (self.left * np.log(2 * np.pi * self.variance) + missed / self.variance)
        return self.of_codes.score_samples(codes) + noise

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Any:
        """Rows (n, D) of the plane of the components: the noise in the other directions is left out."""
        return self.pca.inverse_transform(self.of_codes.sample(n, rng=rng))  # type: ignore[attr-defined]


class ClassGaussians(Density):
    """A Gaussian for each class, whose weight is the share of the class. `labels` (N,) are the classes of
    the rows that it is fitted to."""

    def __init__(self, labels: Any) -> None:
        self.labels = labels

    def fit(self, x: Any) -> Self:
        """Fit a Gaussian to the rows of each class."""
        self.shares = np.bincount(self.labels) / len(self.labels)
        self.gaussians = [GaussianMixture(1, rng=0).fit(x[self.labels == k]) for k in np.unique(self.labels)]
        self.n_features_in_ = x.shape[1]
        return self

    def score_samples(self, x: Any) -> Any:
        """ln Σ_k p(k) p(x|k) of each row."""
        joint = np.stack([each.score_samples(x) for each in self.gaussians], axis=1)  # (N, K)
        return log_sum_exp(joint + np.log(self.shares))

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Any:
        """n rows (n, D): a class by its share, then a row by its Gaussian."""
        rng = np.random.default_rng(rng)
        counts = rng.multinomial(n, self.shares)
        drawn = [
            each.sample(count, rng=rng) for each, count in zip(self.gaussians, counts, strict=True) if count
        ]
        return rng.permutation(np.concatenate(drawn))


class StandardNormal(Density):
    """N(0, I), the codes that a SWAE is trained for."""

    def fit(self, x: Any) -> Self:
        """Take the number of columns of x (N, D); nothing else is to be found."""
        self.n_features_in_ = x.shape[1]
        return self

    def score_samples(self, x: Any) -> Any:
        """ln p of each row."""
        return -0.5 * np.sum(x**2 + np.log(2 * np.pi), axis=1)

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Any:
        """n rows (n, D)."""
        return np.random.default_rng(rng).standard_normal((n, self.n_features_in_))


def count_of(density: Density) -> int:
    """The number of parameters of a fitted density: kernels have all their rows, and a width."""
    if isinstance(density, GaussianMixture):
        k, dim = density.means_.shape
        return k - 1 + k * dim + free_parameters(density.covariance_type, k, dim)
    if isinstance(density, PrincipalDensity):
        return density.pca.components_.size + density.n_features_in_ + 1 + count_of(density.of_codes)
    if isinstance(density, ClassGaussians):
        return len(density.shares) - 1 + sum(map(count_of, density.gaussians))
    return density.rows_.size + hasattr(density, "bandwidth_") if hasattr(density, "rows_") else 0


# -- the density of an autoencoder -----------------------------------------------------------------


class DecodedDensity:
    """p(x) = ∫ p(z) N(x; g(z), σ² I) dz, with the decoder g of an autoencoder and a density p(z) that is
    fitted to its codes afterwards. σ² is the mean squared error of a pixel. An autoencoder alone has no
    density. Everything is fitted to the training points x (N, D)."""

    def __init__(self, model: Autoencoder, of_codes: Density, x: Any) -> None:
        self.model = model
        codes = model.encode(x).astype(np.float64)
        self.of_codes = of_codes.fit(codes)
        self.precision = np.linalg.inv(np.cov(codes.T))  # (Z, Z)
        self.variance = float(np.mean((model.decode(model.encode(x)) - x) ** 2))

    @no_grad()
    def jacobians(self, z: Any) -> Any:
        """∂g/∂z at each of the codes z (N, Z): (N, D, Z)."""
        columns = []
        for unit in np.eye(z.shape[1], dtype=z.dtype):
            columns.append(jvp(self.model.decoder, [z], [np.broadcast_to(unit, z.shape).copy()])[1].numpy())
        return np.stack(columns, axis=2).astype(np.float64)

    def bound(self, x: Any, draws: int, rng: np.random.Generator) -> Any:
        """A lower bound of ln p(x) for each of the points x (N, D), (N,), as in `VAE.log_p`: the codes are
        drawn from q(z|x) = N(f(x), (JᵀJ/σ² + C⁻¹)⁻¹), with the encoder f, the decoder's Jacobian J at f(x),
        and the covariance C of the codes. For a linear decoder and a Gaussian p(z) this is the precision of
        p(z|x)."""
        codes = self.model.encode(x)  # (N, Z)
        j = self.jacobians(codes)
        factor = np.linalg.cholesky(j.transpose(0, 2, 1) @ j / self.variance + self.precision)  # L Lᵀ
        log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)  # (N,)
        spread = np.linalg.inv(factor).transpose(0, 2, 1)  # (N, Z, Z)
        weights = []
        for _ in range(draws):
            eps = rng.standard_normal(codes.shape)
            z = codes + (spread @ eps[:, :, None])[:, :, 0]  # (N, Z)
            missed = np.sum((self.model.decode(z.astype(np.float32)) - x) ** 2, axis=1)
            log_x = -0.5 * (x.shape[1] * np.log(2 * np.pi * self.variance) + missed / self.variance)
            log_q = log_det - 0.5 * np.sum(eps**2 + np.log(2 * np.pi), axis=1)
            weights.append(self.of_codes.score_samples(z) + log_x - log_q)
        return log_sum_exp(np.stack(weights, axis=1)) - np.log(draws)

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        """Points (n, D): codes by their density, decoded. The noise of the pixels is left out."""
        return self.model.decode(self.of_codes.sample(n, rng=rng).astype(np.float32))  # type: ignore[attr-defined]


# -- the codes of a SWAE ---------------------------------------------------------------------------


def excess_of_codes(codes: Any, rng: np.random.Generator, directions: int = 500, draws: int = 10) -> float:
    """The sliced Wasserstein distance of codes (N, Z) from N draws of N(0, I), divided by the distance of two
    such sets of draws; both are means over `draws` sets. It is 1 for codes that are N(0, I)."""

    def distance(other: Any) -> float:
        normal = rng.standard_normal(codes.shape)
        return float(np.sqrt(sliced_wasserstein2(other, normal, directions, rng=rng)))

    of_codes = np.mean([distance(codes) for _ in range(draws)])
    return float(of_codes / np.mean([distance(rng.standard_normal(codes.shape)) for _ in range(draws)]))

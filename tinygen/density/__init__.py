"""Densities without a network, in plain NumPy, with the same methods as in scikit-learn: the simplest
generative models, before VAEs, GANs and diffusion.

    model.fit(x)                  fits the model to rows x (N, D); fitted attributes end in `_`
    model.score_samples(x)        ln p(x) of each row, in nats; `score` returns their mean
    model.sample(n, rng=rng)      n new rows
    model.transform(x)            codes, if the model has codes; `inverse_transform` returns the rows of codes

Read `empirical`, `kernel`, `mixture` with `covariance` and `k_means`, `principal`; `gaussian` compares two
Gaussians.
"""

from tinygen.density.empirical import Empirical
from tinygen.density.estimator import NotFittedError
from tinygen.density.gaussian import kl_of_gaussians, wasserstein2_of_gaussians
from tinygen.density.kernel import GaussianKDE
from tinygen.density.mixture import GaussianMixture, Parameters
from tinygen.density.principal import PCA, ProbabilisticPCA

__all__ = [
    "PCA",
    "Empirical",
    "GaussianKDE",
    "GaussianMixture",
    "NotFittedError",
    "Parameters",
    "ProbabilisticPCA",
    "kl_of_gaussians",
    "wasserstein2_of_gaussians",
]

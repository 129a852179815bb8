"""The hierarchical VAE: its bound on chains whose ln p(x) is known, and on a diffusion.

Log densities of linear Gaussian chains are quadratic in the noise of the draws. So a few points with the
moments of the noise give their expectations exactly."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn
from tinygen.diffusion import Process, bits_per_dim, cosine_schedule
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.vae import Posterior
from tinygen.ops.loss import log_normal


class Affine(nn.Module):
    """N(matrix·x + shift, variances), independent of each other."""

    def __init__(self, matrix, shift, variances):
        self.matrix, self.shift, self.variances = map(np.asarray, (matrix, shift, variances))

    def forward(self, x):
        mean = Tensor(np.asarray(x)) @ self.matrix.T + self.shift
        return Posterior(mean, Tensor(np.log(self.variances) + np.zeros(mean.shape)))


class Mean(Affine):
    def forward(self, x):
        return super().forward(x).mean


# -- the chain z_2 -> z_1 -> x, each coordinate of z_2 and of z_1 by itself --------------------------

A, SHIFT, V = np.diag([1.5, -0.5]), np.array([0.3, -0.2]), np.array([0.4, 0.9])
W = np.array([[1.0, 0.5], [0.5, -1.0], [2.0, 0.0]]) * [1, 0.8]  # orthogonal columns: posteriors factorize
BIAS, NOISE = np.array([0.1, 0.0, -0.4]), 0.3
X = np.array([[0.5, -1.0, 2.0], [0.0, 0.3, -1.5]])


def chain():
    """The model and its exact posteriors. p(z_1) = N(SHIFT, A² + V); p(z_2|z_1) and p(z_1|x) by Gaussian
    conditioning, number by number."""
    model = HierarchicalVAE(3, 2, (2, 2), pixels="gaussian", rng=0).astype(np.float64)
    a, norms = np.diag(A), np.sum(W**2, axis=0)
    assert abs(W[:, 0] @ W[:, 1]) < 1e-15
    prior = a**2 + V
    variance = 1 / (1 / prior + norms / NOISE)
    of_x = Affine(variance[:, None] * W.T / NOISE, variance * (SHIFT / prior - W.T @ BIAS / NOISE), variance)
    gain = a / prior
    of_z1 = Affine(np.diag(gain), -gain * SHIFT, V / prior)
    model.encoders = nn.ModuleList([of_x, of_z1])
    model.priors = nn.ModuleList([Affine(A, SHIFT, V)])
    model.decoder = Mean(W, BIAS, np.ones(3))
    model.pixels.logvar.data = np.array(math.log(NOISE))
    return model


def exact_log_p(x):
    covariance = W @ np.diag(np.diag(A) ** 2 + V) @ W.T + NOISE * np.eye(3)
    away = x - (W @ SHIFT + BIAS)
    squares = np.sum(away @ np.linalg.inv(covariance) * away, axis=1)
    return -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])


class SigmaPoints(np.random.Generator):
    """The noise of `levels` draws in turn, for a batch of 2·levels·dim rows: ±√(levels·dim) along each axis
    of all noise together."""

    def __init__(self, levels, dim):
        super().__init__(np.random.PCG64(0))
        n = levels * dim
        points = math.sqrt(n) * np.concatenate([np.eye(n), -np.eye(n)])
        self.parts = iter(np.split(points, levels, axis=1))

    def standard_normal(self, shape, dtype):
        part = next(self.parts)
        assert part.shape == shape
        return part.astype(dtype)


def test_a_linear_chain_with_its_posteriors():
    """The weight is p(x), whatever is drawn; so one draw is the bound, and more draws change nothing."""
    model = chain()
    for seed in range(3):
        np.testing.assert_allclose(model.log_weights(X, rng=seed).data, exact_log_p(X), rtol=1e-12)
    np.testing.assert_allclose(model.log_p(X, 4, rng=0), exact_log_p(X), rtol=1e-12)
    assert model.loss(X, rng=0).item() == pytest.approx(-exact_log_p(X).mean(), rel=1e-12)


@pytest.mark.parametrize("level", [0, 1])
def test_a_wrong_encoder_costs_its_divergence(level):
    """Means off by δ and variances by a factor: the bound falls by KL(q ‖ p) at that level. The upper encoder
    is right for every z_1, whoever draws it."""
    model, delta, factor = chain(), np.array([0.3, -0.2]), 1.3
    wrong = model.encoders[level]
    variances = wrong.variances.copy()
    wrong.shift, wrong.variances = wrong.shift + delta, factor * variances
    cost = np.sum(delta**2 / (2 * variances) + (factor - 1 - math.log(factor)) / 2)
    for x, log_p in zip(X, exact_log_p(X), strict=True):
        bound = model.log_weights(np.repeat(x[None], 8, axis=0), rng=SigmaPoints(2, 2)).data.mean()
        assert bound == pytest.approx(log_p - cost, rel=1e-10)


def test_samples_of_the_chain():
    """Means of pixels: W z_1 + b, z_1 from N(SHIFT, A² + V), by 100,000 draws within 5 standard errors."""
    x = chain().sample(100_000, rng=0)
    covariance = W @ np.diag(np.diag(A) ** 2 + V) @ W.T
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(x.mean(axis=0) - (W @ SHIFT + BIAS)), 5 * spread / math.sqrt(1e5))
    error = 5 * np.sqrt(2 / 1e5) * np.outer(spread, spread)
    np.testing.assert_array_less(np.abs(np.cov(x.T) - covariance), error)


# -- a diffusion is a hierarchical VAE ---------------------------------------------------------------


class Pairs(np.random.Generator):
    """+1 for one half of the batch and -1 for the other."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype):
        return np.where(np.arange(shape[0])[:, None] < shape[0] // 2, 1, -1).astype(dtype)


class Step(nn.Module):
    """p(x_{t-1}|x_t) of a diffusion: the posterior at the x_0 that the model predicts."""

    def __init__(self, process, model, t):
        self.process, self.model, self.t = process, model, t

    def x0(self, x):
        return self.process.x0_and_eps(self.model(x, np.full(len(x), self.t - 1)), x, self.t)[0]

    def forward(self, x):
        x = x.data
        mean, _ = self.process.posterior(self.x0(x), x, self.t)
        return Posterior(*map(Tensor, (mean, self.process.log_variance("small", x, self.t) + 0 * x)))


class LastStep(Step):
    def forward(self, z):
        return Tensor(self.x0(z.data))


def test_a_diffusion_has_the_same_bound():
    """Four steps, for a model that is not exact: T levels with z_t = x_t, whose encoder adds the noise of a
    step. Both expectations are exact, and the bound of `diffusion` is the same number."""
    process, steps = Process(cosine_schedule(4), "x0"), range(1, 5)
    denoise = lambda x, t: 0.6 * x + 0.1 * t[:, None] + 0.05
    model = HierarchicalVAE(1, 2, (1,) * 4, pixels="gaussian", rng=0).astype(np.float64)
    beta = process.schedule.beta
    model.encoders = nn.ModuleList([Affine([[math.sqrt(1 - beta[t])]], [0.0], [beta[t]]) for t in steps])
    model.priors = nn.ModuleList([Step(process, denoise, t) for t in steps[1:]])
    model.decoder = LastStep(process, denoise, 1)
    model.pixels.logvar.data = np.array(process.schedule.log_small[1])
    for x in (-0.7, 0.4):
        ours = -model.log_weights(np.full((8, 1), x), rng=SigmaPoints(4, 1)).data.mean()
        theirs = bits_per_dim(process, denoise, np.full((2, 1), x), rng=Pairs(), levels=None)
        assert ours == pytest.approx(theirs.total * math.log(2), rel=1e-10)


# -- the model ---------------------------------------------------------------------------------------


def test_the_weights_by_the_formula():
    """Two levels of perceptrons: the five log densities, at the codes that the generator draws."""
    model = HierarchicalVAE(6, 5, (3, 2), rng=0).astype(np.float64)
    x, rng = np.random.default_rng(1).random((4, 6)), np.random.default_rng(2)
    q1 = model.encoders[0](x)
    z1 = q1.mean.data + np.exp(0.5 * q1.logvar.data) * rng.standard_normal((4, 3), np.float32)
    q2 = model.encoders[1](z1)
    z2 = q2.mean.data + np.exp(0.5 * q2.logvar.data) * rng.standard_normal((4, 2), np.float32)
    p1, logits = model.priors[0](z2), model.decoder(z1).data
    log_px = np.sum(x * logits - np.log1p(np.exp(logits)), axis=1)
    of = lambda z, mean, logvar: np.asarray(log_normal(z, mean, logvar)).sum(axis=1)
    expected = log_px + of(z1, p1.mean.data, p1.logvar.data) + of(z2, 0.0, 0.0)
    expected -= of(z1, q1.mean.data, q1.logvar.data) + of(z2, q2.mean.data, q2.logvar.data)
    np.testing.assert_allclose(model.log_weights(x, rng=2).data, expected, rtol=1e-10)
    assert model.loss(x, rng=2).item() == pytest.approx(-expected.mean(), rel=1e-10)


def test_more_draws_raise_the_bound():
    """The mean of 4,000 bounds by one, by four and by sixty draws, each above the one before."""
    model = HierarchicalVAE(6, 5, (2, 2), rng=3).astype(np.float64)
    x = np.repeat(np.random.default_rng(1).random((1, 6)), 4000, axis=0)
    one, four, many = (model.log_p(x, k, rng=0).mean() for k in (1, 4, 60))
    assert one < four < many


def test_log_p_is_the_logarithm_of_the_mean_weight_of_each_picture():
    model, x = HierarchicalVAE(6, 5, (2, 2), rng=3), np.random.default_rng(1).random((3, 6), np.float32)
    rng = np.random.default_rng(0)
    weights = np.exp([model.log_weights(x, rng=rng).data for _ in range(5)])
    np.testing.assert_allclose(model.log_p(x, 5, rng=0), np.log(weights.mean(axis=0)), rtol=1e-5)


def test_the_bound_of_a_picture_beside_a_far_more_probable_one():
    """The logarithm of the sum is taken of each picture for itself: exp(-800) beside 1 would be 0."""
    model = HierarchicalVAE(400, 3, (2, 2), pixels="gaussian", rng=0).astype(np.float64)
    x = np.stack([model.decode(np.zeros((1, 2)))[0], np.full(400, 5.0)])
    both = model.log_p(x, 3, rng=0)
    assert both[0] - both[1] > 1000
    assert np.isfinite(both).all()


@pytest.mark.parametrize("pixels", ["bernoulli", "gaussian"])
def test_gradcheck_of_the_loss(pixels):
    model = HierarchicalVAE(4, 3, (2, 2), pixels=pixels, rng=0)
    x = np.random.default_rng(1).random((3, 4))
    gradcheck(model.loss, x, kwargs={"rng": np.random.default_rng(0)}).raise_if_failed()


def test_three_levels():
    model = HierarchicalVAE(6, 5, (4, 3, 2), rng=0)
    x = np.random.default_rng(1).random((2, 6), np.float32)
    assert model.encode(x).shape == (2, 4)
    assert model(x).shape == model.decode(model.encode(x)).shape == model.sample(2, rng=0).shape == (2, 6)
    np.testing.assert_array_equal(model(x).data, model.decode(model.encode(x)))
    assert len(model.encoders) == 3
    assert len(model.priors) == 2


def test_one_level_is_no_hierarchy():
    with pytest.raises(ValueError, match="the numbers of two codes or more, got"):
        HierarchicalVAE(6, 5, (3,), rng=0)

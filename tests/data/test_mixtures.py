"""Mixtures: density, score and denoisers against differences, gradients, sums over grids and closed forms."""

import math

import numpy as np
import pytest

import tinygen
from tinygen.data.mixtures import Mixture, lattice, moons, ring, standardize

UNEVEN = Mixture([1, 2, 5], [[0.0, 1.0], [-1.0, -0.5], [1.5, 0.2]], [0.3, 0.7, 0.2])
MIXTURES = {"uneven": UNEVEN, "ring": ring(), "lattice": lattice(3, 0.2), "moons": moons()}
every = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
LEVELS = [(0.999, math.sqrt(1 - 0.999**2)), (0.8, 0.6), (0.1, math.sqrt(0.99))]


def points(n=40, scale=1.5, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((n, 2))


def plane(mixture, fineness=6):
    """Points (N, 2) of a regular grid over nearly all of the mixture, and the area that each stands for."""
    step, margin = mixture.stds.min() / fineness, 9 * mixture.stds.max()
    axes = [np.arange(m.min() - margin, m.max() + margin, step) for m in mixture.means.T]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2), step**2


def score_error(mixture, x, h=1e-5):
    """How far the score is from the central differences of the log density."""
    f = mixture.log_density
    differences = [(f(x + h * axis) - f(x - h * axis)) / (2 * h) for axis in np.eye(2)]
    return np.abs(mixture.score(x) - np.stack(differences, axis=1)).max()


# -- density and score -----------------------------------------------------------------------------


def test_the_density_by_hand():
    x = points()
    wanted = sum(
        w * np.exp(-np.sum((x - m) ** 2, axis=1) / (2 * s * s)) / (2 * math.pi * s * s)
        for w, m, s in zip([1 / 8, 2 / 8, 5 / 8], UNEVEN.means, UNEVEN.stds, strict=True)
    )
    np.testing.assert_allclose(np.exp(UNEVEN.log_density(x)), wanted, rtol=1e-12)


@every
def test_the_density_sums_to_1_and_has_the_moments(mixture):
    x, area = plane(mixture)
    p = area * np.exp(mixture.log_density(x))
    assert p.sum() == pytest.approx(1, abs=1e-9)
    mean = mixture.weights @ mixture.means
    np.testing.assert_allclose(p @ x, mean, atol=1e-9)
    away = mixture.means - mean
    variance = mixture.weights @ (away**2 + mixture.stds[:, None] ** 2)
    np.testing.assert_allclose(p @ (x - mean) ** 2, variance, rtol=1e-9)


@every
def test_the_score_is_the_gradient_of_the_log_density(mixture):
    x = points()
    assert score_error(mixture, x) < 1e-5
    gradient = tinygen.grad(lambda x: mixture.log_density(x).sum())(x)
    np.testing.assert_allclose(mixture.score(x), gradient.data, rtol=1e-9, atol=1e-9)


def test_far_away_there_is_still_a_score():
    x = np.array([[1e4, -1e4]])
    assert np.isfinite(ring().log_density(x)).all()
    nearest = ring().means[7]
    np.testing.assert_allclose(ring().score(x), (nearest - x) / 0.1**2, rtol=1e-12)


def test_responsibilities():
    p = UNEVEN.responsibilities(points())
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    joint = np.stack([UNEVEN.weights[k] * np.exp(UNEVEN.part([k]).log_density(points())) for k in range(3)])
    np.testing.assert_allclose(p, (joint / joint.sum(axis=0)).T, rtol=1e-12)
    far = UNEVEN.responsibilities(np.concatenate([points(), [[1e4, 1e4]]]))  # each point by itself
    np.testing.assert_allclose(far, [*p, [0, 1, 0]], rtol=1e-12)


def test_a_part_is_the_density_given_its_class():
    """p(x) = Σ p(class) p(x | class)."""
    x, classes = points(), ([0, 2], [1])
    whole = sum(UNEVEN.weights[k].sum() * np.exp(UNEVEN.part(k).log_density(x)) for k in map(list, classes))
    np.testing.assert_allclose(np.exp(UNEVEN.log_density(x)), whole, rtol=1e-12)


# -- samples ---------------------------------------------------------------------------------------


def moment_errors(x, mixture):
    """The means of x, y, x², y² and xy in the samples (N, 2) less the true ones, in standard deviations of
    such means. The true ones are sums over a grid."""
    features = lambda x: np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]])
    grid, area = plane(mixture)
    p = area * np.exp(mixture.log_density(grid))
    wanted = features(grid) @ p
    variance = features(grid) ** 2 @ p - wanted**2
    return np.abs(features(x).mean(axis=1) - wanted) / np.sqrt(variance / len(x))


@every
def test_moments_of_samples(mixture):
    """Five moments, each within 6.2 of its standard deviations: false alarms 3e-9 together."""
    x = mixture.sample(20_000, np.random.default_rng(3))
    assert moment_errors(x, mixture).max() < 6.2


def test_diffused_is_alpha_times_data_plus_sigma_times_noise():
    """As above, with samples that are diffused by hand; another diffusion is noticed."""
    rng = np.random.default_rng(4)
    for alpha, sigma in LEVELS:
        x = alpha * UNEVEN.sample(20_000, rng) + sigma * rng.standard_normal((20_000, 2))
        assert moment_errors(x, UNEVEN.diffuse(alpha, sigma)).max() < 6.2
        assert moment_errors(x, UNEVEN.diffuse(0.9 * alpha, 0.9 * sigma)).max() > 7


def test_the_seed_decides():
    draw = lambda seed: ring().sample(5, np.random.default_rng(seed))
    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.any(draw(0) != draw(1))


# -- the best denoiser -----------------------------------------------------------------------------


def conditional_means(mixture, x, alpha, sigma):
    """E[x_0 | x_t = x] and E[ε | x_t = x] by their definition: sums over all data, weighted by
    p(x_0) N(x; alpha·x_0, sigma²)."""
    x0, _ = plane(mixture)
    eps = (x[:, None] - alpha * x0) / sigma  # (N, G, 2)
    log = mixture.log_density(x0) - np.sum(eps**2, axis=2) / 2
    p = np.exp(log - log.max(axis=1, keepdims=True))[:, :, None]
    return [(p * y).sum(axis=1) / p.sum(axis=1) for y in (x0, eps)]


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_denoisers_are_conditional_means(alpha, sigma):
    x = points(10)
    x0, eps = conditional_means(UNEVEN, x, alpha, sigma)
    np.testing.assert_allclose(UNEVEN.x0(x, alpha, sigma), x0, atol=1e-7)
    np.testing.assert_allclose(UNEVEN.eps(x, alpha, sigma), eps, atol=1e-7)


@every
@pytest.mark.parametrize(("alpha", "sigma"), [*LEVELS, (1.0, 1e-4)])
def test_the_two_denoisers_make_up_x(mixture, alpha, sigma):
    """x = alpha·E[x_0 | x] + sigma·E[ε | x]."""
    x = points()
    there = alpha * mixture.x0(x, alpha, sigma) + sigma * mixture.eps(x, alpha, sigma)
    np.testing.assert_allclose(there, x, atol=1e-10)


def test_without_data_nothing_is_known():
    x = points()
    np.testing.assert_allclose(UNEVEN.x0(x, 0.0, 1.0), np.tile(UNEVEN.weights @ UNEVEN.means, (40, 1)))
    np.testing.assert_allclose(UNEVEN.eps(x, 0.0, 1.0), x, rtol=1e-12)


# -- the floor of the loss -------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "sigma"), [*LEVELS, (1.0, 0.01), (0.0, 1.0)])
@pytest.mark.parametrize(("dim", "s"), [(1, 0.6), (2, 0.6), (2, 4.0)])
def test_the_floor_of_one_gaussian(alpha, sigma, dim, s):
    """ᾱs² / (ᾱs² + 1 - ᾱ): what is left of ε's variance when x_t is known."""
    floor = Mixture([1.0], [[0.7] * dim], s).eps_floor(alpha, sigma)
    assert floor == pytest.approx((alpha * s) ** 2 / ((alpha * s) ** 2 + sigma**2), abs=1e-10)


@every
def test_the_grid_of_the_floor_is_fine_enough(mixture):
    for alpha, sigma in LEVELS:
        floor = mixture.eps_floor(alpha, sigma)
        assert floor == pytest.approx(mixture.eps_floor(alpha, sigma, fineness=8), abs=1e-7)
        assert 0 < floor < 1


@every
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_floor_is_the_loss_of_the_best_denoiser(mixture, alpha, sigma):
    """Over 40,000 draws, within 6 standard deviations: false alarms 2e-9. A predictor that is 10 % too large
    is as much above the floor as it is away from the best one: the excess is its mean squared distance."""
    rng = np.random.default_rng(5)
    eps = rng.standard_normal((40_000, 2))
    x = alpha * mixture.sample(40_000, rng) + sigma * eps
    best, floor = mixture.eps(x, alpha, sigma), mixture.eps_floor(alpha, sigma)

    def off(prediction, level):
        losses = np.mean((eps - prediction) ** 2, axis=1)
        return (losses.mean() - level) / (losses.std() / math.sqrt(len(x)))

    assert abs(off(best, floor)) < 6
    assert abs(off(1.1 * best, floor + 0.01 * (1 - floor))) < 6


def test_wrong_formulas_are_seen():
    """The checks above notice mistakes that are easy to make."""
    x, (alpha, sigma) = points(10), LEVELS[1]
    no_shares = Mixture(np.ones(3), UNEVEN.means, UNEVEN.stds)
    assert np.abs(no_shares.score(x) - UNEVEN.score(x)).max() > 0.1

    class Unsquared(Mixture):
        def score(self, x):
            pull = self.responsibilities(x) / self.stds
            return pull @ self.means - np.sum(pull, axis=1, keepdims=True) * x

    assert score_error(Unsquared(UNEVEN.weights, UNEVEN.means, UNEVEN.stds), x) > 1
    _, eps = conditional_means(UNEVEN, x, alpha, sigma)
    assert np.abs(UNEVEN.eps(x, alpha, sigma**2) - eps).max() > 0.1
    assert np.abs(UNEVEN.diffuse(alpha, sigma).score(x) + eps).max() > 0.1  # sigma forgotten


# -- presets, errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("mixture", [ring(8), ring(5, 0.3), ring(2), lattice(5), moons(), lattice(2, 0.9)])
def test_presets_have_mean_0_and_variance_1(mixture):
    np.testing.assert_allclose(mixture.weights @ mixture.means, 0, atol=1e-12)
    assert np.mean(mixture.means**2) + mixture.stds[0] ** 2 == pytest.approx(1)
    assert len(set(mixture.stds)) == len(set(mixture.weights)) == 1


def test_where_the_presets_are():
    angles = np.degrees(np.arctan2(*ring(8).means.T[::-1])) % 360
    np.testing.assert_allclose(angles, 45 * np.arange(8), atol=1e-9)
    np.testing.assert_allclose(np.hypot(*ring(8).means.T), math.sqrt(2 * (1 - 0.01)))
    np.testing.assert_allclose(lattice(3).means[:3, 1], lattice(3).means[0, 1])
    np.testing.assert_allclose(np.diff(lattice(3).means[:3, 0]), np.diff(lattice(3).means[::3, 1]))
    upper, lower = np.split(moons(10).means, 2)  # around (1/2, 1/4), the middle of both
    np.testing.assert_allclose(upper[0] / upper[-1], [-1 / 3, 1], rtol=1e-12)
    assert upper[0, 1] / upper[0, 0] == pytest.approx(-1 / 2)
    np.testing.assert_allclose(upper[::-1], -lower[::-1], atol=1e-12)  # a half turn takes one to the other
    assert upper[:, 1].mean() > lower[:, 1].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1], [[0.0, 0.0]], 1), r"means must be \(K, D\) and weights \(K,\), got \(1, 2\) and \(2,\)"),
        (([1], [0.0], 1), r"means must be \(K, D\)"),
        (([1, 1], [[0.0], [1.0]], [1, 1, 1]), r"one for each of 2, got \(3,\)"),
        (([1, 0], [[0.0], [1.0]], 1), r"weights must be above 0 and finite, got 0 \.\. 1"),
        (([1, 1], [[0.0], [1.0]], [1, -1]), r"stds must be above 0 and finite, got -1 \.\. 1"),
        (([1], [[np.nan]], 1), "means must be finite"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


def test_errors_of_presets_and_floor():
    for std in (-0.5, 0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match=rf"std must be between 0 and 1, .* got {std}"):
            standardize(np.eye(2), std)
    for preset, n in ((ring, 1), (lattice, 1), (moons, 1)):
        with pytest.raises(ValueError, match="at least 2"):
            preset(n)
    with pytest.raises(ValueError, match="too many points in 3 dimensions"):
        Mixture([1], [[0.0] * 3], 1).eps_floor(0.8, 0.6)

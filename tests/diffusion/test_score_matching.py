"""Score matching on Gaussian data, whose noisy score is -(x - m)/(s² + σ²), and on a mixture.

The loss is quadratic in (x, ε), so four points with the moments of both give expectations exactly. A step of
Langevin dynamics is affine in x and the noise, so moments pass through it exactly."""

import numpy as np
import pytest

from tinygen import Tensor, tape
from tinygen.data.mixtures import ring
from tinygen.diffusion import (
    annealed_langevin,
    langevin_step,
    last_state,
    noise_levels,
    score_matching_loss,
    score_matching_loss_at,
)

M, S = 1.5, 0.4
SIGNS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # mean 0, covariance 1
DATA, NOISE = M + S * SIGNS[:, :1], SIGNS[:, 1:]
LEVELS = noise_levels(2.0, 0.1, 5)


def exact(x, sigma):
    return -(x - M) / (S**2 + sigma[:, None] ** 2)


def test_levels_are_a_geometric_sequence():
    np.testing.assert_allclose(noise_levels(8.0, 1.0, 4), [8, 4, 2, 1], rtol=1e-14)


# -- the loss --------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    """x̃ = 3 + 2·0.5 = 4, score 0.25: (0.25 + (4 - 3)/4)²/2 · 4 in the first; the second adds its own."""
    x, sigma, eps = np.array([[3.0], [0.0]]), np.array([2.0, 1.0]), np.array([[0.5], [-1.0]])
    loss = score_matching_loss_at(lambda x, sigma: x / 16, x, sigma, eps)
    first, second = 4 * (0.25 + 0.25) ** 2 / 2, (-1 / 16 - 1) ** 2 / 2
    assert loss == pytest.approx((first + second) / 2, rel=1e-14)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_the_least_loss_of_gaussian_data(sigma):
    """s²/(s² + σ²)/2 a number, where the score is the density's; σ² δ²/2 more where it is off by δ."""
    least = 0.5 * S**2 / (S**2 + sigma**2)
    of = lambda model: score_matching_loss_at(model, DATA, np.full(4, sigma), NOISE)
    assert of(exact) == pytest.approx(least, rel=1e-12)
    assert of(lambda x, s: exact(x, s) + 0.3) == pytest.approx(least + (sigma * 0.3) ** 2 / 2, rel=1e-12)
    wide = np.repeat(DATA, 3, axis=1), np.full(4, sigma), np.repeat(NOISE, 3, axis=1)
    assert score_matching_loss_at(exact, *wide) == pytest.approx(3 * least, rel=1e-12)


def test_the_excess_over_the_floor_is_the_error_of_the_score():
    """For a mixture: the loss is its floor (`Mixture.eps_floor`) and σ²/2 E|s - s*|²."""
    data, sigma, n = ring(), 0.3, 200_000
    noisy, rng = data.diffuse(1.0, sigma), np.random.default_rng(0)
    x, eps = data.sample(n, rng), rng.standard_normal((n, 2))
    of = lambda model: float(score_matching_loss_at(model, x, np.full(n, sigma), eps))
    best = lambda x, s: noisy.score(x)
    assert of(best) == pytest.approx(data.eps_floor(1.0, sigma), rel=0.01)
    tilt = lambda x, s: noisy.score(x) + 0.5 * np.tanh(x)
    extra = sigma**2 / 2 * np.mean(np.sum((0.5 * np.tanh(x + sigma * eps)) ** 2, axis=1))
    assert of(tilt) - of(best) == pytest.approx(extra, abs=4e-4)


def test_the_loss_is_a_mean_over_the_levels():
    """All levels equally often: 4 σ for each, of 20,000 points. In float32, with a level for each point."""
    seen = []
    x = np.zeros((20_000, 2), np.float32)
    loss = score_matching_loss(lambda x, sigma: seen.append(sigma) or x, x, LEVELS, rng=0)
    assert loss.dtype == seen[0].dtype == np.float32
    levels, counts = np.unique(seen[0], return_counts=True)
    np.testing.assert_array_equal(levels, np.sort(LEVELS).astype(np.float32))
    np.testing.assert_allclose(counts, 4000, atol=4 * np.sqrt(3200))
    again = score_matching_loss(lambda x, sigma: x, x, LEVELS, rng=np.random.default_rng(0))
    assert again == loss


def test_the_loss_is_differentiable():
    w = Tensor(np.array(0.3), requires_grad=True)
    score_matching_loss_at(lambda x, sigma: x * w, DATA, np.full(4, 0.5), NOISE).backward()
    noisy = DATA + 0.5 * NOISE
    expected = np.mean(0.5 * noisy * (0.5 * 0.3 * noisy + NOISE))
    assert w.grad == pytest.approx(expected, rel=1e-12)


def test_pictures_have_a_level_each():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    loss = score_matching_loss_at(lambda x, sigma: 0 * x, x, np.array([1.0, 2.0]), np.ones_like(x))
    assert loss == pytest.approx(12 / 2)


# -- the sampler -----------------------------------------------------------------------------------


def test_steps_by_hand():
    levels = np.array([2.0, 1.0])
    rng, score = np.random.default_rng(3), lambda x, sigma: -x / sigma[:, None]
    x, states = np.ones((4, 1)), list(annealed_langevin(score, np.ones((4, 1)), levels, 2, 0.1, rng=3))
    for state, (sigma, alpha) in zip(states, [(2, 0.4), (2, 0.4), (1, 0.1), (1, 0.1)], strict=True):
        x = x - alpha / 2 * x / sigma + np.sqrt(alpha) * rng.standard_normal((4, 1))
        np.testing.assert_allclose(state, x, rtol=1e-12)


class Signs(np.random.Generator):
    """Draws that are ±1, independent of the state in SIGNS: the second column."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype=np.float64):
        return NOISE.astype(dtype)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
def test_the_stationary_distribution_of_gaussian_data(alpha):
    """If x has the mean m and the variance v / (1 - α/(4 v)), v = s² + σ², then one step leaves both as they
    are. A smaller variance grows, a larger one falls."""
    sigma = 0.3
    v = S**2 + sigma**2
    rest = v / (1 - alpha / (4 * v))
    for factor, moves in ((1.0, 0), (0.9, 1), (1.1, -1)):
        x = M + np.sqrt(factor * rest) * SIGNS[:, :1]
        after = langevin_step(exact, x, sigma, alpha, rng=Signs())
        assert after.mean() == pytest.approx(M, rel=1e-12)
        change = after.var() - factor * rest
        assert abs(change) < 1e-12 if moves == 0 else np.sign(change) == moves


def test_annealing_of_gaussian_data():
    """Mean and variance after all levels, from the recursions of both: ρ = 1 - α/(2 v) multiplies the
    distance from m, the variance becomes ρ² var + α. With 100,000 points, within 4 standard errors."""
    x = np.random.default_rng(0).standard_normal((100_000, 1)) * 2
    found = last_state(annealed_langevin(exact, x, LEVELS, 10, 0.005, rng=1))
    mean, variance = 0.0, 4.0
    for sigma in LEVELS:
        v, alpha = S**2 + sigma**2, 0.005 * (sigma / 0.1) ** 2
        for _ in range(10):
            rho = 1 - alpha / (2 * v)
            mean, variance = M + rho * (mean - M), rho**2 * variance + alpha
    assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 1e5))
    assert found.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / 1e5))


def test_all_modes_are_found_with_the_exact_score():
    """The ring of eight by its exact score: each mode has its share, which Langevin dynamics at the last
    level alone would not find from one place."""
    data = ring()
    score = lambda x, sigma: data.diffuse(1.0, sigma[0]).score(x)
    count = lambda x: np.bincount(
        np.argmin(np.sum((x[:, None] - data.means) ** 2, axis=2), axis=1), minlength=8
    )
    levels, start = noise_levels(3.0, 0.05, 8), np.full((2000, 2), 1.0)
    found = last_state(annealed_langevin(score, start, levels, 15, 0.001, rng=0))
    np.testing.assert_allclose(count(found), 250, atol=4.5 * np.sqrt(250 * 7 / 8))
    alone = last_state(annealed_langevin(score, start, levels[-2:], 60, 0.001, rng=0))
    assert count(alone).max() > 1900


def test_it_records_nothing_and_keeps_the_dtype(monkeypatch):
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    weight = Tensor(np.eye(2, dtype=np.float32), requires_grad=True)
    states = annealed_langevin(lambda x, s: x @ weight, np.ones((3, 2), np.float32), LEVELS, 2, 0.01, rng=0)
    for x in states:
        assert type(x) is np.ndarray
        assert x.dtype == np.float32
    assert not recorded


# -- bad input -------------------------------------------------------------------------------------


def test_what_is_refused():
    x, model = np.ones((3, 2)), lambda x, sigma: x
    with pytest.raises(TypeError, match="noise is added to floats"):
        score_matching_loss_at(model, np.ones((3, 2), int), np.ones(3), x)
    for sigma, message in ((np.ones(2), "one level for each"), (np.array([1.0, 0, 1]), "above 0, got 0")):
        with pytest.raises(ValueError, match=message):
            score_matching_loss_at(model, x, sigma, x)
    with pytest.raises(ValueError, match="eps must have one number"):
        score_matching_loss_at(model, x, np.ones(3), x[:, :1])
    with pytest.raises(ValueError, match="a score must keep the shape"):
        score_matching_loss_at(lambda x, sigma: x[:, :1], x, np.ones(3), x)
    with pytest.raises(ValueError, match="a score must keep the shape"):
        langevin_step(lambda x, sigma: x[:, :1], x, 1.0, 0.1, rng=0)
    for largest, smallest, count in ((1.0, 1.0, 3), (1.0, 0.0, 3), (2.0, 1.0, 1)):
        with pytest.raises(ValueError, match=r"levels fall|at least 2"):
            noise_levels(largest, smallest, count)
    for sigma, alpha in ((0.0, 0.1), (1.0, 0.0)):
        with pytest.raises(ValueError, match="must be above 0"):
            langevin_step(model, x, sigma, alpha, rng=0)
    for levels in (LEVELS[::-1], np.array([2.0, 1.0, 1.0]), np.array([2.0, 2.5])):
        with pytest.raises(ValueError, match="levels must fall"):
            next(annealed_langevin(model, x, levels, 2, 0.1, rng=0))
    assert len(list(annealed_langevin(model, x, LEVELS, 1, 0.1, rng=0))) == len(LEVELS)  # one step is enough
    with pytest.raises(ValueError, match="steps must be at least 1"):
        next(annealed_langevin(model, x, LEVELS, 0, 0.1, rng=0))

"""Random linear functions: the best answers against brute force, ridge regression, the pseudo-inverse, and
closed forms of the least error."""

import numpy as np
import pytest

from tinygen.data.linear_functions import LinearFunctions

NOISES = (0.0, 1e-3, 0.5, 2.0)


@pytest.mark.parametrize("noise", [0.5, 2.0])
@pytest.mark.parametrize("pairs", [0, 1, 4])
def test_the_posterior_against_a_sum_over_weights(noise, pairs):
    """Bayes' rule on a grid of weights in the plane: prior times likelihood, and its moments."""
    x, y = LinearFunctions(2, noise).sample(1, pairs, rng=3)
    line = np.linspace(-7, 7, 561)
    w = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    log_p = -np.sum(w**2, axis=1) / 2 - np.sum((y[0] - w @ x[0].T) ** 2, axis=1) / (2 * noise**2)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean, covariance = LinearFunctions(2, noise).posterior(x, y)
    np.testing.assert_allclose(mean[0], p @ w, atol=1e-9)
    np.testing.assert_allclose(covariance[0], (w - p @ w).T @ (p[:, None] * (w - p @ w)), atol=1e-9)


@pytest.mark.parametrize("noise", NOISES[1:])
@pytest.mark.parametrize("pairs", [1, 3, 4, 9])
def test_with_noise_it_is_ridge_regression(noise, pairs):
    x, y = LinearFunctions(4, noise).sample(6, pairs, rng=0)
    mean, covariance = LinearFunctions(4, noise).posterior(x, y)
    for each in range(6):
        inverse = np.linalg.inv(x[each].T @ x[each] + noise**2 * np.eye(4))
        np.testing.assert_allclose(mean[each], inverse @ x[each].T @ y[each], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(covariance[each], noise**2 * inverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pairs", [1, 3, 4, 9])
def test_without_noise_it_is_the_pseudo_inverse(pairs):
    """Least squares, of minimum norm; what the pairs do not show keeps the variance 1. From D pairs on, the
    weights are known."""
    x, y = LinearFunctions(4).sample(6, pairs, rng=1)
    mean, covariance = LinearFunctions(4).posterior(x, y)
    for each in range(6):
        inverse = np.linalg.pinv(x[each])
        np.testing.assert_allclose(mean[each], inverse @ y[each], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(covariance[each], np.eye(4) - inverse @ x[each], atol=1e-10)


def test_noise_toward_0():
    x, y = LinearFunctions(4).sample(5, 7, rng=2)
    exact, small = (LinearFunctions(4, noise).predictions(x, y) for noise in (0.0, 1e-6))
    np.testing.assert_allclose(small[0], exact[0], atol=1e-8)
    np.testing.assert_allclose(small[1], exact[1], atol=1e-8)


@pytest.mark.parametrize("turned", [False, True])
def test_directions_that_are_missing_or_repeated(turned):
    """Inputs in a plane of four dimensions, and the same input twice: nothing is divided by 0, nor by the
    rounding error that stands for it when the plane lies obliquely."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0] if turned else np.eye(4)
    x = np.zeros((1, 6, 4))
    x[0, :, :2] = rng.standard_normal((6, 2))
    x[0, 1] = x[0, 0]
    w = np.array([1.0, -2.0, 3.0, 4.0])
    mean, covariance = LinearFunctions(4).posterior(x @ turn, x @ w)
    np.testing.assert_allclose(mean, [turn.T @ [1, -2, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(covariance[0], turn.T @ np.diag([0, 0, 1, 1]) @ turn, atol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
def test_predictions_use_the_pairs_before_them(noise):
    f = LinearFunctions(3, noise)
    x, y = f.sample(4, 6, rng=4)
    means, variances = f.predictions(x, y)
    np.testing.assert_array_equal(means[:, 0], 0)
    np.testing.assert_allclose(variances[:, 0], np.sum(x[:, 0] ** 2, axis=1) + noise**2)
    for k in range(6):
        mean, covariance = f.posterior(x[:, :k], y[:, :k])
        np.testing.assert_allclose(means[:, k], [w @ q for w, q in zip(mean, x[:, k], strict=True)])
        wanted = [q @ c @ q + noise**2 for q, c in zip(x[:, k], covariance, strict=True)]
        np.testing.assert_allclose(variances[:, k], wanted, atol=1e-12)
    changed, later = x.copy(), y.copy()
    changed[:, 4:], later[:, 3:] = 9.0, -9.0
    np.testing.assert_array_equal(f.predictions(changed, later)[0][:, :4], means[:, :4])


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_error_of_the_best_answers(noise):
    """The mean squared error on prompts is the mean variance, and `best_errors`, within 4 standard errors."""
    f = LinearFunctions(3, noise)
    x, y = f.sample(20_000, 6, rng=5)
    means, variances = f.predictions(x, y)
    squares = (means - y) ** 2
    spread = squares.std(axis=0) / np.sqrt(len(x))
    best, error = f.best_errors(6, 4000, rng=6)
    assert np.all(abs(squares.mean(axis=0) - variances.mean(axis=0)) <= 4 * spread + 1e-12)
    assert np.all(abs(variances.mean(axis=0) - best) <= 4 * (spread + error) + 1e-12)


def test_without_noise_each_pair_tells_one_direction():
    best, error = LinearFunctions(5).best_errors(8, 50, rng=0)
    np.testing.assert_allclose(best, [5, 4, 3, 2, 1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(error, 0, atol=1e-9)


def test_one_pair_with_noise_in_one_dimension():
    """E[σ² / (x² + σ²)] + σ² over x ~ N(0, 1), by a sum over a fine grid."""
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    wanted = np.sum(density * 0.25 / (x * x + 0.25)) * (x[1] - x[0]) + 0.25
    best, error = LinearFunctions(1, 0.5).best_errors(2, 20_000, rng=1)
    assert best[0] == 1.25
    assert error[0] == 0
    assert abs(best[1] - wanted) <= 4 * error[1]
    assert 0 < error[1] < 0.01


def test_samples():
    """The moments of x and y, and a new function in each prompt."""
    f = LinearFunctions(3, 0.5)
    x, y = f.sample(20_000, 2, rng=7)
    assert x.shape == (20_000, 2, 3)
    assert y.shape == (20_000, 2)
    assert np.mean(y**2) == pytest.approx(3.25, abs=0.1)
    assert np.mean(y[:, 0] * y[:, 1]) == pytest.approx(0, abs=0.1)
    np.testing.assert_allclose(np.cov(x[:, 0].T), np.eye(3), atol=0.05)
    same = np.broadcast_to(x[:1, :1], (4, 2, 3))
    exact = LinearFunctions(3).answer(same, rng=0)
    np.testing.assert_array_equal(exact[:, 0], exact[:, 1])
    assert len(np.unique(exact[:, 0])) == 4
    np.testing.assert_array_equal(f.sample(3, 2, rng=1)[1], f.sample(3, 2, rng=np.random.default_rng(1))[1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearFunctions(0), "at least 1 dimension, got 0"),
        (lambda: LinearFunctions(2, -0.1), "at least 0, got -0.1"),
        (lambda: LinearFunctions(2, float("nan")), "at least 0, got nan"),
        (lambda: LinearFunctions(2).answer(np.zeros((4, 2)), rng=0), r"x must be \(n, K, 2\), got \(4, 2\)"),
        (lambda: LinearFunctions(2).posterior(np.zeros((4, 2, 3)), np.zeros((4, 2))), r"got \(4, 2, 3\)"),
        (
            lambda: LinearFunctions(2).posterior(np.zeros((4, 3, 2)), np.zeros((4, 2))),
            r"y must be \(4, 3\), one for each x, got \(4, 2\)",
        ),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()

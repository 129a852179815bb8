"""Flow matching on data whose velocity field has a closed form.

For data N(m, s²) x_t is N(t m, a_t²) with a_t² = (1 - t)² + t² s², and the mean velocity of the lines through
x is m + (t s² - (1 - t))/a_t² (x - t m). The solution that starts in ε is t m + a_t ε. All of this is affine
in (x_1, ε), so four points with the moments of both give expectations exactly."""

import math

import numpy as np
import pytest

from tinygen import Tensor, tape
from tinygen.data.mixtures import Mixture
from tinygen.diffusion import (
    euler,
    flow_log_prob,
    flow_matching_loss,
    flow_matching_loss_at,
    last_state,
    midpoint,
)
from tinygen.diffusion.flow_matching import point_on_path, velocity_and_divergence

M, S = 1.5, 0.4
SIGNS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # mean 0, covariance 1
DATA, NOISE = M + S * SIGNS[:, :1], SIGNS[:, 1:]


def spread(t):
    """The variance a_t² of x_t."""
    return (1 - t) ** 2 + t**2 * S**2


def exact(x, t):
    """The velocity field of data N(M, S²), for any number of coordinates."""
    t = t[:, None]
    return M + (t * S**2 - (1 - t)) / spread(t) * (x - t * M)


# -- path and loss ---------------------------------------------------------------------------------


def test_the_path_by_hand():
    x1, eps = np.array([[[8.0]], [[2.0]]]), np.array([[[0.0]], [[-2.0]]])
    np.testing.assert_array_equal(point_on_path(x1, np.array([0.25, 0.5]), eps), [[[2.0]], [[0.0]]])
    np.testing.assert_array_equal(point_on_path(x1, 0.0, eps), eps)
    np.testing.assert_array_equal(point_on_path(x1, 1.0, eps), x1)
    assert point_on_path(x1.astype(np.float32), 0.3, eps.astype(np.float32)).dtype == np.float32


def test_the_path_of_gaussian_data():
    for t in (0.1, 0.5, 0.9):
        x = point_on_path(DATA, t, NOISE)
        np.testing.assert_allclose([x.mean(), x.var()], [t * M, spread(t)], rtol=1e-14)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 1.0])
def test_the_least_loss_of_gaussian_data(t):
    """s²/a_t², where the velocity is the mean of the lines; by δ² more where it is off by δ."""
    loss = lambda model: flow_matching_loss_at(model, DATA, np.full(4, t), NOISE)
    least = S**2 / spread(t)
    np.testing.assert_allclose(loss(exact), least, rtol=1e-13)
    np.testing.assert_allclose(loss(lambda x, t: exact(x, t) + 0.1), least + 0.01, rtol=1e-13)
    tilted = loss(lambda x, t: exact(x, t) + 0.1 * (x - t[:, None] * M))
    np.testing.assert_allclose(tilted, least + 0.01 * spread(t), rtol=1e-13)


def test_the_least_loss_over_all_times():
    """∫ s²/a_t² dt = π s/2: by Gauss's quadrature, and of drawn times and noise within four standard errors
    of it."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = (nodes + 1) / 2
    losses = [flow_matching_loss_at(exact, DATA, np.full(4, time), NOISE) for time in t]
    np.testing.assert_allclose(np.sum(weights / 2 * losses), math.pi * S / 2, rtol=1e-12)
    rng = np.random.default_rng(0)
    x1 = M + S * rng.standard_normal((200, 100, 1))
    drawn = [flow_matching_loss(exact, batch, rng=rng) for batch in x1]
    assert abs(np.mean(drawn) - math.pi * S / 2) < 4 * np.std(drawn) / math.sqrt(len(drawn))


def test_the_loss_is_the_squared_error_of_the_velocity():
    x1, eps = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [1.0, -2.0]])
    t = np.array([0.5, 0.25])
    seen = []

    def model(x, times):
        seen.append((x, times))
        return Tensor(np.zeros((2, 2)), requires_grad=True)

    loss = flow_matching_loss_at(model, x1, t, eps)
    assert loss.item() == (4 + 0 + 1 + 16) / 4
    np.testing.assert_array_equal(seen[0][0], point_on_path(x1, t, eps))
    np.testing.assert_array_equal(seen[0][1], t)
    assert loss.requires_grad


def test_a_seed_is_enough():
    x1 = np.ones((5, 2), np.float32)
    model = lambda x, t: x * t[:, None]
    assert flow_matching_loss(model, x1, rng=3) == flow_matching_loss(model, x1, rng=np.random.default_rng(3))
    assert flow_matching_loss(model, x1, rng=3).dtype == np.float32


def test_each_point_has_a_time_of_its_own():
    seen = []
    flow_matching_loss(lambda x, t: seen.append(t) or x, np.ones((1000, 2)), rng=0)
    assert len(np.unique(seen[0])) == 1000
    np.testing.assert_allclose(np.histogram(seen[0], 5, (0, 1))[0], 200, atol=4 * math.sqrt(160))


# -- samplers --------------------------------------------------------------------------------------


def test_two_steps_by_hand():
    """dx/dt = x + t from 1: Euler 1.5, 2.5; midpoint 1 + (1.25 + 0.25)/2, and so on."""
    field = lambda x, t: x + t[:, None]
    x = np.ones((1, 1))
    assert [state.item() for state in euler(field, x, 2)] == [1.5, 1.5 + (1.5 + 0.5) / 2]
    first = 1 + (1.25 + 0.25) / 2
    middle = first + (first + 0.5) / 4
    assert [state.item() for state in midpoint(field, x, 2)] == [first, first + (middle + 0.75) / 2]
    assert x == 1


@pytest.mark.parametrize("solver", [euler, midpoint])
def test_straight_flows_need_one_step(solver):
    """Data that is one point: every line ends there, and none is bent."""
    point = np.array([[2.0, -1.0]])
    field = lambda x, t: (point - x) / (1 - t[:, None])
    noise = np.random.default_rng(0).standard_normal((5, 2))
    for steps in (1, 7):
        np.testing.assert_allclose(
            last_state(solver(field, noise, steps)), np.repeat(point, 5, axis=0), atol=1e-12
        )


ERRORS = {euler: (0.09, 1), midpoint: (0.002, 2)}
"""The part of the standard deviation that 20 steps miss at most; the order."""


@pytest.mark.parametrize("solver", ERRORS)
def test_mean_and_variance_of_the_samples(solver):
    """The mean is exact: along it the flow is straight. The standard deviation is off by the error of the
    solver: with 20 steps by 8 % and by 0.1 %."""
    x = last_state(solver(exact, SIGNS, 20))
    np.testing.assert_allclose(x.mean(axis=0), M, rtol=1e-13)
    np.testing.assert_allclose(x.std(axis=0), S, atol=ERRORS[solver][0] * S)


@pytest.mark.parametrize("solver", ERRORS)
def test_all_states_lie_on_the_solution(solver):
    """Not the last state only: t m + a_t ε at every t."""
    n = 400
    for k, x in enumerate(solver(exact, NOISE, n), 1):
        t = k / n
        np.testing.assert_allclose(x, t * M + math.sqrt(spread(t)) * NOISE, atol=3e-3)
    assert k == n


def orders(solver, field, x, solution):
    """log2 of the errors' ratios at time 1, where the number of steps is doubled."""
    error = [np.abs(last_state(solver(field, x, n)) - solution).max() for n in (40, 80, 160)]
    return np.log2(np.array(error[:-1]) / error[1:])


@pytest.mark.parametrize("solver", ERRORS)
def test_the_orders_of_the_solvers(solver):
    """Twice as many steps divide the error by 2, or by 4; here for dx/dt = x + t."""
    growth = orders(solver, lambda x, t: x + t[:, None], np.ones((1, 1)), 2 * math.e - 2)
    np.testing.assert_allclose(growth, ERRORS[solver][1], atol=0.05)


def test_the_orders_for_gaussian_data():
    """The midpoint method is better than its order. With λ = a'/a, a_t the standard deviation of x_t, the
    error of one step begins with (λ'' + 6 λ λ' + 4 λ³) h³/24, which is 0, as a_t² is a parabola in t."""
    np.testing.assert_allclose(orders(euler, exact, NOISE, M + S * NOISE), 1, atol=0.1)
    np.testing.assert_allclose(orders(midpoint, exact, NOISE, M + S * NOISE), 3, atol=0.05)


def test_samplers_record_nothing_and_keep_the_dtype(monkeypatch):
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    weight = Tensor(np.ones((2, 2), np.float32), requires_grad=True)
    for solver in (euler, midpoint):
        x = last_state(solver(lambda x, t: x @ weight, np.ones((3, 2), np.float32), 3))
        assert type(x) is np.ndarray
        assert x.dtype == np.float32
    assert not recorded


# -- likelihood ------------------------------------------------------------------------------------

MEAN, COVARIANCE = np.array([1.0, -0.5]), np.array([[0.5, 0.3], [0.3, 0.4]])


def correlated(x, t):
    """The velocity field of data N(MEAN, COVARIANCE), at one time: E[x_1 - ε | x_t] by conditioning."""
    t = t[0]
    variance = (1 - t) ** 2 * np.eye(2) + t**2 * COVARIANCE
    return MEAN + (x - t * MEAN) @ np.linalg.solve(variance, t * COVARIANCE - (1 - t) * np.eye(2))


def log_gaussian(x):
    away = x - MEAN
    squares = np.sum(away * np.linalg.solve(COVARIANCE, away.T).T, axis=1)
    return -0.5 * (squares + np.log(np.linalg.det(2 * math.pi * COVARIANCE)))


def test_the_divergence_is_the_trace_of_the_jacobian():
    matrix = np.array([[1.0, 2.0, 0.0], [-3.0, 4.0, 1.0], [5.0, 0.0, 0.5]])
    x = np.random.default_rng(0).standard_normal((6, 3))
    v, divergence = velocity_and_divergence(lambda x, t: np.sin(x) @ matrix, x, 0.3)
    np.testing.assert_array_equal(v, np.sin(x) @ matrix)
    np.testing.assert_allclose(divergence, np.cos(x) @ np.diag(matrix), rtol=1e-13)


def test_the_likelihood_of_gaussian_data():
    """Equal to the Gaussian's up to the solver's error, which is of order 2."""
    x = MEAN + np.random.default_rng(0).standard_normal((20, 2)) @ np.linalg.cholesky(COVARIANCE).T
    off = [np.abs(flow_log_prob(correlated, x, n) - log_gaussian(x)).max() for n in (25, 50, 100)]
    assert off[-1] < 2e-3
    np.testing.assert_allclose(np.log2(np.array(off[:-1]) / off[1:]), 2, atol=0.2)


def test_the_likelihood_of_a_mixture():
    """A field that is not affine: E[x_1 - ε | x_t] = (E[x_1 | x_t] - x_t)/(1 - t), since ε is
    (x_t - t x_1)/(1 - t)."""
    mixture = Mixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [0.5, 0.6])

    def field(x, t):
        return (mixture.x0(x, t[0], 1 - t[0]) - x) / (1 - t[0]) if t[0] < 1 else at_the_data(x)

    def at_the_data(x):
        """The limit at t = 1: E[ε | x_1] = 0."""
        return x + 0.0

    x = mixture.sample(30, np.random.default_rng(0))
    off = [np.abs(flow_log_prob(field, x, n) - mixture.log_density(x)).max() for n in (30, 60, 120)]
    assert off[-1] < 5e-3
    assert off[0] / off[1] > 3
    assert off[1] / off[2] > 3


def test_the_density_integrates_to_1():
    """Whatever the field: it only moves probability."""
    field = lambda x, t: np.sin(2 * x[:, ::-1]) + 0.5 * t[:, None] * x
    axis = np.linspace(-9, 9, 61)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.sum(np.exp(flow_log_prob(field, grid, 20))) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1, atol=5e-3)


# -- bad input -------------------------------------------------------------------------------------

X = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: point_on_path(X.astype(int), 0.5, X), TypeError, "a flow is of floats, got int64"),
        (lambda: point_on_path(X, 0.5, X[:1]), ValueError, r"each of x1 \(3, 2\), got shape \(1, 2\)"),
        (lambda: point_on_path(X, np.zeros(2), X), ValueError, r"each of x1 \(3, 2\), got shape \(2,\)"),
        (lambda: point_on_path(X, 1.5, X), ValueError, r"within 0 \(noise\) .. 1 \(data\), got 1.5 .. 1.5"),
        (lambda: point_on_path(X, np.array([0, np.nan, 1]), X), ValueError, "got nan .. nan"),
        (lambda: point_on_path(X, -0.1, X), ValueError, "got -0.1"),
        (lambda: last_state(euler(exact, X, 0)), ValueError, "steps must be at least 1, got 0"),
        (lambda: last_state(midpoint(exact, X, -1)), ValueError, "steps must be at least 1, got -1"),
        (lambda: flow_log_prob(exact, X, 0), ValueError, "steps must be at least 1, got 0"),
        (lambda: flow_log_prob(exact, X[0], 5), ValueError, r"points \(B, D\), got shape \(2,\)"),
        (
            lambda: last_state(euler(lambda x, t: x[:, :1], X, 2)),
            ValueError,
            r"the model made \(3, 1\) of x \(3, 2\)",
        ),
        (lambda: flow_log_prob(lambda x, t: x[:1], X, 2), ValueError, r"the model made \(1, 2\)"),
    ],
)
def test_bad_input_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()

"""Kernel density estimation: it is a density, and scikit-learn's; the bandwidth of the highest likelihood is
an optimum, in closed form where there is one; memory has the bound that is stated."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.density import GaussianKDE
from tinygen.density.kernel import (
    BLOCK,
    best_bandwidth,
    distances_to_others,
    leave_one_out,
    root,
    squared_distances,
)


def rows(n, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim))


# -- the density -------------------------------------------------------------------------------------


def test_one_row_is_one_gaussian():
    x = rows(6, 3)
    found = GaussianKDE(0.7).fit(np.zeros((1, 3))).score_samples(x)
    expected = -0.5 * np.sum(x**2, axis=1) / 0.49 - 1.5 * np.log(2 * np.pi * 0.49)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("bandwidth", [0.3, "scott", "silverman", "likelihood"])
def test_it_integrates_to_1(bandwidth):
    """A sum over a grid: for Gaussians as good as exact, where the step is at most their width."""
    line = GaussianKDE(bandwidth).fit(rows(15, 1))
    step = line.bandwidth_ / 2
    grid = np.arange(-12, 12, step)
    assert step * np.exp(line.score_samples(grid[:, None])).sum() == pytest.approx(1, abs=1e-12)
    plane = GaussianKDE(bandwidth).fit(rows(10, 2))
    step = plane.bandwidth_
    grid = np.arange(-9, 9, step)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    assert step**2 * np.exp(plane.score_samples(points)).sum() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("bandwidth", [0.05, 0.8, 20.0, "scott", "silverman"])
@pytest.mark.parametrize(("n", "dim", "away"), [(40, 1, 0), (60, 5, 0), (60, 3, 1e5), (30, 64, 0)])
def test_parity_with_scikit_learn(bandwidth, n, dim, away):
    """Far from 0, too: there |x|² + |y|² - 2 x·y would lose half of the digits."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    x, new = rows(n, dim) + away, 1.5 * rows(50, dim, 1) + away
    ours, theirs = GaussianKDE(bandwidth).fit(x), neighbors.KernelDensity(bandwidth=bandwidth).fit(x)
    assert ours.bandwidth_ == pytest.approx(theirs.bandwidth_, rel=1e-14)
    # Where ln p is large, as with 5 % of the width, the limit is for its size.
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-13, atol=1e-10)


def test_rules():
    x = rows(100, 3)
    assert GaussianKDE("scott").fit(x).bandwidth_ == pytest.approx(100 ** (-1 / 7), rel=1e-15)
    assert GaussianKDE("silverman").fit(x).bandwidth_ == pytest.approx((4 / 500) ** (1 / 7), rel=1e-15)


def test_far_from_all_rows_it_is_finite():
    found = GaussianKDE(1e-3).fit(rows(5, 2)).score_samples([[1e3, 1e3]])
    assert -1e13 < found[0] < -1e11


def test_samples_are_rows_with_noise():
    """Of moments, which are known: the mean of the rows, and their covariance plus h²."""
    x, n = rows(4, 2), 40_000
    drawn = GaussianKDE(0.5).fit(x).sample(n, rng=0)
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=5 * 1.5 / np.sqrt(n))
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T, ddof=0) + 0.25 * np.eye(2), atol=0.06)
    close = GaussianKDE(1e-9).fit(x).sample(200, rng=0)
    assert all(np.abs(x - row).max(axis=1).min() < 1e-8 for row in close)


@pytest.mark.parametrize("bandwidth", [0, -1.0, np.inf, np.nan, None])
def test_a_bandwidth_that_is_none(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be a finite number above 0, got"):
        GaussianKDE(bandwidth)


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="'scott', 'silverman' or 'likelihood', got 'best'"):
        GaussianKDE("best")


# -- memory ------------------------------------------------------------------------------------------


def test_blocks_are_all_of_the_distances():
    x, y = rows(7, 3), rows(BLOCK // 2, 3, 1)
    blocks = list(squared_distances(x, y))
    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    expected = np.square(x[:, None] - y[:100]).sum(axis=-1)
    np.testing.assert_allclose(np.concatenate(blocks)[:, :100], expected, rtol=1e-14)


def test_memory_does_not_grow_with_the_rows_to_judge():
    """All distances at once would be 2,000 × 5,000 numbers, 80 MB."""
    model, x = GaussianKDE(0.5).fit(rows(5_000, 1)), rows(2_000, 1, 1)
    tracemalloc.start()
    model.score_samples(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 6 * BLOCK


# -- the bandwidth of the highest likelihood ---------------------------------------------------------


def by_definition(x, h):
    """L(h), row by row."""
    total = 0.0
    for i, row in enumerate(x):
        rest = np.delete(x, i, axis=0)
        kernels = np.exp(-np.square(rest - row).sum(axis=1) / (2 * h * h))
        total += np.log(kernels.mean() / (2 * np.pi * h * h) ** (x.shape[1] / 2))
    return total / len(x)


@pytest.mark.parametrize("h", [0.4, 1.0, 3.0])
def test_leave_one_out_by_its_definition(h):
    x = rows(20, 3)
    assert leave_one_out(distances_to_others(x), 3, h)[0] == pytest.approx(by_definition(x, h), rel=1e-13)


@pytest.mark.parametrize("h", [0.2, 1.0, 3.0])
def test_the_slope_is_the_derivative(h):
    x = rows(20, 3)
    value = lambda log: leave_one_out(distances_to_others(x), 3, np.exp(log))[0]
    numeric = (value(np.log(h) + 1e-5) - value(np.log(h) - 1e-5)) / 2e-5
    assert leave_one_out(distances_to_others(x), 3, h)[1] == pytest.approx(numeric, rel=1e-7)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_rows_at_equal_distances_have_a_closed_form(dim):
    """The corners of a simplex: all distances are c, and L is highest at h² = c²/D."""
    x = 3.0 * np.eye(dim + 1)  # c² = 18, in a space of dim + 1
    assert best_bandwidth(x) ** 2 == pytest.approx(18 / (dim + 1), rel=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 25), st.integers(1, 4), st.booleans())
def test_the_optimum_is_found(seed, n, dim, heavy):
    """The slope is 0 there, and nowhere on a dense grid is the likelihood higher; in another unit it is the
    same width."""
    x = rows(n, dim, seed)
    if heavy:
        x = np.sign(x) * np.exp(2 * np.abs(x))
    h = best_bandwidth(x)
    blocks = list(distances_to_others(x))
    value, slope = leave_one_out(blocks, dim, h)
    assert abs(slope) < 1e-9
    assert value >= max(leave_one_out(blocks, dim, g * h)[0] for g in np.geomspace(1e-2, 1e2, 61)) - 1e-12
    assert best_bandwidth(1e-3 * x) == pytest.approx(1e-3 * h, rel=1e-9)


@pytest.mark.parametrize(("apart", "expected"), [(0.003, 0.003), (0.004, 0.07456)])
def test_of_two_optima_the_highest(apart, expected):
    """Forty pairs in a row: one maximum has the width of a pair, one spans several of them. The closer the
    rows of a pair, the higher is the first."""
    centers = np.arange(40)[:, None] / 40
    x = np.concatenate([centers, centers + apart])
    slopes = [
        leave_one_out(distances_to_others(x), 1, h)[1] for h in (apart / 1.1, apart * 1.1, 0.065, 0.085)
    ]
    assert [s > 0 for s in slopes] == [True, False, True, False]
    assert best_bandwidth(x) == pytest.approx(expected, rel=1e-4)


def test_it_agrees_with_an_optimizer():
    optimize = pytest.importorskip("scipy.optimize")
    x = rows(80, 2)
    blocks = list(distances_to_others(x))
    loss = lambda log: -leave_one_out(blocks, 2, np.exp(log))[0]
    found = optimize.minimize_scalar(loss, bounds=(-4, 2), method="bounded", options={"xatol": 1e-10})
    assert GaussianKDE().fit(x).bandwidth_ == pytest.approx(np.exp(found.x), rel=1e-6)


def test_distances_that_are_not_kept(monkeypatch):
    x = rows(30, 2)
    kept = best_bandwidth(x)
    monkeypatch.setattr("tinygen.density.kernel.HELD", 0)
    monkeypatch.setattr("tinygen.density.kernel.BLOCK", 100)
    assert best_bandwidth(x) == pytest.approx(kept, rel=1e-12)


def test_rows_that_all_occur_twice():
    x = rows(5, 2)
    with pytest.raises(ValueError, match="no maximum where each row occurs more than once"):
        GaussianKDE().fit(np.concatenate([x, x]))
    assert GaussianKDE().fit(np.concatenate([x, x[:4]])).bandwidth_ > 0
    with pytest.raises(ValueError, match="needs at least 2 rows, to leave one out, got 1"):
        GaussianKDE().fit(x[:1])


def test_a_root_of_a_crooked_function_takes_few_steps():
    """Of 2 - exp(x), from far to the right: without halving, one end would stay for hundreds of steps."""
    seen = []

    def f(x):
        seen.append(x)
        return 2 - np.exp(x)

    assert root(f, -9.0, 9.0, f(-9.0), f(9.0)) == pytest.approx(np.log(2), rel=1e-14)
    assert len(seen) < 60

"""Scaling laws: planted ones are found again, the objective's minimum is SciPy's, and the best sizes are
those of a search."""

import itertools

import numpy as np
import pytest

from tinygen.text import scaling_laws
from tinygen.text.scaling_laws import (
    PowerLaw,
    ScalingLaw,
    bootstrap_scaling_laws,
    fit_power_law,
    fit_scaling_law,
    isoflop_minimum,
)

LAW = ScalingLaw(E=2.2, A=60.0, B=300.0, alpha=0.55, beta=0.5)
N, D = (
    each.ravel() for each in np.meshgrid([2e3, 4e3, 8e3, 1.2e4, 2e4, 3e4, 6e4, 1e5], 2.0 ** np.arange(17, 22))
)


def measured(noise, seed=0):
    """Losses of 40 runs, with a relative noise."""
    return LAW.loss(N, D) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))


def objective(law, losses, delta=1e-3):
    """Hoffmann's, written out."""
    error = np.abs(np.log(law.E + law.A / N**law.alpha + law.B / D**law.beta) - np.log(losses))
    return np.sum(np.where(error <= delta, error**2 / 2, delta * error - delta**2 / 2))


def test_the_law_by_hand():
    law = ScalingLaw(1.0, 8.0, 27.0, 3.0, 1.5)
    assert law.loss(2, 9) == pytest.approx(1 + 1 + 1)
    np.testing.assert_allclose(law.loss([1, 2], [1, 1]), [36, 29])
    np.testing.assert_allclose(PowerLaw(8.0, -0.5, 1.0).loss([4, 16]), [5, 3])


@pytest.mark.parametrize("law", [LAW, ScalingLaw(1.7, 406.4, 410.7, 0.34, 0.28)])
def test_the_best_size_against_a_search(law):
    compute = np.array([1e10, 1e14])
    n, d = law.best_size(compute)
    np.testing.assert_allclose(6 * n * d, compute)
    for each, best in zip(compute, n, strict=True):
        sizes = best * np.exp(np.linspace(-1, 1, 2001))
        assert np.argmin(law.loss(sizes, each / (6 * sizes))) == 1000


def test_exact_losses_give_back_their_law():
    found = fit_scaling_law(N, D, LAW.loss(N, D))
    assert vars(found) == pytest.approx(vars(LAW), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_planted_exponents_within_5_percent(seed):
    """At a relative noise of 0.1 %, the spread of L from seed to seed."""
    found = fit_scaling_law(N, D, measured(1e-3, seed))
    assert found.alpha == pytest.approx(LAW.alpha, rel=0.05)
    assert found.beta == pytest.approx(LAW.beta, rel=0.05)
    assert abs(found.E / LAW.E - 1) < 0.01


def test_outliers_count_little():
    """Two runs of most tokens are 10 % too high. The exponents stay within 5 %, by squares they do not."""
    losses = measured(1e-3)
    losses[[34, 38]] *= 1.1
    huber, squares = (fit_scaling_law(N, D, losses, delta) for delta in (1e-3, 1.0))
    wanted = pytest.approx([LAW.alpha, LAW.beta], rel=0.05)
    assert [huber.alpha, huber.beta] == wanted
    assert [squares.alpha, squares.beta] != wanted


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_the_fit_is_a_minimum(noise):
    """A change of any parameter, or of two, makes the objective larger."""
    losses = measured(noise)
    found = fit_scaling_law(N, D, losses)
    least = objective(found, losses)
    for one, two in itertools.product(vars(found), repeat=2):
        for up in (0.99, 1.01):
            changed = {**vars(found), one: vars(found)[one] * 1.01}
            changed[two] *= up
            assert objective(ScalingLaw(**changed), losses) >= least * (1 - 1e-9)


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_the_fit_against_scipy(noise):
    """L-BFGS, from some of Hoffmann's starts, finds nothing lower, and the same law."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    losses = measured(noise, seed=1)

    def law(p):
        return ScalingLaw(np.exp(p[2]), np.exp(p[0]), np.exp(p[1]), p[3], p[4])

    found = fit_scaling_law(N, D, losses)
    ours = [np.log(found.A), np.log(found.B), np.log(found.E), found.alpha, found.beta]
    grid = [ours, *itertools.product([5], [5], [0.5], [0.5, 1.0], [0.5, 1.0])]
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12}
    with np.errstate(all="ignore"):  # L-BFGS tries exponents that overflow
        runs = [
            minimize(lambda p: 1e3 * objective(law(p), losses), p, method="L-BFGS-B", options=options)
            for p in grid
        ]
    best = min(run.fun for run in runs) / 1e3
    assert objective(found, losses) <= best * (1 + 1e-6)


def test_weights_are_repetitions():
    """A run that counts twice is in the table twice."""
    losses = measured(5e-3)
    counts = np.random.default_rng(0).integers(0, 3, len(N))
    x, y = scaling_laws.logarithms([N, D], losses)
    (found,) = scaling_laws.fit_powers(x, y, counts[None].astype(float), scaling_laws.starts(x, y), 1e-3)
    wanted = fit_scaling_law(*(np.repeat(each, counts) for each in (N, D, losses)))
    assert vars(scaling_laws.law_of(*found)) == pytest.approx(vars(wanted), rel=1e-4)


def test_intervals_of_a_bootstrap():
    """They hold the planted values, and are narrow; runs without noise have no spread."""
    laws = bootstrap_scaling_laws(N, D, measured(1e-3, seed=1), 60, rng=0)
    assert len(laws) == 60
    for name in ("E", "alpha", "beta"):
        values = [getattr(law, name) for law in laws]
        low, high = np.percentile(values, [2.5, 97.5])
        truth = getattr(LAW, name)
        assert low < truth < high
        assert high - low < 0.2 * truth
    exact = bootstrap_scaling_laws(N, D, LAW.loss(N, D), 5, rng=0)
    assert np.ptp([law.alpha for law in exact]) < 1e-6
    again = bootstrap_scaling_laws(N, D, measured(1e-3, seed=1), 60, rng=np.random.default_rng(0))
    assert again == laws
    few = bootstrap_scaling_laws(N[:7], D[::6], measured(1e-3)[:7], 3, rng=0)  # most draws have too few runs
    assert len(few) == 3


def test_a_power_law():
    compute = np.geomspace(1e10, 1e12, 9)
    planted = PowerLaw(30.0, -0.15, 2.1)
    found = fit_power_law(compute, planted.loss(compute))
    assert vars(found) == pytest.approx(vars(planted), rel=1e-6)
    noise = np.exp(1e-4 * np.random.default_rng(0).standard_normal(9))
    assert fit_power_law(compute, planted.loss(compute) * noise).b == pytest.approx(-0.15, rel=0.05)


def test_the_lowest_point_of_a_parabola():
    n = np.array([1e3, 2e3, 5e3, 9e3])
    size, loss = isoflop_minimum(n, 2.5 + 0.3 * (np.log(n) - np.log(3e3)) ** 2)
    assert size == pytest.approx(3e3)
    assert loss == pytest.approx(2.5)
    sizes = LAW.best_size(1e11)[0] * np.exp(np.linspace(-0.5, 0.5, 5))
    size, loss = isoflop_minimum(sizes, LAW.loss(sizes, 1e11 / (6 * sizes)))
    assert size == pytest.approx(float(LAW.best_size(1e11)[0]), rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fit_scaling_law(N[:5], D[:5], N[:5]),
            r"6 runs or more, .* got shapes \(5,\), \(5,\), \(5,\)",
        ),
        (lambda: fit_scaling_law(N, D[:9], N), r"got shapes \(40,\), \(9,\), \(40,\)"),
        (lambda: fit_scaling_law(N, D, 0 * N), "positive and finite"),
        (lambda: bootstrap_scaling_laws(N, D, N + np.inf, 3, rng=0), "positive and finite"),
        (lambda: fit_power_law([1, 2, 3], [1, 2, 3]), "4 runs or more"),
        (lambda: isoflop_minimum([1, 2], [1, 2]), r"3 models or more, got \(2,\) and \(2,\)"),
        (lambda: isoflop_minimum([1, 2, 4], [1, 2, 4]), "no lowest point"),
        (lambda: isoflop_minimum([1, 2, 3], [1, 3, 1]), "no lowest point"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

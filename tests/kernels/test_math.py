"""The mathematical functions of the compiled kernels, compared with float64, within the bounds in their
docstrings."""

import math

import numpy as np
import pytest

pytest.importorskip("numba")
compile_ = pytest.importorskip("tinygen.kernels.compiled.compile")

from numba import njit  # noqa: E402

from tinygen.kernels.compiled import math as kernels_math  # noqa: E402

compiled = njit(error_model="numpy", fastmath=compile_.IN_LANES)  # as a kernel is compiled


def over(function):
    """function of each entry of an array, as the kernels call it."""

    @compiled
    def run(x, y):
        for part in range(2):
            xs, ys = x[part::2], y[part::2]
            for i in range(xs.size):
                ys[i] = function(xs[i])

    def call(x):
        x = np.asarray(x, np.float32)
        y = np.empty_like(x)
        run(x, y)
        return y

    return call


@compile_.inner
def cdf(x):
    return kernels_math.normal_cdf(x, kernels_math.exp(np.float32(-0.5) * x * x))


def ndtr(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


N = 50_000
CASES = {  # the function, the truth, where, the bound on the relative error
    "exp": (kernels_math.exp, np.exp, (-87, 88.7), 1.2e-7),
    "exp near 0": (kernels_math.exp, np.exp, (-1, 1), 1.2e-7),
    "log": (kernels_math.log, np.log, (1.2e-38, 1e-30), 1.2e-7),
    "log near 1": (kernels_math.log, np.log, (0.5, 2), 1.2e-7),
    "log of large numbers": (kernels_math.log, np.log, (1, 1e38), 1.2e-7),
    "log of tiny numbers": (kernels_math.log, np.log, (1e-44, 1e-38), 1.2e-7),
    "log1p": (kernels_math.log1p, np.log1p, (0, 1), 2e-7),
    "log1p near 0": (kernels_math.log1p, np.log1p, (0, 1e-6), 2e-7),
    "sigmoid": (kernels_math.sigmoid, lambda x: 1 / (1 + np.exp(-x)), (-86, 30), 2e-7),
    "tanh": (kernels_math.tanh, np.tanh, (-12, 12), 4e-7),
    "tanh near 0": (kernels_math.tanh, np.tanh, (-0.7, 0.7), 4e-7),
    "normal cdf": (cdf, ndtr, (-5, 9), 1e-6),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case):
    function, truth, (low, high), bound = CASES[case]
    x = np.random.default_rng(0).uniform(low, high, N).astype(np.float32)
    true = truth(x.astype(np.float64))
    assert np.abs(over(function)(x) - true).max(where=true == 0, initial=0) == 0
    error = np.abs(over(function)(x) - true) / np.where(true == 0, 1, np.abs(true))
    assert error.max() <= bound


def test_normal_cdf_in_the_tail():
    x = np.linspace(-14, 14, N).astype(np.float32)
    assert np.abs(over(cdf)(x) - ndtr(x.astype(np.float64))).max() <= 3e-7


def test_limits():
    x = [np.nan, np.inf, -np.inf, 0, -1, 200, -200]
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(over(kernels_math.exp)(x)[[0, 1, 2, 3, 5, 6]], [nan, inf, 0, 1, inf, 0])
    np.testing.assert_array_equal(over(kernels_math.log)(x)[:5], [nan, inf, nan, -inf, nan])
    np.testing.assert_array_equal(over(kernels_math.tanh)(x)[[0, 1, 2, 3, 5, 6]], [nan, 1, -1, 0, 1, -1])
    np.testing.assert_array_equal(over(kernels_math.sigmoid)(x)[[0, 1, 2, 3, 5]], [nan, 1, 0, 0.5, 1])
    np.testing.assert_allclose(over(cdf)(x)[[1, 2, 3, 5, 6]], [1, 0, 0.5, 1, 0], atol=3e-7)


@compiled
def tops(x, y):
    for r in range(len(x)):
        y[r] = kernels_math.largest_entry(x[r])


def test_largest():
    x = np.random.default_rng(1).standard_normal((50, 37), dtype=np.float32)
    x[0], x[1, 5], x[2, 5], x[3] = -np.inf, np.inf, np.nan, -np.abs(x[3])
    y = np.empty(50, np.float32)
    tops(x, y)
    np.testing.assert_array_equal(y, x.max(axis=1))


def test_they_would_be_seen_to_be_wrong():
    wrong = over(compile_.inner(lambda x: kernels_math.exp(x) * np.float32(1 + 5e-7)))
    x = np.linspace(-1, 1, N).astype(np.float32)
    assert np.abs(wrong(x) / np.exp(x.astype(np.float64)) - 1).max() > 1.2e-7

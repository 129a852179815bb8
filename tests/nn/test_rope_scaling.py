"""Llama 3.1's slower rotations: each of the three ranges by hand, the ends."""

import numpy as np
import pytest

from tinygen import Tensor, nn

SCALING = nn.RopeScaling(factor=8.0, low=1.0, high=4.0, original_length=8192)


def test_each_range_by_hand():
    """Frequencies that go round 0.5, 1, 2.5, 4 and 100 times within the original length."""
    rounds = np.array([0.5, 1.0, 2.5, 4.0, 100.0])
    frequencies = 2 * np.pi * rounds / 8192
    half = (1 + 1 / 8) / 2  # in the middle between low and high
    expected = frequencies * [1 / 8, 1 / 8, half, 1, 1]
    np.testing.assert_allclose(SCALING.slow_down(frequencies), expected, rtol=1e-14)


def test_a_factor_of_one_changes_nothing():
    frequencies = np.random.default_rng(0).random(9)
    same = nn.RopeScaling(factor=1.0).slow_down(frequencies)
    np.testing.assert_allclose(same, frequencies, rtol=1e-15)


def test_rotary_turns_by_the_slower_frequencies():
    """Every pair starts as (1, 0): what comes out are the cosines and sines of t · frequency."""
    d, t = 8, 5
    x = np.concatenate([np.ones((t, d // 2)), np.zeros((t, d // 2))], axis=1)
    y = nn.rotary(Tensor(x), start=1000, base=5e5, scaling=SCALING).data
    angles = (1000 + np.arange(t))[:, None] * SCALING.slow_down(5e5 ** (-np.arange(0, d, 2) / d))
    np.testing.assert_allclose(y, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=1e-13)
    assert np.abs(y - nn.rotary(Tensor(x), start=1000, base=5e5).data).max() > 0.1


def test_scaled_products_depend_on_the_distance_only():
    q, k = (Tensor(np.random.default_rng(i).standard_normal((1, 1, 8))) for i in range(2))

    def product(m, n):
        return (nn.rotary(q, m, scaling=SCALING).data * nn.rotary(k, n, scaling=SCALING).data).sum()

    for distance in (-3, 0, 4):
        products = [product(n + distance, n) for n in (3, 10, 1000)]
        np.testing.assert_allclose(products, products[0], rtol=1e-10)


@pytest.mark.parametrize(
    "changes", [{"low": 4.0}, {"low": 0.0}, {"factor": 0.5}, {"original_length": 0}, {"high": float("nan")}]
)
def test_numbers_that_make_no_sense(changes):
    with pytest.raises(ValueError, match=r"0 < low < high, factor >= 1 and original_length >= 1 are needed"):
        nn.RopeScaling(**changes)


def test_the_least_numbers_that_make_sense():
    scaling = nn.RopeScaling(factor=1, low=1e-9, high=2e-9, original_length=1)
    np.testing.assert_array_equal(scaling.slow_down(np.array([1.0, 2.0])), [1.0, 2.0])

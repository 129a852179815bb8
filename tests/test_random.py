"""Draws from a categorical distribution."""

import numpy as np
import pytest

from tinygen.random import categorical


def test_frequencies():
    """Counts of 40,000 draws, each within 6 standard deviations."""
    p, n = np.array([0.1, 0.0, 0.6, 0.3]), 40_000
    counts = np.bincount(categorical(np.tile(p, (n, 1)), rng=0), minlength=4)
    assert np.all(np.abs(counts - n * p) <= 6 * np.sqrt(n * p * (1 - p)))


@pytest.mark.parametrize(("u", "wanted"), [(0.0, [1, 0]), (np.nextafter(1.0, 0.0), [2, 1])])
def test_an_index_of_probability_0_is_never_drawn(u, wanted):
    class Ends(np.random.Generator):
        def random(self, shape):
            return np.full(shape, u)

    probs = np.array([[0.0, 0.25, 0.75, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_array_equal(categorical(probs, rng=Ends(np.random.PCG64(0))), wanted)


def test_shapes_seeds_and_rows_that_are_not_normalized():
    probs = np.random.default_rng(0).random((2, 3, 5))
    drawn = categorical(probs, rng=3)
    assert drawn.shape == (2, 3)
    np.testing.assert_array_equal(drawn, categorical(7 * probs, rng=np.random.default_rng(3)))
    assert categorical([0.0, 1.0], rng=0) == 1

"""The empirical distribution: its samples are copies, and all other rows have probability 0."""

import numpy as np
import pytest

from tinygen.density import Empirical

X = np.array([[1.0, 2.0], [0.0, 3.0], [1.0, 2.0], [5.0, 5.0]])


def test_ln_p_is_the_share_of_a_row():
    model = Empirical().fit(X)
    np.testing.assert_allclose(model.score_samples(X[:3]), np.log([0.5, 0.25, 0.5]), rtol=1e-15)
    np.testing.assert_allclose(model.score_samples([[-0.0, 3.0]]), np.log(0.25), rtol=1e-15)


def test_ln_p_of_new_rows_is_minus_infinity():
    new = np.random.default_rng(0).standard_normal((50, 2))
    model = Empirical().fit(X)
    np.testing.assert_array_equal(model.score_samples(new), np.full(50, -np.inf))
    assert model.score_samples(X[:1] + 1e-15) == -np.inf
    assert model.score(np.concatenate([X, new])) == -np.inf


def test_no_distribution_is_likelier_on_its_own_rows():
    """The mean of ln p is minus the entropy of the shares: ½ ln ½ + 2 · ¼ ln ¼."""
    assert Empirical().fit(X).score(X) == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.25), rel=1e-15)


def test_samples_are_copies_with_the_shares_of_the_rows():
    drawn = Empirical().fit(X).sample(20_000, rng=0)
    rows, counts = np.unique(drawn, axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, [[0, 3], [1, 2], [5, 5]])
    shares = np.array([0.25, 0.5, 0.25])
    assert np.all(np.abs(counts / 20_000 - shares) < 4 * np.sqrt(shares * (1 - shares) / 20_000))

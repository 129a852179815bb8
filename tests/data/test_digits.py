"""The digits: their content, and the split that the docstring promises."""

import sys

import numpy as np
import pytest

from tinygen.data import DataError, digits

datasets = pytest.importorskip("sklearn.datasets")


def test_shapes_and_values():
    for part, n in zip(digits.load(), (1297, 500), strict=True):
        assert part.pictures.shape == (n, 1, 8, 8)
        assert part.pictures.dtype == np.float32
        assert part.labels.shape == (n,)
        assert part.labels.dtype == np.int64
        np.testing.assert_array_equal(np.unique(part.pictures), np.arange(-8, 9) / 8)
        np.testing.assert_array_equal(np.unique(part.labels), np.arange(10))


def test_every_picture_is_in_one_part():
    """Put back to where they were, the parts are the file."""
    images, labels = datasets.load_digits(return_X_y=True)
    train, test = digits.load()
    held_out = digits.test_mask(labels)
    whole = np.empty((1797, 1, 8, 8), np.float32)
    whole[held_out], whole[~held_out] = test.pictures, train.pictures
    np.testing.assert_array_equal((whole.reshape(-1, 64) + 1) * 8, images)
    np.testing.assert_array_equal(labels[held_out], test.labels)
    np.testing.assert_array_equal(labels[~held_out], train.labels)


def test_the_split_is_even_in_classes_and_in_the_file():
    (_, test), (_, again) = digits.load()[1], digits.load()[1]
    np.testing.assert_array_equal(test, again)
    np.testing.assert_array_equal(np.bincount(test), 50)
    _, labels = datasets.load_digits(return_X_y=True)
    held_out = digits.test_mask(labels)
    assert all(abs(part.sum() - 125) < 10 for part in np.array_split(held_out, 4))
    np.testing.assert_array_equal(np.nonzero(held_out)[0][:10], np.arange(10))


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        digits.load()

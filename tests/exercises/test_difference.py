"""The words for the difference of two results."""

import numpy as np
import pytest

from tinygen import Tensor
from tinygen.exercises.difference import difference

X = np.array([[0.5, -1.0, 2.0], [3.0, 0.25, -4.0]])
COLUMN = np.array([[2.0], [3.0]])
ROWS = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        (X.T, X, "shape (3, 2), expected (2, 3)"),
        (2 * X, X, "at [0, 0]: 1, expected 0.5; 6 of 6 entries are wrong; every entry has the factor 2"),
        (X / 3, X, "every entry has the factor 1/3"),
        (X * np.pi, X, "every entry has the factor 3.14159"),
        (-X, X, "the sign is wrong"),
        (0 * X, X, "every entry is 0"),
        (X + 0.5, X, "every entry is too large by 0.5"),
        (X - 0.5, X, "every entry is too small by 0.5"),
        (X**2, X, "it is the square of the right one"),
        (np.sqrt(ROWS), ROWS, "it is the root of the right one"),
        (1 - X, X, "it is 1 minus the right one"),
        (1 / X, X, "it is 1 divided by the right one"),
        (np.log(ROWS), ROWS, "it is the logarithm of the right one"),
        (np.exp(X), X, "it is exp of the right one"),
        (X[:, :2].T, X[:, :2], "it is the transpose"),
        (X[:, ::-1], X, "it is in reverse order along axis 1"),
        (np.roll(X, 1, 1), X, "it is shifted along axis 1"),
        (X.reshape(3, 2).T, X, "the numbers are right, but in other places"),
        (ROWS / ROWS.sum(0), ROWS, "the sums along axis 0 are 1: they should be so along axis 1"),
        (ROWS + np.array([0.1, 0.2, 0]), ROWS, "the sums along axis 1 should all be 1"),
        (X * COLUMN, X, "along axis 1 the factor is the same"),
        (X + COLUMN, X, "along axis 1 the difference is the same"),
        (X, X * (X > 0), "wrong only where 0 is expected"),
        (X * (X > 0), X, "2 of 6 entries are wrong; the wrong ones are 0"),
        (X + np.array([[0.0, 0, 0], [1, 2, 0]]), X, "all of them at index 1 of axis 0"),
        (
            np.where(X > 2, np.nan, X),
            X,
            "at [1, 0]: nan, expected 3; 1 of 6 entries are wrong; it is not finite",
        ),
        (3.0, 1.5, "3, expected 1.5; the factor is 2"),
        (-2.0, 2.0, "the sign is wrong"),
        (1.7, 2.0, "1.7, expected 2"),
        (None, X, "nothing (None), expected an array"),
        ("a", 1.0, "'a', expected a number"),
        ([1, 2], [1, 2, 3], "2 values, expected 3: [1, 2], expected [1, 2, 3]"),
        ([1, 2, 3], (1, 2), "3 values, expected 2"),
        ((X, 1.0), (X, 2.0), "value 2 of 2: 1, expected 2"),
        ((1.0, X), (X, 1.0), "it is what value 2 should be"),
        (3.0, (1.0, 2.0), "3, expected 2 values"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "the keys are ['a'], expected ['a', 'b']"),
        ({"a": 1.0}, {"a": 3.0}, "['a']: 1, expected 3; the factor is 1/3"),
        (3, {"a": 3.0}, "3, expected a dict"),
        ("left", "right", "'left', expected 'right'"),
        (np.array([True, False]), np.array([True, True]), "at [1]: False, expected True"),
        (np.array([1, 2]), np.array([1, 3]), "at [1]: 2, expected 3"),
    ],
)
def test_words(found, expected, words):
    said = difference(found, expected, 1e-7)
    assert said is not None
    assert words in said


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (X + 1e-12, X),
        (Tensor(X), X),
        (X, Tensor(X)),
        (np.array([np.nan, -np.inf]), np.array([np.nan, -np.inf])),
        ([1, 2], (1, 2)),
        ({"a": (X, "b")}, {"a": (X, "b")}),
        (np.float32(2), 2.0),
        (1, 1.0),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (None, None),
        (True, np.True_),
    ],
)
def test_no_difference(found, expected):
    assert difference(found, expected, 1e-7) is None


def test_a_tolerance_is_relative_to_the_largest():
    assert difference(X + 0.01, X, 0.01) is None
    assert difference(X + 0.01, X, 1e-4) is not None


def test_an_argument_that_was_returned():
    assert "it is eps itself" in difference(X, 2 * X + 1, 1e-7, {"x": X + 1, "eps": X, "n": 3})

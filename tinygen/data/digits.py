"""Handwritten digits, small enough to train on in minutes: scikit-learn's digits, 1797 pictures of 8 × 8.

They are the test half of the UCI repository's *Optical Recognition of Handwritten Digits* (Alpaydin & Kaynak
1998). scikit-learn carries them in its package, so that no network is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinygen.data.published import DataError
from tinygen.types import Ids, Pictures

SIDE = 8
CLASSES = 10
INK = 16  # the pixels' highest value in the files
TEST_OF_EACH = 50


class Digits(NamedTuple):
    """Pictures (N, 1, 8, 8), float32 in [-1, 1] in steps of 1/8 (-1 is the paper), and their classes, labels
    (N,) from 0 to 9."""

    pictures: Pictures
    labels: Ids


def load() -> tuple[Digits, Digits]:
    """1297 digits for training and 500 for testing; the split is always the same.

    The test set has 50 digits of each class, evenly spaced in the file; the training set has the rest, 124
    to 133 of each class. Both keep the file's order. The file is sorted by writer, so every writer is in
    both sets.

    DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"the digits are in scikit-learn ({error}): pip install scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    pictures = (images.reshape(len(images), 1, SIDE, SIDE) * (2 / INK) - 1).astype(np.float32)
    labels = labels.astype(np.int64)
    test = test_mask(labels)
    return Digits(pictures[~test], labels[~test]), Digits(pictures[test], labels[test])


def test_mask(labels: Ids) -> NDArray[np.bool_]:
    """A mask (N,) of the digits in the test set: 50 of every class, evenly spaced among its pictures."""
    test = np.zeros(len(labels), bool)
    for digit in range(CLASSES):
        (these,) = np.nonzero(labels == digit)
        test[these[np.arange(TEST_OF_EACH) * len(these) // TEST_OF_EACH]] = True
    return test

"""The base class of all densities: the methods of scikit-learn, and the errors for data that cannot be
fitted."""

from __future__ import annotations

import operator
from typing import Any, Self

import numpy as np

from tinygen.types import Floats


class NotFittedError(ValueError, AttributeError):
    """`fit` has not been called. scikit-learn's error of this name has the same two bases."""


def checked_rows(x: Any, at_least: int = 1) -> Floats:
    """x as float64 of shape (N, D), copied only if necessary.

    Raises ValueError when x is not a table of real, finite numbers, or has fewer rows than `at_least`."""
    try:
        if np.iscomplexobj(x):
            raise TypeError("give the real and imaginary parts of complex numbers as columns")
        rows: Floats = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"x must be real numbers, as an array (rows, columns): {error}") from None
    if rows.ndim != 2:
        raise ValueError(
            f"x must be (rows, columns), got {rows.shape}: x.reshape(-1, 1) for one column of numbers, "
            "x.reshape(len(x), -1) for pictures"
        )
    if rows.shape[1] == 0 or len(rows) < at_least:
        raise ValueError(f"x must have at least {at_least} rows and 1 column, got {rows.shape}")
    if not np.all(np.isfinite(rows)):
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"x must be finite, got {rows[row, column]} in row {row}, column {column}: leave such rows out, "
            "or fill them"
        )
    return rows


def checked_count(name: str, value: Any, at_least: int = 1) -> int:
    """The value as an int. Raises ValueError when it is no whole number, or below `at_least`."""
    try:
        count = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if count < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {count}")
    return count


class Estimator:
    """A model that is fitted to rows of numbers. Its fitted attributes end in `_`."""

    n_features_in_: int  # the number of columns D; `fit` sets it last

    def check_fitted(self) -> None:
        """Raises NotFittedError before the first `fit`."""
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(x) first")

    def rows_to_judge(self, x: Any) -> Floats:
        """x (N, D) as float64, with the columns that `fit` has seen.

        Raises NotFittedError before the first `fit`; ValueError when x is no such array."""
        self.check_fitted()
        rows = checked_rows(x)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"x has {rows.shape[1]} columns, but this {type(self).__name__} was fitted to "
                f"{self.n_features_in_}: give the same columns"
            )
        return rows

    def rows_to_draw(self, n: int) -> int:
        """n, if a sample of n rows can be drawn.

        Raises NotFittedError before the first `fit`; ValueError when n is below 1."""
        self.check_fitted()
        return checked_count("n", n)


class Density(Estimator):
    """A model of the density p(x). Subclasses have `fit(x)`, `score_samples(x)` and `sample(n, rng=...)`."""

    def fit(self, x: Any) -> Self:
        """Fit the density to the rows x (N, D)."""
        raise NotImplementedError

    def score_samples(self, x: Any) -> Floats:
        """ln p(x) of each row of x (N, D): (N,), in nats."""
        raise NotImplementedError

    def score(self, x: Any) -> float:
        """The mean of ln p(x) over the rows of x (N, D), in nats a row.

        So do scikit-learn's GaussianMixture and PCA; its KernelDensity has the sum."""
        return float(np.mean(self.score_samples(x)))


def log_sum_exp(a: Floats) -> Floats:
    """ln Σ exp(a) over the last axis, (..., K) -> (...); -inf for a row of -inf. The largest entry is
    subtracted first, so that the sum neither overflows nor becomes 0."""
    largest = np.max(a, axis=-1, keepdims=True)
    largest[largest == -np.inf] = 0  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.sum(np.exp(a - largest), axis=-1)) + largest[..., 0]
    return total

"""The empirical distribution: each row that was seen has its share of the probability, all others have none.

No model has a higher likelihood on the rows that it was fitted to. Of new rows it knows nothing: their ln p
is -inf, and its samples are copies. The densities above it smooth.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

import numpy as np

from tinygen.density.estimator import Density, checked_rows
from tinygen.types import Floats


class Empirical(Density):
    """The empirical distribution of the rows that it is fitted to. It has probabilities, no density: its ln p
    is one of a row, not one per unit of volume.

    Fitted: `rows_` (N, D)."""

    rows_: Floats

    def fit(self, x: Any) -> Self:
        """Keep the rows x (N, D). Raises ValueError when x has no rows, or a number is not finite."""
        self.rows_ = checked_rows(x).copy()
        self.n_features_in_ = self.rows_.shape[1]
        return self

    def score_samples(self, x: Any) -> Floats:
        """ln p of each row of x (N, D): (N,), the logarithm of its share, or -inf.

        Eq.: p(x) = 1/N Σ_i 1[x = x_i]  (van der Vaart 1998, chapter 19)
        Held by: tests/density/test_empirical.py::test_ln_p_is_the_share_of_a_row,
            tests/density/test_empirical.py::test_ln_p_of_new_rows_is_minus_infinity
        """
        x = self.rows_to_judge(x)
        counts = Counter(keys(self.rows_))
        with np.errstate(divide="ignore"):
            return np.log(np.array([counts[key] for key in keys(x)]) / len(self.rows_))

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Floats:
        """n rows (n, D), drawn from those that were seen, with replacement."""
        n = self.rows_to_draw(n)
        drawn: Floats = self.rows_[np.random.default_rng(rng).integers(len(self.rows_), size=n)]
        return drawn


def keys(x: Floats) -> list[bytes]:
    """Of each row, bytes that are equal where the numbers are: 0.0 is added, as -0.0 has other bytes."""
    return [row.tobytes() for row in x + 0.0]

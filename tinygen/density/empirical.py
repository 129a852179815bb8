"""The empirical distribution: each training row has its share of the probability, all other rows have none.

No model has a higher likelihood on its training rows. But it does not generalize: ln p of a new row is
-inf, and its samples are copies of training rows. The other densities smooth it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

import numpy as np

from tinygen.density.estimator import Density, checked_rows
from tinygen.types import Floats


class Empirical(Density):
    """The empirical distribution of its training rows. It has probabilities instead of a density: its ln p
    is the logarithm of the probability of a row, not of a probability per unit of volume.

    After `fit` there is `rows_` (N, D)."""

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
        """n rows (n, D), drawn from the training rows with replacement."""
        n = self.rows_to_draw(n)
        drawn: Floats = self.rows_[np.random.default_rng(rng).integers(len(self.rows_), size=n)]
        return drawn


def keys(x: Floats) -> list[bytes]:
    """The bytes of each row. Equal rows have equal bytes: adding 0.0 turns -0.0, which has other bytes,
    into 0.0."""
    return [row.tobytes() for row in x + 0.0]

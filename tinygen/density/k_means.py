"""k-means++ (Arthur & Vassilvitskii 2007): centers that are far from one another, from which EM starts."""

from __future__ import annotations

import numpy as np

from tinygen.types import Floats


def k_means_plus_plus(x: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Assign each row of x (N, D) to the nearest of k centers: shares (N, K), with one 1 in each row.
    The centers are drawn from the rows, each with a probability proportional to its squared distance from
    the nearest earlier center. Distances are in units of the columns' standard deviations.

    Raises ValueError when fewer than k rows differ.

    Eq.: p(x_n) = D(x_n)² / Σ_m D(x_m)², D(x) the distance to the nearest center
        (Arthur & Vassilvitskii 2007)
    Held by: tests/density/test_mixture.py::test_k_means_plus_plus
    """
    scale = x.std(axis=0)
    x = x / np.where(scale > 0, scale, 1)
    distances = np.empty((len(x), k))
    chosen = int(rng.integers(len(x)))
    for i in range(k):
        distances[:, i] = np.square(x - x[chosen]).sum(axis=1)
        nearest = distances[:, : i + 1].min(axis=1)
        if i + 1 < k:
            if not np.any(nearest):
                raise ValueError(f"x has {i + 1} different rows, fewer than {k} components: take fewer")
            chosen = int(rng.choice(len(x), p=nearest / nearest.sum()))
    shares = np.zeros_like(distances)
    shares[np.arange(len(x)), distances.argmin(axis=1)] = 1
    return shares

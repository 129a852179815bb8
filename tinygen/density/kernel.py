"""Kernel density estimation: a Gaussian around each training row, all of the same width (Rosenblatt 1956;
Parzen 1962; Silverman 1986).

The width is called the bandwidth. If it is too small, the estimate is close to the empirical distribution;
if it is too large, to a single Gaussian. It is an argument, or comes from a rule for normal data, or
maximizes the leave-one-out likelihood: the likelihood of each row under the estimate from the other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from numbers import Real
from typing import Any, Self

import numpy as np

from tinygen.density.estimator import Density, checked_rows, log_sum_exp
from tinygen.types import Floats

BLOCK = 2**17  # distances at a time, 1 MB: they stay in the processor's cache
HELD = 2**24  # distances that are kept for the search of a bandwidth, 128 MB: all of 4,096 rows
LOOKS = 24  # bandwidths at which the slope is taken before a maximum is found between two of them


class GaussianKDE(Density):
    """p(x) = 1/N Σ_i N(x; x_i, h² I), with the bandwidth h.

    `bandwidth` is h itself, or the name of a method to find it:

        "scott"       Scott's rule below
        "silverman"   Silverman's rule below
        "likelihood"  the bandwidth of the highest leave-one-out likelihood (`best_bandwidth`)

    Both rules are for columns of variance 1, as in scikit-learn: standardize other data first, or use the
    third method. After `fit` there are `rows_` (N, D) and `bandwidth_`.

    Raises ValueError when the bandwidth is neither a finite number above 0 nor one of these names.

    Eq.: h = N^(-1/(D + 4))  (Scott 1992)
    Held by: tests/density/test_kernel.py::test_rules
    Eq.: h = (4 / (N (D + 2)))^(1/(D + 4))  (Silverman 1986, chapter 4)
    Held by: tests/density/test_kernel.py::test_rules
    """

    rows_: Floats
    bandwidth_: float

    def __init__(self, bandwidth: float | str = "likelihood") -> None:
        if isinstance(bandwidth, str):
            if bandwidth not in ("scott", "silverman", "likelihood"):
                raise ValueError(
                    f"bandwidth must be a number, 'scott', 'silverman' or 'likelihood', got {bandwidth!r}"
                )
        elif not isinstance(bandwidth, Real) or not 0 < bandwidth < np.inf:
            raise ValueError(f"bandwidth must be a finite number above 0, got {bandwidth}")
        self.bandwidth = bandwidth

    def fit(self, x: Any) -> Self:
        """Keep the rows x (N, D), and find the bandwidth.

        Raises ValueError when x is not a table of finite numbers; with "likelihood" also when x has one
        row, or when each row occurs more than once, since the likelihood then grows without bound as h goes
        to 0."""
        x = checked_rows(x).copy()
        n, dim = x.shape
        if self.bandwidth == "scott":
            self.bandwidth_ = float(n ** (-1 / (dim + 4)))
        elif self.bandwidth == "silverman":
            self.bandwidth_ = float((4 / (n * (dim + 2))) ** (1 / (dim + 4)))
        elif self.bandwidth == "likelihood":
            self.bandwidth_ = best_bandwidth(x)
        else:
            self.bandwidth_ = float(self.bandwidth)
        self.rows_ = x
        self.n_features_in_ = dim
        return self

    def score_samples(self, x: Any) -> Floats:
        """ln p(x) of each row of x (M, D): (M,), in nats. Besides x it takes the memory of three arrays of
        BLOCK numbers, or of N, if that is more.

        Eq.: p(x) = 1/N Σ_i (2π h²)^(-D/2) exp(-|x - x_i|²/(2h²))  (Silverman 1986, chapter 4)
        Held by: tests/density/test_kernel.py::test_it_integrates_to_1,
            tests/density/test_kernel.py::test_parity_with_scikit_learn
        """
        x = self.rows_to_judge(x)
        n, dim = self.rows_.shape
        sums = [log_sum_exp(d / (-2 * self.bandwidth_**2)) for d in squared_distances(x, self.rows_)]
        return np.concatenate(sums) - np.log(n) - dim * np.log(np.sqrt(2 * np.pi) * self.bandwidth_)

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Floats:
        """n rows (n, D): each is a random training row plus Gaussian noise of std h."""
        n = self.rows_to_draw(n)
        rng = np.random.default_rng(rng)
        chosen = self.rows_[rng.integers(len(self.rows_), size=n)]  # (n, D)
        drawn: Floats = chosen + self.bandwidth_ * rng.standard_normal(chosen.shape)
        return drawn


def squared_distances(x: Floats, y: Floats) -> Iterator[Floats]:
    """|x_i - y_j|² of the rows of x (M, D) and y (N, D), for some rows of x at a time: (B, N).

    It sums column by column. The formula |x|² + |y|² - 2 x·y would lose digits for rows that are close to
    each other and far from 0."""
    height = max(1, BLOCK // len(y))
    columns = np.ascontiguousarray(y.T)  # (D, N)
    for start in range(0, len(x), height):
        part = x[start : start + height]  # (B, D)
        total = np.zeros((len(part), len(y)))
        difference = np.empty_like(total)
        for here, there in zip(part.T, columns, strict=True):
            np.subtract(here[:, None], there, out=difference)
            total += np.square(difference, out=difference)
        yield total


# -- the bandwidth of the highest likelihood ---------------------------------------------------------


def distances_to_others(x: Floats) -> Iterator[Floats]:
    """The squared distances of each row of x (N, D) to the others, (B, N) at a time; to itself, infinity."""
    row = 0
    for block in squared_distances(x, x):
        block[np.arange(len(block)), np.arange(row, row + len(block))] = np.inf
        row += len(block)
        yield block


def leave_one_out(blocks: Iterable[Floats], dim: int, bandwidth: float) -> tuple[float, float]:
    """The mean over the rows of ln p(x_i), with p of all rows but the i-th, and its slope by ln h. `blocks`
    are the squared distances to the others, (B, N) each.

    Eq.: L(h) = 1/N Σ_i ln 1/(N-1) Σ_{j≠i} N(x_i; x_j, h² I)  (Duin 1976; Silverman 1986, chapter 3)
    Held by: tests/density/test_kernel.py::test_leave_one_out_by_its_definition
    Eq.: dL/d ln h = 1/N Σ_i Σ_{j≠i} r_ij |x_i - x_j|²/h² - D, where r_ij is the share of row j in p(x_i)
        (the derivative of L)
    Held by: tests/density/test_kernel.py::test_the_slope_is_the_derivative
    """
    value = slope = n = 0.0
    for squares in blocks:
        exponents = squares / (-2 * bandwidth**2)  # (B, N)
        largest = exponents.max(axis=1)
        kernels = np.exp(exponents - largest[:, None])  # the largest of a row is 1: no sum is 0
        sums = kernels.sum(axis=1)
        n = squares.shape[1]
        value += np.sum(largest + np.log(sums))
        weighted = np.einsum("bn,bn->b", kernels, np.where(kernels > 0, squares, 0))  # not 0 · inf
        slope += np.sum(weighted / sums) / bandwidth**2
    constant = np.log(n - 1) + dim * np.log(np.sqrt(2 * np.pi) * bandwidth)
    return float(value / n - constant), float(slope / n - dim)


def best_bandwidth(x: Floats) -> float:
    """The bandwidth at which the likelihood of leave-one-out of the rows x (N, D) is highest.

    Where the slope is 0, h² is a weighted mean of squared distances divided by D, with weights that fall
    with the distance. So all maxima lie between the mean of the nearest squared distances and the mean of
    all. The slope is computed at LOOKS bandwidths in this range. Between two neighbors with a positive and
    a negative slope, the maximum is found to the last digits. If there are several maxima, the highest one
    is returned.

    The distances of up to 4,096 rows are kept (HELD numbers, 128 MB); for more they are computed each time.

    Raises ValueError for a single row, and when each row occurs more than once: there is no maximum then."""
    n, dim = x.shape
    if n < 2:
        raise ValueError("bandwidth 'likelihood' needs at least 2 rows, to leave one out, got 1")
    held = list(distances_to_others(x)) if n * n <= HELD else None

    def distances() -> Iterable[Floats]:
        return distances_to_others(x) if held is None else held

    nearest = sum(float(np.sum(block.min(axis=1))) for block in distances()) / n
    everything = sum(float(np.sum(block[np.isfinite(block)])) for block in distances()) / (n * (n - 1))
    if nearest == 0:
        raise ValueError(
            "bandwidth 'likelihood' has no maximum where each row occurs more than once: the likelihood of "
            "leave-one-out grows without bound as the bandwidth goes to 0. Leave repeated rows out, or give "
            "a number"
        )
    logs = np.linspace(0.5 * np.log(nearest / dim) - 0.1, 0.5 * np.log(everything / dim) + 0.1, LOOKS)

    def value(log: float) -> float:
        return leave_one_out(distances(), dim, np.exp(log))[0]

    def slope(log: float) -> float:
        return leave_one_out(distances(), dim, np.exp(log))[1]

    slopes = [slope(log) for log in logs]
    maxima = [
        root(slope, a, b, at_a, at_b)
        for (a, b), (at_a, at_b) in zip(pairwise(logs), pairwise(slopes), strict=True)
        if at_a > 0 >= at_b
    ]
    return float(np.exp(max(maxima, key=value)))


def root(f: Callable[[float], float], a: float, b: float, at_a: float, at_b: float) -> float:
    """The zero of f between a and b, with f(a) = `at_a` above 0 and f(b) = `at_b` at most 0. The method is
    regula falsi; if the same end stays twice, the value at that end is halved (the Illinois algorithm:
    Dowell & Jarratt 1971)."""
    while abs(b - a) > 1e-14 * max(1.0, abs(a)):
        middle = b - at_b * (b - a) / (at_b - at_a)
        at_middle = f(middle)
        if at_middle == 0 or middle in (a, b):
            return float(middle)
        if (at_middle > 0) != (at_b > 0):
            a, at_a = b, at_b
        else:
            at_a /= 2
        b, at_b = middle, at_middle
    return float(b)

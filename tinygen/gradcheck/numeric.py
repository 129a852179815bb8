"""Derivatives by differences, each with an error bar.

Everything is a derivative along a line: φ(t) = F(x + t d), where d moves one entry or, for large arrays, all
of them at random. Central differences at two steps h and h/2 are combined by Richardson's rule, and their
distance is the error bar (Richardson 1911; Press et al., *Numerical Recipes*, 3rd ed. 2007, section 5.7: in
float64 the best h is about eps^(1/3)). Where that disagrees with the tape, `carefully` looks again with a
ladder of steps: it tells a wrong gradient from a kink, from the edge of the domain, and from differences too
coarse to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck.subject import Array, Subject, weights

EPS = float(np.finfo(np.float64).eps)
STEP = EPS ** (1 / 3)
LADDER = [STEP * 4.0**k for k in (3, 2, 1, 0, -1, -2, -3)]
TINY = 1e-20
Phi = Callable[[Any], Array]


class Probe(NamedTuple):
    """A direction in which variable `k` is moved: by one entry (a flat index) alone, or all of it."""

    k: int
    direction: Array
    entry: int | None
    size: float  # how long the direction is: derivatives along it are divided by that


def entry_probes(points: Sequence[Array], k: int, entries: Sequence[int]) -> Iterator[Probe]:
    """One probe per flat index, as long as the entry is large, so that steps are relative."""
    x = points[k]
    for j in entries:
        direction = np.zeros(x.shape)
        size = max(1.0, abs(float(x.flat[j])))
        direction.reshape(-1)[j] = size
        yield Probe(k, direction, j, size)


def random_probes(points: Sequence[Array], k: int, n: int, rng: np.random.Generator) -> list[Probe]:
    x = points[k]
    return [Probe(k, weights(x.shape, rng) * np.maximum(1.0, np.abs(x)), None, 1.0) for _ in range(n)]


def in_a_row(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(y) for y in arrays]) if arrays else np.zeros(0)


def line(subject: Subject, probe: Probe) -> Phi:
    """φ: all outputs in one row."""
    points = subject.points

    def phi(t: Any) -> Array:
        arrays = list(points)
        arrays[probe.k] = np.asarray(points[probe.k] + t * probe.direction)  # () stays an array
        return in_a_row(subject.evaluate(arrays))

    return phi


class Slopes(NamedTuple):
    """Derivatives along one line of m weighted sums of outputs: (m,), and how far off they may be."""

    value: Array
    bar: Array


def central(phi: Phi, matrix: Array, noise: float) -> Slopes:
    """Central differences of `matrix` (m, outputs) times φ, whose rounding error is `noise`, at two steps."""
    coarse, fine = (matrix @ ((phi(h) - phi(-h)) / (2 * h)) for h in (STEP, STEP / 2))
    value = (4 * fine - coarse) / 3
    return Slopes(value, np.abs(fine - coarse) + noise / STEP + EPS / STEP * np.abs(value))


def complex_step(phi: Phi, matrix: Array, noise: float) -> Slopes:
    """Im φ(iε)/ε: no difference is taken, so nothing is lost to rounding (Squire & Trapp 1998). Only for
    analytic functions."""
    value = matrix @ (phi(TINY * 1j).imag / TINY)
    return Slopes(value, noise + 100 * EPS * np.abs(value))


class Careful(NamedTuple):
    """What the ladder of steps says about one line; arrays of shape (m,)."""

    value: Array
    bar: Array
    kink: Array  # bool: the slopes on the two sides differ, and go on differing as the step shrinks
    low: Array  # at a kink, a gradient may be anything from this
    high: Array  # to this


def carefully(phi: Phi, matrix: Array, noise: float) -> Careful:
    """Slopes on both sides at steps from 64 h to h/64.

    The value is the central difference that agrees best with both its neighbours, its bar how well."""
    middle = phi(0.0)
    right = np.array([(phi(h) - middle) / h for h in LADDER])  # (steps, outputs)
    left = np.array([(middle - phi(-h)) / h for h in LADDER])
    d = (right + left) / 2 @ matrix.T  # (steps, m)
    distance = np.abs(np.diff(d, axis=0))
    steps = np.array(LADDER)[:, None]
    heard = np.median((distance * steps[1:])[-4:], axis=0)  # rounding, in fact: what is lost grows as 1/h
    bars = np.maximum(distance[:-1], distance[1:]) + (noise + 4 * heard) / steps[1:-1]  # of d[1:-1]
    still = np.logical_not(
        np.any(right, axis=1) | np.any(left, axis=1)
    )  # steps too small for the function's precision
    bars[np.flatnonzero(still[1:-1] & ~still[0])] = np.inf
    bars = np.where(np.isfinite(bars), bars, np.inf)
    best = bars.argmin(axis=0)
    columns = np.arange(len(matrix))
    jump = np.abs(right - left) @ np.abs(matrix.T)  # (steps, m)
    steady = (0.6 * jump[:-1] < jump[1:]) & (
        jump[1:] < 1.7 * jump[:-1]
    )  # it shrinks by 1/4 where φ is smooth,
    loud = jump[-1] > (100 * noise + 10 * heard) / LADDER[-1]  # and grows by 4 where it is noise
    a, b = right[-1] * matrix, left[-1] * matrix  # (m, outputs)
    return Careful(
        d[1:-1][best, columns],
        bars[best, columns],
        loud & steady[-3:].all(axis=0),
        np.minimum(a, b).sum(axis=1),
        np.maximum(a, b).sum(axis=1),
    )

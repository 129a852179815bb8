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

from tinygen.gradcheck.arguments import weights
from tinygen.gradcheck.subject import Array, Subject

EPS = float(np.finfo(np.float64).eps)
STEP = EPS ** (1 / 3)
LADDER = [STEP * 4.0**k for k in range(3, -7, -1)]
INSIDE = (-0.37, 0.29, 0.61)
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
    """Slopes on both sides at steps from 64 h to h/4096.

    The value is the central difference with the smallest bar: what rounding may do to it, and how far it is
    off finer ones beyond what rounding may do to those."""
    steps = np.array(LADDER)[:, None]
    middle = phi(0.0)
    right = np.array([phi(h) - middle for h in LADDER]) / steps  # (steps, outputs)
    left = np.array([middle - phi(-h) for h in LADDER]) / steps
    d = (right + left) / 2 @ matrix.T  # (steps, m)
    rounding = (noise + 4 * heard(phi, middle, right[-1], left[-1], matrix)) / steps
    bars = rounding.copy()
    bars[-1] += np.abs(d[-1] - d[-2]) / 4  # where φ is smooth the mistake shrinks by 16
    for i in range(len(d) - 1):
        bars[i] += np.maximum(np.abs(d[i + 1 :] - d[i]) - rounding[i + 1 :], 0.0).max(axis=0)
    bars = np.where(np.isfinite(bars), bars, np.inf)
    best, columns = bars.argmin(axis=0), np.arange(len(matrix))
    kink, finest = kinked(np.abs(right - left) @ np.abs(matrix.T), noise / steps)
    a, b = right[finest] * matrix, left[finest] * matrix  # (m, outputs)
    low, high = np.minimum(a, b).sum(axis=1), np.maximum(a, b).sum(axis=1)
    return Careful(d[best, columns], bars[best, columns], kink, low, high)


def heard(phi: Phi, middle: Array, right: Array, left: Array, matrix: Array) -> Array:
    """(m,) How far φ is from a curve through its values at 0 and the finest step on either side: rounding."""
    s = LADDER[-1]
    curves = [middle + t * s * ((right + left) + t * (right - left)) / 2 for t in INSIDE]
    return np.max([np.abs((phi(t * s) - y) @ matrix.T) for t, y in zip(INSIDE, curves, strict=True)], axis=0)  # type: ignore[no-any-return]


def kinked(jump: Array, rounding: Array) -> tuple[Array, Array]:
    """Whether the slopes on the two sides differ by as much at fine steps as at coarser ones (where φ is
    smooth that shrinks by 1/4 at each step, where it is noise it grows by 4); the finest that tells."""
    loud = jump > 100 * rounding
    finest = len(jump) - 1 - loud[::-1].argmax(axis=0)
    columns = np.arange(jump.shape[1])
    height = jump[finest, columns]
    gone = (np.arange(len(jump))[:, None] > finest) & (
        100 * rounding < height / 2
    )  # finer steps would tell too
    steady = ~gone.any(axis=0)
    for i in range(3):
        ratio = jump[finest - i, columns] / jump[finest - i - 1, columns]
        steady &= (ratio > 0.6) & (ratio < 1.7)
    return loud[finest, columns] & (finest >= 3) & steady, finest

"""Derivatives by differences, each with an error bar.

All derivatives are taken along a line: φ(t) = F(x + t d), where d moves one entry or, for large arrays, all
entries at random. Central differences with the steps h and h/2 are combined by Richardson's rule, and their
distance is the error bar (Richardson 1911; Press et al., *Numerical Recipes*, 3rd ed. 2007, section 5.7: in
float64 the best h is about eps^(1/3)). If the result disagrees with the tape, `slopes_on_ladder` tries many
steps: this distinguishes a wrong gradient from a kink, from the edge of the domain, and from differences that
are not accurate enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.subject import Subject

EPS = float(np.finfo(np.float64).eps)
STEP = 2.0**-17  # about eps^(1/3); a power of two, so that x + h is exact
LADDER = [STEP * 4.0**k for k in range(3, -7, -1)]
INSIDE = (-0.375, 0.25, 0.625)  # in eighths: x + t d is exact, as it is at a whole step
SPREAD = np.array([-8, -6, -3, -1, 2, 3, 5, 8]) / 8
SCALES = [4.0**-k for k in range(3, 10)]  # on which steps of the value are looked for
TINY = 1e-20
Phi = Callable[[Any], Array]


class Probe(NamedTuple):
    """A direction in which variable `k` is moved: one entry (a flat index) alone, or all entries."""

    k: int
    direction: Array
    entry: int | None
    size: float  # the length of the direction: derivatives along it are divided by it
    others: tuple[float, ...]  # factors for other lengths, if this is not the right scale


def sizes(x: Array) -> Array:
    """The scale on which each entry is moved: its own size or the typical size in the array (at most 1),
    whichever is larger; 1 if all are 0. Powers of two."""
    size = np.abs(x)
    typical = float(np.sqrt(np.mean(size * size))) if x.size else 1.0
    typical = min(1.0, typical) if np.isfinite(typical) and typical > 0 else 1.0
    return np.asarray(np.exp2(np.ceil(np.log2(np.maximum(np.where(np.isfinite(size), size, 1.0), typical)))))


def entry_probes(points: Sequence[Array], k: int, entries: Sequence[int]) -> Iterator[Probe]:
    """One probe per flat index, with a length that makes steps relative."""
    x = points[k]
    scale = sizes(x)
    for j in entries:
        direction = np.zeros(x.shape)
        size, own = float(scale.flat[j]), abs(float(x.flat[j]))
        direction.reshape(-1)[j] = size
        yield Probe(k, direction, j, size, input_arrays(1.0 / size, own / size))


def random_probes(points: Sequence[Array], k: int, n: int, rng: np.random.Generator) -> list[Probe]:
    x = points[k]
    scale = sizes(x)
    most, least = float(scale.max(initial=0.0)), float(np.abs(x[x != 0]).min(initial=np.inf))
    times = input_arrays(1.0 / most, least / most) if most else ()
    return [Probe(k, weights(x.shape, rng) * scale, None, 1.0, times) for _ in range(n)]


def input_arrays(*ratios: float) -> tuple[float, ...]:
    """The other scales, as powers of two, without those that are close to the first."""
    far = [r for r in ratios if 0 < r < np.inf and not 1 / 16 < r < 16]
    return tuple(float(np.exp2(np.floor(np.log2(r)))) for r in dict.fromkeys(far))


def join_flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(y) for y in arrays]) if arrays else np.zeros(0)


def line(subject: Subject, probe: Probe, times: float = 1.0, refused: list[str] | None = None) -> Phi:
    """φ: all outputs in one row, along the probe's direction multiplied by `times`. If the function raises an
    error, φ is NaN and the error is added to `refused`."""
    points = subject.points
    direction = probe.direction if times == 1.0 else probe.direction * times
    length: list[int] = []

    def phi(t: Any) -> Array:
        arrays = list(points)
        arrays[probe.k] = np.asarray(points[probe.k] + t * direction)  # () stays an array
        try:
            return join_flat(subject.evaluate(arrays))
        except Exception as error:
            if refused is not None:
                refused.append(f"{type(error).__name__}: {error}")
            if not length:
                length.append(join_flat(subject.evaluate(points)).size)
            return np.full(length[0], np.nan)

    return phi


class Slopes(NamedTuple):
    """Derivatives of m weighted sums of outputs along one line, (m,), and their error bars."""

    value: Array
    bar: Array


def central_differences(phi: Phi, matrix: Array, noise: float) -> Slopes:
    """Central differences of `matrix` (m, outputs) times φ with two steps; `noise` is the rounding error of
    φ."""
    coarse, fine = (matrix @ ((phi(h) - phi(-h)) / (2 * h)) for h in (STEP, STEP / 2))
    value = (4 * fine - coarse) / 3
    return Slopes(value, np.abs(fine - coarse) + noise / STEP + EPS / STEP * np.abs(value))


def complex_step(phi: Phi, matrix: Array, noise: float) -> Slopes:
    """Im φ(iε)/ε: no difference is taken, so nothing is lost to rounding (Squire & Trapp 1998). Only for
    analytic functions."""
    value = matrix @ (phi(TINY * 1j).imag / TINY)
    return Slopes(value, noise + 100 * EPS * np.abs(value))


class Careful(NamedTuple):
    """The result of the ladder of steps for one line; arrays of shape (m,)."""

    value: Array
    bar: Array
    kink: Array  # bool: the slopes on the two sides differ, also for small steps
    low: Array  # the smallest gradient that a kink allows
    high: Array  # and the largest


def finest_step(points: Sequence[Array], probe: Probe, times: float) -> float:
    """The smallest step that moves every entry by several units in its last place."""
    moved = probe.direction != 0
    moves = np.abs(probe.direction[moved]) * times
    return float((8 * EPS * np.abs(points[probe.k][moved]) / moves).max(initial=0.0))


def slopes_on_ladder(phi: Phi, matrix: Array, noise: float, least: float = 0.0) -> Careful:
    """Slopes on both sides at steps from 64 h to h/4096, none below `least`.

    The value is the central difference with the smallest error bar. The bar is the rounding error plus the
    distance from differences with finer steps, as far as it exceeds their rounding error."""
    ladder = [h for h in LADDER if h >= least] if LADDER[4] > least else LADDER
    steps = np.array(ladder)[:, None]
    middle = phi(0.0)
    right = np.array([phi(h) - middle for h in ladder]) / steps  # (steps, outputs)
    left = np.array([middle - phi(-h) for h in ladder]) / steps
    d = (right + left) / 2 @ matrix.T  # (steps, m)
    rounding = (noise + 4 * curve_error(phi, ladder[-1], middle, right[-1], left[-1], matrix)) / steps
    bars = rounding.copy()
    bars[-1] += np.abs(d[-1] - d[-2]) / 4  # if φ is smooth, the error shrinks by 16
    for i in range(len(d) - 1):
        bars[i] += np.maximum(np.abs(d[i + 1 :] - d[i]) - rounding[i + 1 :], 0.0).max(axis=0)
    bars = np.where(np.isfinite(bars), bars, np.inf)
    best, columns = bars.argmin(axis=0), np.arange(len(matrix))
    kink, at = find_kink(np.abs(right - left) @ np.abs(matrix.T), noise / steps)
    a, b = right[at] * matrix, left[at] * matrix  # (m, outputs)
    low, high = np.minimum(a, b).sum(axis=1), np.maximum(a, b).sum(axis=1)
    return Careful(d[best, columns], bars[best, columns], kink, low, high)


def grain(subject: Subject, noise: float) -> Array:
    """(outputs,) The height of the steps in the outputs, 0 if they are smooth. Rounding to float32 inside
    makes the function a staircase: flat on small scales, a slope on large ones. Its distance from a cubic is
    the same on several scales; for a kink or a single jump it is large on some scale only."""
    rng, table = np.random.default_rng(0), []
    for k, x in enumerate(subject.points):
        if x.size:
            phi = line(subject, random_probes(subject.points, k, 1, rng)[0])
            if not (distance_from_cubic(phi, SCALES[3]) > 100 * noise).any():
                continue  # smooth
            size = np.abs(phi(0.0))
            table.append([np.minimum(distance_from_cubic(phi, scale), 0.01 * size) for scale in SCALES])
    if not table:
        return np.zeros(1)
    found = np.max(table, axis=0)  # (scales, outputs)
    steady = np.zeros(found.shape[1])
    for i in range(len(SCALES) - 2):
        three = found[i : i + 3]
        low, high = three.min(axis=0), three.max(axis=0)
        steady = np.maximum(steady, np.where((low > high / 8) & (low > 100 * noise), high, 0.0))
    return steady


def distance_from_cubic(phi: Phi, scale: float) -> Array:
    """(outputs,) The largest distance of φ from a cubic within `scale` of 0."""
    values = np.array([phi(t) for t in scale * SPREAD], np.float64)  # (points, outputs)
    if not np.isfinite(values).all():
        return np.zeros(values.shape[1])
    basis = np.vander(SPREAD, 4)
    fit = np.linalg.lstsq(basis, values, rcond=None)[0]
    return np.asarray(np.abs(values - basis @ fit).max(axis=0))


def curve_error(phi: Phi, s: float, middle: Array, right: Array, left: Array, matrix: Array) -> Array:
    """(m,) The distance of φ from a parabola through its values at -s, 0 and s: its rounding error."""
    curves = [middle + t * s * ((right + left) + t * (right - left)) / 2 for t in INSIDE]
    return np.max([np.abs((phi(t * s) - y) @ matrix.T) for t, y in zip(INSIDE, curves, strict=True)], axis=0)


def find_kink(jump: Array, rounding: Array) -> tuple[Array, Array]:
    """Whether the slopes on the two sides differ as much for fine steps as for coarse ones (if φ is smooth
    the difference shrinks by 4 with each step, if it is noise it grows by 4); and the finest step that
    tells."""
    loud = jump > 100 * rounding
    finest = len(jump) - 1 - loud[::-1].argmax(axis=0)
    columns = np.arange(jump.shape[1])
    height = jump[finest, columns]
    gone = (np.arange(len(jump))[:, None] > finest) & (
        100 * rounding < height / 2
    )  # finer steps would show it too
    steady = ~gone.any(axis=0)
    for i in range(3):
        coarser = jump[finest - i - 1, columns]
        ratio = jump[finest - i, columns] / np.where(coarser > 0, coarser, 1.0)
        steady &= (ratio > 0.6) & (ratio < 1.7)
    return loud[finest, columns] & (finest >= 3) & steady, finest

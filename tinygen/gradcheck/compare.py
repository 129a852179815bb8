"""One variable: the tape's gradient beside differences, and the verdict.

A difference counts as wrong when it is larger than `tolerance` times the gradient's size and than ten error bars.
Entries that disagree after the first look are looked at again, `carefully`, before anything is said about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck import numeric
from tinygen.gradcheck.numeric import EPS, Probe, Runner
from tinygen.gradcheck.report import Result, Verdict, Worst
from tinygen.gradcheck.subject import Array, weights

ROWS = 64  # a function of up to so many outputs has its whole Jacobian compared
COTANGENTS = 4  # of larger ones, this many random combinations
DIRECTIONS = 8  # large variables are moved in this many random directions
LOOKS = 256  # so many disagreeing entries at most are looked at carefully


class Tape(NamedTuple):
    """What the tape says: m cotangents, and the gradient of each variable for each of them."""

    cotangents: Array  # (m, outputs)
    gradients: list[Array]  # per variable (m, *its shape)
    arrived: list[bool]  # whether anything reached the variable


def cotangents(outputs: int, rng: np.random.Generator, rows: bool = True) -> Array:
    """Each output by itself, weighted, and all of them at once; of many outputs, random combinations."""
    if rows and 1 < outputs <= ROWS:
        total = weights((outputs,), rng)
        return np.concatenate([np.diag(total), total[None]])
    return weights((1 if outputs == 1 else COTANGENTS, outputs), rng)


def pulled(subject: Any, matrix: Array) -> Tape:
    """The tape's gradients for each row of `matrix`."""
    outputs, pull = subject.record(subject.points)
    ends = np.cumsum([y.size for y in outputs])[:-1]
    rows = []
    for row in matrix:
        parts = np.split(row, ends)
        rows.append(pull([g.reshape(y.shape) for g, y in zip(parts, outputs, strict=True)]))
    gradients = [
        np.array([np.zeros(x.shape) if r[k] is None else r[k] for r in rows]).reshape(len(matrix), *x.shape)
        for k, x in enumerate(subject.points)
    ]
    return Tape(matrix, gradients, [any(r[k] is not None for r in rows) for k in range(len(subject.points))])


def rounding(run: Runner, matrix: Array) -> Array:
    """(m,) The rounding error to expect of each weighted sum of outputs. What is small among the outputs may
    have been computed from what is large, so the largest counts for all."""
    size = np.abs(matrix) @ np.abs(run(run.subject.points))
    return np.full(len(matrix), 4 * EPS * size.max(initial=0.0))


class Comparison(NamedTuple):
    """The numbers behind a Result; arrays of shape (m, probes)."""

    tape: Array
    numeric: Array
    bar: Array
    probes: list[Probe]


def first_look(run: Runner, tape: Tape, k: int, probes: Sequence[Probe], analytic: bool) -> Comparison:
    matrix = tape.cotangents
    noise = rounding(run, matrix)
    gradient = tape.gradients[k].reshape(len(matrix), -1)
    said, found, bars = [], [], []
    for probe in probes:
        phi = run.along(probe)
        if analytic:
            value, bar = numeric.complex_step(phi, lambda y: matrix @ y)
        else:
            value, bar = numeric.central(phi, lambda y: matrix @ y, noise)
        size = 1.0 if probe.entry is None else probe.direction.flat[probe.entry]
        with np.errstate(all="ignore"):
            at = gradient @ probe.direction.reshape(-1) if probe.entry is None else gradient[:, probe.entry]
        said.append(at)
        found.append(value / size)
        bars.append(bar / size)
    shape = (len(probes), len(matrix))
    return Comparison(*(np.reshape(a, shape).T for a in (said, found, bars)), list(probes))


def verdict_of(
    run: Runner, tape: Tape, comparison: Comparison, tolerance: float
) -> tuple[Verdict, Array, tuple[int, int] | None]:
    """The verdict on a variable, where it is off (m, probes), and the worst place. Values that a careful look
    has improved are written into `comparison`."""
    said, found, bar, probes = comparison
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(found), np.abs(found), 0.0)
        scale = finite.max(axis=1, keepdims=True, initial=0.0)
        difference = np.abs(said - found)
        doubtful = ~(difference <= tolerance * (1 + scale)) | (difference > tolerance * scale + 10 * bar)
    if not doubtful.any():
        return Verdict.OK, doubtful, None
    size = np.where(np.isfinite(difference), difference, np.inf)
    columns = np.flatnonzero(doubtful.any(axis=0))
    columns = columns[np.argsort(-size[:, columns].max(axis=0), kind="stable")]
    noise = rounding(run, tape.cotangents)
    worst: tuple[Verdict, tuple[int, int] | None] = (Verdict.OK, None)
    for n, j in enumerate(columns[:LOOKS]):
        if worst[0] is Verdict.WRONG and n >= 8:
            break
        probe = probes[j]
        unit = 1.0 if probe.entry is None else probe.direction.flat[probe.entry]
        look = numeric.carefully(run.along(probe), tape.cotangents, noise)
        found[:, j], bar[:, j] = look.value / unit, look.bar / unit
        verdicts = judged(said[:, j] * unit, look, scale[:, 0] * unit, tolerance)
        i = int(np.argmax([v.rank for v in verdicts]))
        if verdicts[i].rank > worst[0].rank:
            wrong = [r for r, v in enumerate(verdicts) if v is verdicts[i]]
            i = max(wrong, key=lambda r: size[r, j])
            worst = verdicts[i], (i, int(j))
    with np.errstate(all="ignore"):
        off = ~(np.abs(said - found) <= tolerance * scale + 10 * bar) if worst[1] else doubtful & False
    return worst[0], off, worst[1]


def judged(said: Array, look: numeric.Careful, scale: Array, tolerance: float) -> list[Verdict]:
    verdicts = []
    for t, d, bar, kink, low, high, s in zip(said, *look, scale, strict=True):
        slack = tolerance * (s + abs(d)) + 3 * bar
        if not np.isfinite(d) or not np.isfinite(bar):
            verdicts.append(Verdict.DOMAIN)
        elif not np.isfinite(t):
            verdicts.append(Verdict.WRONG)
        elif kink:
            allowance = tolerance * (abs(low) + abs(high)) + 3 * abs(high - low) * 1e-3
            verdicts.append(Verdict.KINK if low - allowance <= t <= high + allowance else Verdict.WRONG)
        elif abs(t - d) > slack:
            verdicts.append(Verdict.WRONG)
        elif abs(t - d) > tolerance * (1 + s):
            verdicts.append(Verdict.INCONCLUSIVE)
        else:
            verdicts.append(Verdict.OK)
    return verdicts


def check(
    run: Runner, tape: Tape, k: int, probes: Sequence[Probe], tolerance: float, order: int, analytic: bool
) -> Result:
    subject = run.subject
    comparison = first_look(run, tape, k, probes, analytic)
    verdict, off, place = verdict_of(run, tape, comparison, tolerance)
    if verdict is Verdict.WRONG and not tape.gradients[k].any():
        verdict = Verdict.DEAD
    said, found, bar, _ = comparison
    worst = None
    if place is not None:
        i, j = place
        entry = probes[j].entry
        index = None if entry is None else tuple(map(int, np.unravel_index(entry, subject.points[k].shape)))
        worst = Worst(index, float(said[i, j]), float(found[i, j]), float(bar[i, j]))
    with np.errstate(all="ignore"):
        difference = np.abs(said - found)
    entries = sum(p.entry is not None for p in probes)
    return Result(
        subject.names[k],
        subject.points[k].shape,
        verdict,
        entries,
        len(probes) - entries,
        int(off.any(axis=0).sum()),
        float(np.max(difference, initial=0.0)),
        worst,
        order,
    )

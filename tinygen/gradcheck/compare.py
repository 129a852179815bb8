"""The verdict on one variable: the gradient of the tape compared with finite differences.

The two disagree if their distance is larger than `tolerance` times the size of the gradient plus ten error
bars. Numbers that disagree are computed again with a ladder of step sizes before the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tinygen.gradcheck import numeric
from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.numeric import EPS, Careful, Probe, join_flat, line
from tinygen.gradcheck.report import Result, Verdict, Worst
from tinygen.gradcheck.subject import Subject

ROWS = 64  # with at most so many outputs the whole Jacobian is compared,
ENTRIES = 10**7  # if it has at most so many entries;
COTANGENTS = 4  # otherwise so many random combinations of its rows
FLOOR = 1e-12  # smaller differences count as 0, since 1 + 1e-17 is 1
LOOKS = 256  # disagreeing entries at most that are computed again


class Tape(NamedTuple):
    """The gradients of the tape: by each variable, for each of m cotangents."""

    cotangents: Array  # (m, outputs)
    gradients: list[Array]  # per variable (m, *its shape)
    noise: float  # the expected rounding error of <cotangent, outputs>


def cotangents(outputs: int, rng: np.random.Generator, rows: bool = True) -> Array:
    """A matrix of cotangents: each output alone and all together, or random combinations of many outputs."""
    if rows and 1 < outputs <= ROWS:
        together = weights((outputs,), rng)
        return np.concatenate([np.diag(together), together[None]])
    return weights((1 if outputs == 1 else COTANGENTS, outputs), rng)


def record_tape(
    subject: Subject, rng: np.random.Generator, rows: bool = True, inside: Sequence[Array] = ()
) -> Tape:
    """The gradients of the tape for a matrix of cotangents. `inside` are intermediate arrays: the rounding
    error depends on their size."""
    outputs, pull = subject.record(subject.points)
    size = sum(y.size for y in outputs)
    few = size * sum(x.size for x in subject.points) <= ENTRIES
    matrix = cotangents(size, rng, rows and few)
    ends = np.cumsum([y.size for y in outputs])[:-1]
    found = []
    for row in matrix:
        parts = np.split(row, ends)
        found.append(pull([np.array(g.reshape(y.shape)) for g, y in zip(parts, outputs, strict=True)]))
    gradients = [
        np.array([np.zeros(x.shape) if r[k] is None else r[k] for r in found]).reshape(len(matrix), *x.shape)
        for k, x in enumerate(subject.points)
    ]
    return Tape(matrix, gradients, rounding(matrix, outputs, inside))


def rounding(matrix: Array, outputs: Sequence[Array], inside: Sequence[Array]) -> float:
    """The expected rounding error of <cotangent, outputs>. A small number may be the difference of large
    ones, so the largest row and the largest intermediate number count for all rows."""
    arrays = [*outputs, *(y for y in inside if y.dtype.kind == "f")]
    eps = max((float(np.finfo(y.dtype).eps) for y in arrays), default=EPS)
    weighted = np.abs(matrix) * np.abs(join_flat(outputs))
    sums = np.minimum(4 * weighted.sum(axis=1), 16 * np.sqrt((weighted * weighted).sum(axis=1)))
    largest = max((float(np.abs(y[np.isfinite(y)]).max(initial=0.0)) for y in arrays), default=0.0)
    return eps * max(float(sums.max(initial=0.0)), 4 * largest)


class Comparison(NamedTuple):
    """Three numbers for each cotangent and each probe: (m, probes)."""

    tape: Array
    numeric: Array
    bar: Array


Differences = Callable[[numeric.Phi, Array, float], numeric.Slopes]


def first_look(
    subject: Subject, tape: Tape, k: int, probes: Sequence[Probe], differences: Differences
) -> tuple[Comparison, list[str]]:
    """Tape and differences along each probe; and the error that the function raises there, or ""."""
    gradient = tape.gradients[k].reshape(len(tape.cotangents), -1)
    rows, errors = [], []
    for probe in probes:
        refused: list[str] = []
        value, bar = differences(line(subject, probe, 1.0, refused), tape.cotangents, tape.noise)
        flat = probe.direction.reshape(-1)
        said = gradient @ flat if probe.entry is None else gradient[:, probe.entry]
        rows.append((said, value / probe.size, bar / probe.size))
        errors.append(refused[0] if refused else "")
    table = np.array(rows).reshape(len(probes), 3, len(tape.cotangents))
    return Comparison(*table.transpose(1, 2, 0).copy()), errors


class Judgement(NamedTuple):
    verdict: Verdict
    off: Array  # (m, probes): True if tape and differences disagree
    place: tuple[int, int] | None  # the worst of them


def judge(
    subject: Subject, tape: Tape, probes: Sequence[Probe], comparison: Comparison, tolerance: float
) -> Judgement:
    """The verdict on one variable. Better values of the differences are written into `comparison`."""
    said, found, bar = comparison
    scale = np.where(np.isfinite(found), np.abs(found), 0.0).max(axis=1, initial=0.0)  # (m,)
    distance = np.abs(said - found)
    doubtful = ~(distance <= np.minimum(tolerance * (1 + scale), tolerance * scale + 10 * bar.T + FLOOR).T)
    if not doubtful.any():
        return Judgement(Verdict.OK, doubtful, None)
    size = np.where(np.isfinite(distance), distance, np.inf)
    columns = np.flatnonzero(doubtful.any(axis=0))
    columns = columns[np.argsort(-size[:, columns].max(axis=0), kind="stable")]
    worst, place = Verdict.OK, None
    for j in columns[:LOOKS].tolist():
        if worst is Verdict.WRONG:
            break
        unit = probes[j].size
        look, verdicts = careful_look(subject, tape, probes[j], said[:, j] * unit, scale * unit, tolerance)
        found[:, j], bar[:, j] = look.value / unit, look.bar / unit
        worse = max(verdicts, key=lambda v: v.rank)
        if worse.rank > worst.rank:
            rows = [i for i, v in enumerate(verdicts) if v is worse]
            worst, place = worse, (max(rows, key=lambda i: float(size[i, j])), j)
    if worst is Verdict.OK:
        return Judgement(worst, np.zeros_like(doubtful), None)
    off = ~(np.abs(said - found) <= (tolerance * scale + np.where(np.isfinite(bar), bar, 0.0).T + FLOOR).T)
    return Judgement(worst, off & doubtful, place)


def step_height(subject: Subject, tape: Tape) -> float:
    """The height of steps in <cotangent, outputs>, which float32 inside the function causes; 0 without
    steps."""
    heights = numeric.grain(subject, tape.noise)
    if not heights.any():
        return 0.0  # smooth: the usual case
    most = np.abs(tape.cotangents) @ heights
    likely = 4 * np.sqrt(tape.cotangents**2 @ heights**2)
    return float(np.minimum(most, likely).max())


def careful_look(
    subject: Subject, tape: Tape, probe: Probe, said: Array, scale: Array, tolerance: float
) -> tuple[Careful, list[Verdict]]:
    """Slopes along one line with a ladder of steps, and the verdicts. If they are not OK, the other scales of
    the line are tried, since a small number among large ones, or a difference of large ones, has its own
    scale."""

    def look_at(times: float) -> Careful:
        least = numeric.finest_step(subject.points, probe, times)
        return numeric.slopes_on_ladder(line(subject, probe, times), tape.cotangents, tape.noise, least)

    look = look_at(1.0)
    verdicts = verdicts_of(said, look, scale, tolerance)
    for times in probe.others:
        if all(v is Verdict.OK for v in verdicts):
            break
        other = look_at(times)
        low, high = other.low / times, other.high / times
        other = Careful(other.value / times, other.bar / times, other.kink, low, high)
        better = other.bar < look.bar
        look = Careful(*(np.where(better, b, a) for a, b in zip(look, other, strict=True)))
        verdicts = verdicts_of(said, look, scale, tolerance)
    return look, verdicts


def verdicts_of(said: Array, look: Careful, scale: Array, tolerance: float) -> list[Verdict]:
    """One verdict per cotangent."""
    verdicts = []
    for t, d, bar, kink, low, high, s in zip(said, *look, np.fmax(scale, np.abs(look.value)), strict=True):
        if not (np.isfinite(d) and np.isfinite(bar)):
            verdicts.append(Verdict.DOMAIN)
        elif kink and np.isfinite(t):
            slack = tolerance * s + 3e-3 * (high - low)
            outside = max(low - t, t - high)
            verdicts.append(
                Verdict.KINK
                if outside <= slack
                else Verdict.WRONG
                if outside > high - low
                else Verdict.INCONCLUSIVE
            )
        elif not abs(t - d) <= tolerance * s + 3 * bar + FLOOR:
            verdicts.append(Verdict.WRONG)
        elif abs(t - d) > tolerance * (1 + s):
            verdicts.append(Verdict.INCONCLUSIVE)
        else:
            verdicts.append(Verdict.OK)
    return verdicts


def check(
    subject: Subject,
    tape: Tape,
    k: int,
    probes: Sequence[Probe],
    tolerance: float,
    differences: Differences = numeric.central_differences,
) -> Result:
    """Compare tape and differences along `probes`, which all move variable `k`."""
    comparison, errors = first_look(subject, tape, k, probes, differences)
    stuck = [bool(error) and probe.entry is not None for error, probe in zip(errors, probes, strict=True)]
    if any(stuck) and not all(stuck):  # the function is defined for the other entries
        free = ~np.array(stuck)
        probes = [probe for probe, is_free in zip(probes, free, strict=True) if is_free]
        comparison = Comparison(*(table[:, free] for table in comparison))
    verdict, off, place = judge(subject, tape, probes, comparison, tolerance)
    if verdict is Verdict.WRONG and (steps := step_height(subject, tape)) > tape.noise:
        tape = tape._replace(noise=steps)
        verdict, off, place = judge(subject, tape, probes, comparison, tolerance)
    if verdict is Verdict.WRONG and not tape.gradients[k].any():
        verdict = Verdict.DEAD
    said, found, bar = comparison
    worst = None
    if place is not None:
        i, j = place
        entry = probes[j].entry
        index = None if entry is None else tuple(map(int, np.unravel_index(entry, subject.points[k].shape)))
        worst = Worst(index, float(said[i, j]), float(found[i, j]), float(bar[i, j]))
    distance = float(np.abs(said - found).max(initial=0.0))
    entries = sum(p.entry is not None for p in probes)
    return Result(
        subject.names[k],
        subject.points[k].shape,
        verdict,
        entries,
        len(probes) - entries,
        int(off.any(axis=0).sum()),
        distance,
        worst,
        refused=next((error for error in errors if error), ""),
        stuck=sum(stuck),
        idle=bool(verdict is Verdict.OK and not found.any() and not said.any() and subject.points[k].size),
    )


def locate_wrong_entry(subject: Subject, tape: Tape, k: int, tolerance: float) -> Worst | None:
    """A wrong entry in the gradient by a large variable, found by bisection: the slopes along the two halves
    show which half has the larger error."""
    x = subject.points[k]
    row = tape.cotangents[:1]
    gradient = tape.gradients[k][0].reshape(-1)
    rng = np.random.default_rng(0)
    direction = (weights(x.shape, rng) * np.maximum(1.0, np.abs(x))).reshape(-1)
    low, high = 0, x.size
    while high - low > 1:
        middle = (low + high) // 2
        errors = []
        for a, b in ((low, middle), (middle, high)):
            part = np.zeros(x.size)
            part[a:b] = direction[a:b]
            value, bar = numeric.central_differences(
                line(subject, Probe(k, part.reshape(x.shape), None, 1.0, ())), row, tape.noise
            )
            errors.append(abs(float(gradient @ part - value[0])) / (1e-300 + float(bar[0])))
        low, high = (low, middle) if errors[0] >= errors[1] else (middle, high)
    probe = next(numeric.entry_probes(subject.points, k, [low]))
    value, bar = numeric.central_differences(line(subject, probe), row, tape.noise)
    off = abs(float(gradient[low] - value[0] / probe.size))
    if not off > tolerance * abs(float(value[0])) / probe.size:
        return None
    index = tuple(map(int, np.unravel_index(low, x.shape)))
    return Worst(index, float(gradient[low]), float(value[0] / probe.size), float(bar[0] / probe.size))

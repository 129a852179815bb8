"""One variable: the tape's gradient beside differences, and the verdict.

A difference is wrong when it is larger than `tolerance` times the gradient's size plus ten error bars. What
disagrees at the first look is looked at again, `carefully`, before anything is said about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tinygen.gradcheck import numeric
from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.numeric import EPS, Careful, Probe, in_a_row, line
from tinygen.gradcheck.report import Result, Verdict, Worst
from tinygen.gradcheck.subject import Subject

ROWS = 64  # of a function with up to so many outputs the whole Jacobian is compared,
ENTRIES = 10**7  # unless that is larger than this,
COTANGENTS = 4  # of a larger one so many random combinations of its rows
FLOOR = 1e-12  # differences below that are nothing: 1 + 1e-17 is 1
LOOKS = 256  # so many disagreeing entries at most are looked at carefully


class Tape(NamedTuple):
    """What the tape says: for each of m cotangents the gradient by each variable."""

    cotangents: Array  # (m, outputs)
    gradients: list[Array]  # per variable (m, *its shape)
    noise: float  # the rounding error to expect of <cotangent, outputs>


def cotangents(outputs: int, rng: np.random.Generator, rows: bool = True) -> Array:
    """Each output by itself, weighted, and all of them at once; of many outputs, random combinations."""
    if rows and 1 < outputs <= ROWS:
        together = weights((outputs,), rng)
        return np.concatenate([np.diag(together), together[None]])
    return weights((1 if outputs == 1 else COTANGENTS, outputs), rng)


def record_tape(
    subject: Subject, rng: np.random.Generator, rows: bool = True, inside: Sequence[Array] = ()
) -> Tape:
    """The tape's gradients for a matrix of cotangents. `inside` are arrays that the outputs are computed
    from: they tell how much rounding there is to expect."""
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
    """The rounding error to expect of <cotangent, outputs>. What is small may have been computed from what is
    large, so the largest of the rows, and of the numbers inside, counts for all."""
    arrays = [*outputs, *(y for y in inside if y.dtype.kind == "f")]
    eps = max((float(np.finfo(y.dtype).eps) for y in arrays), default=EPS)
    weighted = np.abs(matrix) * np.abs(in_a_row(outputs))
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
    """Tape and differences along each probe; and for each, what the function raises there, if it does."""
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
    off: Array  # (m, probes): where they disagree
    place: tuple[int, int] | None  # the worst of them


def judge(
    subject: Subject, tape: Tape, probes: Sequence[Probe], comparison: Comparison, tolerance: float
) -> Judgement:
    """The verdict on one variable. What careful looks improve is written into `comparison`."""
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
    """What steps in the outputs, as float32 inside makes them, come to in <cotangent, outputs>; 0: none."""
    heights = numeric.grain(subject, tape.noise)
    if not heights.any():
        return 0.0  # smooth, as nearly always
    most = np.abs(tape.cotangents) @ heights
    likely = 4 * np.sqrt(tape.cotangents**2 @ heights**2)
    return float(np.minimum(most, likely).max())


def careful_look(
    subject: Subject, tape: Tape, probe: Probe, said: Array, scale: Array, tolerance: float
) -> tuple[Careful, list[Verdict]]:
    """A careful look at one line, and the verdicts; while they are not OK, on the line's other scales too: a
    small number among large ones has a scale of its own, and so has the difference of large ones."""

    def look_at(times: float) -> Careful:
        least = numeric.finest(subject.points, probe, times)
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
    differences: Differences = numeric.central,
) -> Result:
    """Compare along `probes`, all of which move variable `k`."""
    comparison, errors = first_look(subject, tape, k, probes, differences)
    stuck = [bool(error) and probe.entry is not None for error, probe in zip(errors, probes, strict=True)]
    if any(stuck) and not all(stuck):  # the others are what the function is defined for
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
    """An entry of a large variable where the gradient is wrong, by halving: the directional derivative along
    either half of the entries tells in which half the larger mistake is."""
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
            value, bar = numeric.central(
                line(subject, Probe(k, part.reshape(x.shape), None, 1.0, ())), row, tape.noise
            )
            errors.append(abs(float(gradient @ part - value[0])) / (1e-300 + float(bar[0])))
        low, high = (low, middle) if errors[0] >= errors[1] else (middle, high)
    probe = next(numeric.entry_probes(subject.points, k, [low]))
    value, bar = numeric.central(line(subject, probe), row, tape.noise)
    off = abs(float(gradient[low] - value[0] / probe.size))
    if not off > tolerance * abs(float(value[0])) / probe.size:
        return None
    index = tuple(map(int, np.unravel_index(low, x.shape)))
    return Worst(index, float(gradient[low]), float(value[0] / probe.size), float(bar[0] / probe.size))

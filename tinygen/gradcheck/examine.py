"""The course of a check: structure first, then numbers, then, if something is wrong, what and where."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck import locate, structure
from tinygen.gradcheck.analytic import agrees, is_analytic
from tinygen.gradcheck.compare import Tape, check, located, pulled
from tinygen.gradcheck.diagnosis import diagnose
from tinygen.gradcheck.numeric import central, complex_step, entry_probes, random_probes
from tinygen.gradcheck.report import Culprit, Finding, Kind, Report, Result, Verdict, nearby
from tinygen.gradcheck.steps import Step, steps_of
from tinygen.gradcheck.subject import Function, Gradient, Subject

DIRECTIONS = 8  # in which a large variable is moved, instead of entry by entry
SLOW = 10.0  # seconds: what takes longer is announced
BAD = (Verdict.WRONG, Verdict.DEAD)


class Settings(NamedTuple):
    tolerance: float
    max_entries: int
    max_seconds: float
    rng: np.random.Generator


def examine(report: Report, base: Any, order: int, settings: Settings) -> None:
    """Check the first or the second order of `base`, and add what is found to `report`."""
    subject: Subject = base if order == 1 else Gradient(base, settings.rng)
    results = [Result(name, x.shape, Verdict.OK, order=order) for name, x in zip(subject.names, subject.points, strict=True)]
    whole = list(structure.of_values(subject))
    steps = steps_of(base.call(base.points)[1]) if isinstance(base, Function) else []
    by_step = list(of_steps(base, steps, settings.rng)) if order == 1 else []
    tape = None
    if not whole:
        try:
            whole += structure.of_gradients(subject, settings.rng)
            tape = pulled(subject, settings.rng, rows=order == 1)
        except Exception as error:
            whole.append(locate.raised(error, "the gradient" + " of the gradient" * (order - 1)))
    if tape is not None:
        results = numbers(report, subject, tape, steps, order, settings)
    for f in whole:
        for r in results if tape is None or f.verdict is Verdict.NONDETERMINISTIC else ():
            if f.variable in (None, r.name):
                r.verdict = f.verdict
    culprit, explained = None, []
    if tape is not None or any(f.kind is Kind.RAISES for f in whole):
        culprit, explained = explain(subject, steps, results, order, settings, tape is not None)
    if culprit is None:
        culprit = first_of(steps, by_step, {f.kind for f in whole})
    report.results += results
    report.findings += merged(culprit, explained, by_step, whole)
    report.culprit = report.culprit or culprit


# -- structure, op by op ---------------------------------------------------------------------------


def of_steps(base: Any, steps: Sequence[Step], rng: np.random.Generator) -> Iterator[Finding]:
    """What can be said of each op by itself, in float64 and in float32, where its fast kernels run."""
    for step in steps:
        try:
            for finding in structure.of_step(step, rng):
                yield locate.at(step, finding)
        except Exception as error:
            yield locate.raised(error, f"the gradient of `{step.node.op.name}`", step)
    if not steps:
        return
    try:
        narrow = steps_of(base.call([x.astype(np.float32) for x in base.points])[1])
        for step in narrow:
            for finding in structure.of_dtype(step, rng):
                yield locate.at(step, finding)
    except Exception:  # a function may insist on float64: then there is no other dtype to speak of
        return


def first_of(steps: Sequence[Step], findings: Sequence[Finding], whole: set[Kind]) -> Culprit | None:
    """The op to blame where the numbers blame none."""
    serious = [f for f in findings if f.kind is not Kind.DTYPE and excused(f, whole)]
    for f in serious or [f for f in findings if f.kind is Kind.DTYPE]:
        step = next(s for s in steps if (s.node.op.name, s.node.where) == (f.op, f.where))
        return locate.accused(step, [f.variable] if f.variable else [])
    return None


def excused(f: Finding, whole: set[Kind]) -> bool:
    """An op may well make infinities, if they are gone in the end."""
    return f.kind is not Kind.DOMAIN or Kind.DOMAIN in whole


# -- numbers ---------------------------------------------------------------------------------------


def numbers(
    report: Report, subject: Subject, tape: Tape, steps: Sequence[Step], order: int, settings: Settings
) -> list[Result]:
    """Compare every variable with differences: entry by entry while that is at most `max_entries`, else small
    ones entry by entry and large ones in random directions."""
    points, rng = subject.points, settings.rng
    few = sum(x.size for x in points) <= settings.max_entries
    single = [few or x.size <= settings.max_entries // (4 * len(points)) for x in points]
    analytic = [order == 1 and is_analytic(steps) and x.size > 8 and agrees(subject, tape, k, rng) for k, x in enumerate(points)]
    counts = [x.size if s else min(x.size, DIRECTIONS) for x, s in zip(points, single, strict=True)]
    planned = sum(n * (1 if a else 4) for n, a in zip(counts, analytic, strict=True))
    affordable(subject, planned, settings.max_seconds)
    results = []
    for k, x in enumerate(points):
        probes = list(entry_probes(points, k, range(x.size))) if single[k] else random_probes(points, k, DIRECTIONS, rng)
        result = check(subject, tape, k, probes, settings.tolerance, complex_step if analytic[k] else central)
        if result.verdict in BAD and not single[k]:
            result.worst = located(subject, tape, k, settings.tolerance) or result.worst
        result.order = order
        results.append(result)
    return results


def affordable(subject: Subject, planned: int, max_seconds: float) -> None:
    """Say on stderr what a long check will cost; raise ValueError, with advice, when it is more than allowed."""
    start = time.perf_counter()
    subject.evaluate(subject.points)
    once = time.perf_counter() - start
    cost = f"gradcheck: {planned:,} forward runs of {once:.2g} s each, about {planned * once:.0f} s"
    if planned * once > max_seconds:
        raise ValueError(
            f"{cost}: more than max_seconds={max_seconds:g}. Check at smaller shapes, or pass a smaller max_entries= "
            "(variables above it are moved in random directions), or a larger max_seconds="
        )
    if planned * once > SLOW:
        print(cost, file=sys.stderr)


# -- explanations ----------------------------------------------------------------------------------


def explain(
    subject: Subject,
    steps: Sequence[Step],
    results: Sequence[Result],
    order: int,
    settings: Settings,
    pulls: bool,
) -> tuple[Culprit | None, list[Finding]]:
    """The culprit, and findings for every variable that is not OK."""
    rng, tolerance = settings.rng, settings.tolerance
    bad = [k for k, r in enumerate(results) if r.verdict in BAD]
    findings: list[Finding] = []
    culprit = None
    if bad:
        found = locate.culprit(steps, order, rng, tolerance)
        if found is not None:
            culprit, findings = found
        elif pulls:
            for k in bad:
                cut = locate.severed(subject, k) if isinstance(subject, Function) else None
                findings.append(cut or diagnose(subject, k, rng, f"the gradient by {subject.names[k]}"))
    for r in results:
        if r.verdict in (Verdict.KINK, Verdict.INCONCLUSIVE, Verdict.DOMAIN):
            step = locate.first(steps, r.verdict, rng, tolerance) if order == 1 else None
            findings.append(undecided(r, step, steps))
    return culprit, findings


def undecided(r: Result, step: Step | None, steps: Sequence[Step]) -> Finding:
    """Why a variable is neither right nor wrong, and what to do."""
    place = f"{r.name}{list(r.worst.index)}" if r.worst and r.worst.index is not None else r.name
    by = f" (`{step.node.op.name}`, called at {nearby(step.node.where)})" if step else ""
    if r.verdict is Verdict.KINK:
        text = f"the slopes on the two sides of {place} differ{by}: check at inputs that are not on the kink"
        kind = Kind.KINK
    elif r.verdict is Verdict.DOMAIN:
        text = f"no differences can be taken at {place}{by}: it stands at the edge of where the function is finite"
        kind = Kind.DOMAIN
    else:
        narrow = next((s for s in steps if any(y.dtype.itemsize < 8 for y in s.outputs)), None)
        why = (
            f"`{narrow.node.op.name}`, called at {nearby(narrow.node.where)}, computes in {narrow.outputs[0].dtype}"
            if narrow
            else "the function may be noisy or change very fast here, or compute in float32 inside"
        )
        text = f"differences at {place} are off by more than the tolerance themselves: {why}"
        kind = Kind.INCONCLUSIVE
    finding = Finding(kind, text, r.verdict, r.name)
    return locate.at(step, finding) if step else finding


def merged(
    culprit: Culprit | None, explained: Sequence[Finding], by_step: Sequence[Finding], whole: Sequence[Finding]
) -> list[Finding]:
    """All findings, what explains most first, and each said once."""
    kinds = {f.kind for f in whole}
    by_step = [f for f in by_step if excused(f, kinds)]
    lesser = (Kind.DTYPE, Kind.LAYOUT)
    blamed = [f for f in by_step if culprit and (f.op, f.where) == (culprit.op, culprit.where) and f.kind not in lesser]
    if blamed:
        explained = [f for f in explained if f.kind is not Kind.UNEXPLAINED]
    named = {f.kind for f in [*explained, *by_step]}
    rest = [f for f in whole if f.kind not in named and not (f.kind is Kind.RAISES and Kind.SHAPE in named)]
    found: dict[tuple[Any, ...], Finding] = {}
    for f in [*explained, *blamed, *by_step, *rest]:
        same_op = (f.kind, f.op, f.where if f.op else f.variable)
        found.setdefault((*same_op, f.variable) if f in explained else same_op, f)
    return list(found.values())

"""The whole check: structure, numbers, and for a wrong gradient its kind and place."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck import one_op, structure
from tinygen.gradcheck.analytic import agrees, is_analytic
from tinygen.gradcheck.compare import Tape, check, locate_wrong_entry, record_tape
from tinygen.gradcheck.declarations import Declarations
from tinygen.gradcheck.explain import BAD, Settings, explain, merge_findings, suspect
from tinygen.gradcheck.float32 import run_in_float32
from tinygen.gradcheck.locate import error_finding, with_place
from tinygen.gradcheck.numeric import central_differences, complex_step, entry_probes, random_probes
from tinygen.gradcheck.report import Culprit, Finding, Kind, Report, Result, Verdict
from tinygen.gradcheck.steps import Step, steps_at
from tinygen.gradcheck.subject import Function, Gradient, Subject
from tinygen.tensor import Tensor

DIRECTIONS = 8  # random directions for a large variable, instead of entry by entry
SLOW = 10.0  # seconds: a longer check is announced on stderr


def examine(report: Report, base: Any, order: int, settings: Settings) -> None:
    """Check the first or the second order of `base`, and add the results to `report`."""
    rng = settings.rng
    subject: Subject = base if order == 1 else Gradient(base, rng)
    if isinstance(subject, Gradient) and not subject.reached:
        return  # no gradient, and the first order found that right
    whole = list(structure.value_findings(subject))
    steps = steps_at(base, base.points) if isinstance(base, Function) else []
    by_step = list(steps_findings(steps, rng)) if order == 1 else []
    if order == 1 and isinstance(base, Function):
        beside = list(unchecked_variables(base, steps))
        declared = Declarations(settings.intended, steps)
        if declared:
            base.stand_in = declared.stand_in(base)
        narrow = run_in_float32(base, steps, rng.spawn(1)[0])
        by_step += narrow.findings
        report.notes += [*dict.fromkeys([*declared.notes(), *beside, *narrow.notes])]
        report.implementations = narrow.summary
        steps = [s for s in steps if s not in declared.steps]
    tape = None
    if not whole:
        try:
            whole += structure.gradient_findings(subject, rng)
            tape = record_tape(subject, rng, order == 1, [y for step in steps for y in step.outputs])
        except Exception as error:
            whole.append(error_finding(error, "the gradient", order=order))
    if tape is None:
        shapes = zip(subject.names, subject.points, strict=True)
        results = [Result(name, x.shape, whole[0].verdict, order=order) for name, x in shapes]
    else:
        results = numbers(subject, tape, steps, order, settings)
        unsteady = [f.variable for f in whole if f.verdict is Verdict.NONDETERMINISTIC]
        for r in results:
            if None in unsteady or r.name in unsteady:
                r.verdict = Verdict.NONDETERMINISTIC
    culprit: Culprit | None = None
    explained: list[Finding] = []
    if tape is not None or whole[0].kind in (Kind.RAISES, Kind.UNSUPPORTED):
        culprit, explained = explain(subject, steps, results, tape is not None, settings)
    if culprit is None:
        culprit = suspect(steps, by_step, {f.kind for f in whole})
    report.results += results
    report.findings += merge_findings(culprit, explained, by_step, whole)
    report.culprit = report.culprit or culprit


def steps_findings(steps: Sequence[Step], rng: np.random.Generator) -> Iterator[Finding]:
    """The checks of each op alone."""
    for step in steps:
        try:
            for finding in one_op.step_findings(step, rng):
                yield with_place(step, finding)
        except Exception as error:
            yield error_finding(error, f"the gradient of `{step.node.name}`", step)


def unchecked_variables(base: Function, steps: Sequence[Step]) -> Iterator[str]:
    """Notes on what is not checked: leaves of the tape that are not variables, arrays inside objects."""
    ours = {id(v) for v in base.recorded}
    names = {id(t): path for path, t in base.held.tensors}
    leaves = [x for step in steps for x in step.node.inputs if isinstance(x, Tensor) and x.requires_grad]
    found = {id(x): names.get(id(x), f"a tensor of shape {x.shape}") for x in leaves if id(x) not in ours}
    if found:
        some = [*found.values()][:5]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        yield (
            f"not checked: {', '.join(some)}{more}, which the function reaches without being given them. "
            "Pass the Module itself (for a loss around it, a Module that holds it), or make them arguments"
        )
    for name in base.overlooked:
        yield f"not checked: the arrays inside {name}: pass arrays, or dicts, lists, tuples of them"


# -- numbers ---------------------------------------------------------------------------------------


def numbers(
    subject: Subject, tape: Tape, steps: Sequence[Step], order: int, settings: Settings
) -> list[Result]:
    """Compare the gradient by every variable with differences: entry by entry for up to `max_entries` entries
    in all, else small variables entry by entry and large ones in random directions."""
    points, rng = subject.points, settings.rng
    few = sum(x.size for x in points) <= settings.max_entries
    singly = [few or x.size <= settings.max_entries // (4 * len(points)) for x in points]
    by_complex = [False] * len(points)
    if order == 1 and is_analytic(steps):
        by_complex = [x.size > DIRECTIONS and agrees(subject, tape, k, rng) for k, x in enumerate(points)]
    counts = [x.size if single else DIRECTIONS for x, single in zip(points, singly, strict=True)]
    check_cost(subject, sum(n * (1 if c else 4) for n, c in zip(counts, by_complex, strict=True)), settings)
    results: list[Result] = []
    for k, x in enumerate(points):
        if singly[k]:
            probes = list(entry_probes(points, k, range(x.size)))
        else:
            probes = random_probes(points, k, DIRECTIONS, rng)
        differences = complex_step if by_complex[k] else central_differences
        result = check(subject, tape, k, probes, settings.tolerance, differences)
        if result.verdict in BAD and not singly[k] and not any(r.verdict in BAD for r in results):
            result.worst = (
                locate_wrong_entry(subject, tape, k, settings.tolerance) or result.worst
            )  # of the first only
        result.order = order
        results.append(result)
    return results


def check_cost(subject: Subject, planned: int, settings: Settings) -> None:
    """Announce the cost of a long check on stderr. Raise ValueError, with advice, if it is too long."""
    start = time.perf_counter()
    subject.evaluate(subject.points)
    once = time.perf_counter() - start
    cost = f"gradcheck: {planned:,} forward runs of {once:.2g} s each, about {planned * once:.0f} s"
    if planned * once > settings.max_seconds:
        raise ValueError(
            f"{cost}, more than max_seconds={settings.max_seconds:g}. Check at smaller shapes, or pass a "
            "smaller max_entries= (variables are then moved in random directions) or a larger max_seconds="
        )
    if planned * once > SLOW:
        print(cost, file=sys.stderr)

"""The wrong op: the first one on the tape, in order of execution, that is wrong at its actual inputs.

Each step is checked alone, in a few random directions. If all steps are right and the whole is wrong, some
value left the tape (`.numpy()`, `.detach()`, a plain number) and was used as a constant: `find_detachment`
finds the place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.arguments import weights
from tinygen.gradcheck.compare import check, record_tape
from tinygen.gradcheck.diagnosis import diagnose
from tinygen.gradcheck.numeric import STEP, entry_probes, random_probes
from tinygen.gradcheck.parts import real_subject
from tinygen.gradcheck.report import Culprit, Finding, Kind, Result, Verdict, short_place
from tinygen.gradcheck.steps import Step, steps_of
from tinygen.gradcheck.structure import all_equal, is_equal
from tinygen.gradcheck.subject import Function, Gradient, Subject

DIRECTIONS = 2
ENTRIES = 1024  # arguments of the culprit up to this size are compared entry by entry
BAD = (Verdict.WRONG, Verdict.DEAD)


def culprit(
    steps: Sequence[Step], order: int, rng: np.random.Generator, tolerance: float
) -> tuple[Culprit, list[Finding]] | None:
    """The first step with a wrong gradient, and its mistakes; None if all steps are right."""
    for step in steps:
        what = f"the gradient of `{step.node.name}`"
        subject: Any = step if order == 2 else real_subject(step)
        if order == 2 and real_subject(step) is not step:
            continue  # a second order in parts is not known here
        try:
            if order == 2:
                subject = Gradient(step, rng)
                if not all_equal(subject.record(subject.points)[0], subject.evaluate(subject.points)):
                    return culprit_of(step, subject.names), [replay_finding(step)]
            found = where(subject, step, BAD, rng, tolerance)
        except Exception as error:
            return culprit_of(step, subject.names), [error_finding(error, what, step, order)]
        if found:
            again = " (second order)" * (order - 1)
            names = [subject.names[k] for k in found]
            findings = inner_findings(subject, step, rng, tolerance) if order == 2 else []
            findings = findings or [
                diagnose(subject, k, rng, f"{what} by its {subject.names[k]}{again}") for k in found
            ]
            findings.sort(key=lambda f: (f.vague, f.other is not None))
            result = compare_entries(subject, step, found[0], rng, tolerance)
            return culprit_of(step, names, result), [with_place(step, f) for f in findings]
    return None


def inner_findings(
    subject: Gradient, step: Step, rng: np.random.Generator, tolerance: float
) -> list[Finding]:
    """The mistakes of the first wrong op among those that the rules of `step` call. The gradients of these
    ops are needed for the second order only."""
    for inner in steps_of(subject.run_on_tape(subject.points)[1]):
        theirs = real_subject(inner)
        what = f"in the rules of `{step.node.name}`, the gradient of `{inner.node.name}`"
        found = where(theirs, inner, BAD, rng, tolerance)
        if found:
            return [diagnose(theirs, k, rng, f"{what} by its {theirs.names[k]}") for k in found]
    return []


def where(
    subject: Subject, step: Step, verdicts: Collection[Verdict], rng: np.random.Generator, tolerance: float
) -> list[int]:
    """The variables of `subject`, the step or its gradient, on which the verdict is one of these."""
    tape = record_tape(subject, rng, False, step.outputs)
    found = []
    for k in range(len(subject.points)):
        probes = random_probes(subject.points, k, DIRECTIONS, rng)
        result = check(subject, tape, k, probes, tolerance)
        size = subject.points[k].size
        if result.refused and size <= ENTRIES:  # all entries at once raise an error: try them one by one
            probes = list(entry_probes(subject.points, k, range(size)))
            result = check(subject, tape, k, probes, tolerance)
        if result.verdict in verdicts:
            found.append(k)
    return found


def compare_entries(
    subject: Subject, step: Step, k: int, rng: np.random.Generator, tolerance: float
) -> Result:
    """The comparison entry by entry, to find the worst entry; for large arguments, some entries."""
    x = subject.points[k]
    entries = (
        range(x.size) if x.size <= ENTRIES else rng.choice(x.size, ENTRIES // 16, replace=False).tolist()
    )
    tape = record_tape(subject, rng, inside=step.outputs)
    return check(subject, tape, k, list(entry_probes(subject.points, k, entries)), tolerance)


def first_step(
    steps: Sequence[Step], verdict: Verdict, rng: np.random.Generator, tolerance: float
) -> Step | None:
    """The first step with this verdict on one of its arguments."""
    return next((s for s in steps if where(real_subject(s), s, (verdict,), rng, tolerance)), None)


def culprit_of(step: Step, arguments: Sequence[str], result: Result | None = None) -> Culprit:
    return Culprit(
        step.node.name,
        step.node.where,
        step.call_text,
        [name.removeprefix("argument ") for name in arguments],
        result,
    )


def with_place(step: Step, finding: Finding) -> Finding:
    finding.op, finding.where = step.node.name, step.node.where
    return finding


def error_finding(error: Exception, what: str, step: Step | None = None, order: int = 1) -> Finding:
    finding = Finding(Kind.RAISES, f"{what} raises {type(error).__name__}: {error}")
    if order == 2 and isinstance(error, TypeError | AttributeError | NotImplementedError):
        # Arrays can do this and Tensors cannot: there is no result, and so no wrong one.
        finding = Finding(
            Kind.UNSUPPORTED,
            f"{what} cannot be differentiated again, {type(error).__name__}: {error}. For a second order its "
            "rules have to be written in functions that Tensors answer",
            Verdict.UNSUPPORTED,
        )
    return with_place(step, finding) if step else finding


def replay_finding(step: Step) -> Finding:
    return with_place(
        step,
        Finding(
            Kind.REPLAY,
            f"`{step.node.name}` gives another gradient when it is replayed for the second order: its "
            "body does one thing on arrays and another on Tensors",
        ),
    )


# -- what left the tape ----------------------------------------------------------------------------


def find_detachment(subject: Function, k: int) -> Finding | None:
    """The place at which a value that depends on variable `k` is used as a constant: two programs, for two
    values of the variable, differ in a constant."""
    x = subject.points[k]
    moved = list(subject.points)
    moved[k] = x + 1e3 * STEP * weights(x.shape, np.random.default_rng(0)) * np.maximum(1.0, np.abs(x))
    try:
        here = subject.call(subject.points)[1]
        one = steps_of(here)  # before the next run writes into buffers
        there = subject.call(moved)[1]
        other = steps_of(there)
    except Exception:
        return None  # it raises an error at other inputs
    if [s.node.op for s in one] != [s.node.op for s in other]:
        return None
    advice = (
        "use the Tensor itself, without .numpy(), .detach(), .item(), float(); if it is meant to be a "
        'constant, declare that: intended="detach"'
    )
    for a, b in zip(one, other, strict=True):
        for i, (u, v) in enumerate(zip(a.arrays, b.arrays, strict=True)):
            if i not in a.wanted and is_number(u) and not is_equal(u, v):
                name, place = subject.names[k], f"called at {short_place(a.node.where)}"
                text = f"argument {a.arguments[i]} of `{a.node.name}`, {place}, depends on {name}"
                said = f"{text}, but is a constant to the tape: {advice}"
                return with_place(a, Finding(Kind.DETACHED, said, variable=name))
    for i, (y, z) in enumerate(zip(here, there, strict=True)):
        if not getattr(y, "requires_grad", False) and not is_equal(subject.values(y), subject.values(z)):
            return Finding(
                Kind.DETACHED,
                f"output {i} depends on {subject.names[k]}, but is not on the tape: {advice}",
                variable=subject.names[k],
            )
    return None


def is_number(x: Any) -> bool:
    return isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")

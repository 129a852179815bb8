"""From verdicts to an explanation: the wrong op, its mistake, and a list of findings without repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck import locate
from tinygen.gradcheck.diagnosis import diagnose
from tinygen.gradcheck.report import Culprit, Finding, Kind, Result, Verdict, short_place
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.subject import Function, Gradient, Subject

BAD = (Verdict.WRONG, Verdict.DEAD)


class Settings(NamedTuple):
    tolerance: float
    max_entries: int
    max_seconds: float
    rng: np.random.Generator
    intended: Any = ()


def explain(
    subject: Subject, steps: Sequence[Step], results: Sequence[Result], pulls: bool, settings: Settings
) -> tuple[Culprit | None, list[Finding]]:
    """The culprit, and findings that explain the verdicts other than OK. `pulls` is False if no gradient can
    be computed."""
    rng, tolerance = settings.rng, settings.tolerance
    order = 2 if isinstance(subject, Gradient) else 1
    writer = next((step for step in steps if step.mutates), None)
    if writer is not None:  # it overwrites arrays of other ops, which are not to blame
        return locate.culprit_of(writer, []), []
    culprit: Culprit | None = None
    findings: list[Finding] = []
    bad = [k for k, r in enumerate(results) if r.verdict in BAD]
    found = locate.culprit(steps, order, rng, tolerance) if bad or not pulls else None
    if found is not None:
        culprit, findings = found
    elif pulls:
        findings = [finding_without_culprit(subject, k, rng) for k in bad]
    for r in results:
        if r.verdict in (Verdict.KINK, Verdict.INCONCLUSIVE, Verdict.DOMAIN):
            step = locate.first_step(steps, r.verdict, rng, tolerance) if order == 1 else None
            findings.append(explain_undecided(r, step, steps))
    return culprit, findings


def finding_without_culprit(subject: Subject, k: int, rng: np.random.Generator) -> Finding:
    """The finding if every op alone is right, or if there is no tape."""
    cut = locate.find_detachment(subject, k) if isinstance(subject, Function) else None
    return cut or diagnose(subject, k, rng, f"the gradient by {subject.names[k]}")


def explain_undecided(r: Result, step: Step | None, steps: Sequence[Step]) -> Finding:
    """Why a variable is neither right nor wrong, and what to do."""
    place = f"{r.name} at {list(r.worst.index)}" if r.worst and r.worst.index is not None else r.name
    by = f" (`{step.node.name}`, called at {short_place(step.node.where)})" if step else ""
    if r.verdict is Verdict.KINK:
        text = f"the slopes on the two sides of {place} differ{by}: check at inputs that are not on the kink"
    elif r.verdict is Verdict.DOMAIN:
        why = "is at the edge of where the function is finite"
        if r.refused:
            why = f"cannot be moved, the function raises {r.refused}"
        text = f"{place} {why}{by}: no differences can be taken there"
    else:
        narrow = next((s for s in steps if digits(s) is not None), None)
        why = "the function may be noisy, change very fast here, or compute in float32 inside"
        if narrow is not None:
            where = short_place(narrow.node.where)
            why = f"`{narrow.node.name}`, called at {where}, computes in {digits(narrow)}"
        text = f"the differences themselves are off by more than the tolerance at {place}: {why}"
    finding = Finding(Kind[r.verdict.name], text, r.verdict, r.name)
    return locate.with_place(step, finding) if step else finding


def digits(step: Step) -> str | None:
    """A dtype smaller than float64 that the op's values have, or to which they are rounded; else None."""
    for y in step.raw if type(step.raw) is tuple else (step.raw,):
        y = np.asarray(y)
        if y.dtype.kind == "f" and y.dtype.itemsize < 8:
            return str(y.dtype)
        if y.dtype.kind == "f" and y.size > 1 and (y != np.round(y)).all():
            for narrow in (np.float16, np.float32):
                if (y == y.astype(narrow)).all():
                    return np.dtype(narrow).name
    return None


def suspect(steps: Sequence[Step], findings: Sequence[Finding], whole: set[Kind]) -> Culprit | None:
    """The op with the first finding, if the numbers show no wrong op."""
    findings = [f for f in findings if counts(f, whole)]
    for f in sorted(findings, key=lambda f: f.harmless):
        step = next((s for s in steps if (s.node.name, s.node.where) == (f.op, f.where)), None)
        if step is None:  # in float32 the function may use other ops
            continue
        return locate.culprit_of(step, [f.variable] if f.variable else [])
    return None


def counts(f: Finding, whole: set[Kind]) -> bool:
    """An op may produce infinities if the final result has none."""
    return f.kind is not Kind.DOMAIN or Kind.DOMAIN in whole


def merge_findings(
    culprit: Culprit | None, explained: list[Finding], by_step: Sequence[Finding], whole: Sequence[Finding]
) -> list[Finding]:
    """All findings, the best explanation first. A finding about an op is not repeated for the whole
    function."""
    place = (culprit.op, culprit.where) if culprit else None
    kinds = {f.kind for f in whole}
    by_step = [f for f in by_step if counts(f, kinds)]
    causes = [f for f in by_step if (f.op, f.where) == place and not f.harmless]
    if causes:
        explained = [f for f in explained if f.other is None and f.kind is not Kind.RAISES]
    told = {(f.kind, f.op, f.where) for f in explained}
    causes = [f for f in causes if (f.kind, f.op, f.where) not in told]
    named = {f.kind for f in [*explained, *by_step]}
    hidden = {Kind.RAISES} if Kind.SHAPE in named else set()
    rest = [f for f in whole if f.kind not in named | hidden]
    found: dict[tuple[Kind, str | None, str | None], Finding] = {}
    for f in [*by_step, *rest]:
        if f not in causes and (f.kind, f.op, f.where) not in told:
            found.setdefault((f.kind, f.op, f.where or f.variable), f)
    return [*causes, *explained, *found.values()]

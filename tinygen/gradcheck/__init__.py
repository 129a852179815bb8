"""The gradient checker that explains.

`gradcheck(f, *inputs)` compares the gradient that the tape gives with differences of the function itself,
and returns a report: true when all is well, and otherwise a text that says which variable is wrong, in what
way, and which op and line it comes from.

Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), ch. 1. A checker that sends back ones is blind to
whatever sums to zero (a softmax whose gradient is 0 everywhere passes it); here cotangents are random.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.gradcheck.compare import DIRECTIONS, check, cotangents, pulled
from tinygen.gradcheck.numeric import Runner, entry_probes, in_a_row, random_probes
from tinygen.gradcheck.report import Culprit, Finding, Kind, Report, Result, Verdict, Worst
from tinygen.gradcheck.subject import Function, Gradient

__all__ = ["Culprit", "Finding", "Kind", "Report", "Result", "Verdict", "Worst", "gradcheck"]


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    seed: int = 0,
    tolerance: float = 1e-6,
    max_entries: int = 2000,
) -> Report:
    """Check the gradient of `f` at `inputs`."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    subject = Function(f, inputs)
    report = Report([], seed=seed)
    examine(report, subject, 1, rng, tolerance, max_entries)
    if order == 2 and report:
        examine(report, Gradient(subject), 2, rng, tolerance, max_entries)
    report.seconds = time.perf_counter() - start
    return report


def examine(
    report: Report, subject: Any, order: int, rng: np.random.Generator, tolerance: float, max_entries: int
) -> None:
    run = Runner(subject)
    outputs = in_a_row(subject.evaluate(subject.points)).size
    tape = pulled(subject, cotangents(outputs, rng, rows=order == 1))
    entries = sum(x.size for x in subject.points)
    for k, x in enumerate(subject.points):
        if entries <= max_entries:
            probes = list(entry_probes(subject.points, k, range(x.size)))
        else:
            probes = list(random_probes(subject.points, k, DIRECTIONS, rng))
        report.results.append(check(run, tape, k, probes, tolerance, order, False))
    report.runs += run.runs

"""The gradient checker that explains.

`gradcheck(f, *inputs)` compares the gradient that the tape gives with differences of the function itself, and
returns a report: true when all is well, and otherwise a text that says which variable is wrong, in what way,
and which op and line it comes from.

How derivatives are checked: Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), ch. 1. A checker
that sends back ones is blind to whatever sums to zero (a softmax whose gradient is 0 everywhere passes it);
here cotangents are random.

The files, from the bottom: `report` (what is said), `reach`, `arguments`, `held`, `subject`, `randomness`
(what is checked, and that every run starts from the same), `steps` and `parts` (the tape, op by op),
`numeric` (differences), `compare` (verdicts), `structure` and `one_op` (checks without differences), `narrow`
(what runs in float32), `declared` (gradients meant to differ), `bounded`, `evidence`, `patterns`, `terms`,
`places`, `influence` and `diagnosis` (what a mistake looks like), `locate` (where it is), `examine` (the
course of it).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.gradcheck.declared import intended as intended
from tinygen.gradcheck.examine import examine
from tinygen.gradcheck.explain import Settings
from tinygen.gradcheck.report import Culprit, Finding, Kind, Report, Result, Verdict, Worst
from tinygen.gradcheck.subject import Function
from tinygen.gradcheck.torch_function import TorchFunction, is_torch

__all__ = ["Culprit", "Finding", "Kind", "Report", "Result", "Verdict", "Worst", "gradcheck", "intended"]


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    kwargs: dict[str, Any] | None = None,
    order: int = 1,
    seed: int = 0,
    tolerance: float = 1e-6,
    max_entries: int = 2000,
    max_seconds: float = 600.0,
    intended: Any = (),
) -> Report:
    """Check the gradient of `f` at `inputs`, in float64, against differences of `f` itself.

    `f` is a function on Tensors, an op, or a Module (or a method of one: then the parameters of a copy of it
    are checked too); or a function of torch tensors, when the inputs are some. It returns one tensor, or
    several nested in tuples, lists or dicts. Floating-point arrays among the `inputs` are checked, also those
    inside dicts, lists, tuples and dataclasses; single numbers, integers and all else are passed as they are,
    and so are `kwargs`, by name. Before each run, random generators that `f` can reach are rewound, and
    buffers and caches of modules put back.

    `order=2` checks the gradient's own gradient too, if the first order is right. `seed` draws cotangents and
    directions. A gradient may be off by `tolerance`, relative to the largest entry for that output, beyond
    the error bar of the differences. Inputs and parameters of more than `max_entries` entries altogether are
    moved in random directions instead of entry by entry. An entry costs 4 runs of `f` (1 where every op is
    analytic). `intended` names what is meant to differ from the derivative, and is then not compared: ops (or
    their names), and "detach" for what is taken off the tape; `@intended(why)` declares it at the op.

    Gradients are proved in float64, where no kernel runs; one run in float32 is compared with that, op by op.

    The report is true only if everything is OK; a KINK or an INCONCLUSIVE variable is not. `str(report)`
    explains it, `report.raise_if_failed()` raises AssertionError with that.

    Raises TypeError when there is nothing to check, ValueError when it would take more than `max_seconds`."""
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order!r}")
    start = time.perf_counter()
    settings = Settings(tolerance, max_entries, max_seconds, np.random.default_rng(seed), intended)
    subject = TorchFunction(f, inputs, kwargs) if is_torch(f, inputs) else Function(f, inputs, kwargs)
    report = Report(seed=seed)
    if subject.moved:
        report.notes.append(
            f"checked near their values, which are all equal there: {', '.join(subject.moved)}"
        )
    try:
        with np.errstate(all="ignore"):  # the report says what is not finite
            examine(report, subject, 1, settings)
            if order == 2 and getattr(subject, "stand_in", None) is not None:
                report.notes.append("no second order is checked where a gradient is declared as intended")
            elif order == 2 and report:
                examine(report, subject, 2, settings)
    finally:
        subject.leave()
    report.runs = subject.runs
    report.seconds = time.perf_counter() - start
    return report


vars(gradcheck).update(  # `tinygen.gradcheck` is the function: its module's names are found on it as well
    {name: value for name, value in globals().items() if name in __all__ and name != "gradcheck"}
)

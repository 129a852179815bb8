"""The gradient checker that explains.

`gradcheck(f, *inputs)` compares the gradient that the tape gives with differences of the function itself, and
returns a report. The report is true if all is well; otherwise its text names the wrong variables, the kind of
mistake, the op and the line.

How derivatives are checked: Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), ch. 1. A checker
whose cotangent (the gradient of the loss by the output) is all ones does not see a mistake that sums to zero:
a softmax whose gradient is 0 everywhere passes it. Here cotangents are random.

The files, from the bottom: `report` (verdicts, kinds, the text), `reach`, `arguments`, `module_state`,
`subject`, `randomness` (the function to check, and the same starting state for every run), `steps` and
`parts` (the tape, op by op), `numeric` (finite differences), `compare` (verdicts), `structure` and `one_op`
(checks without differences), `float32` (a run in float32), `intended` and `declarations` (gradients that are
meant to differ), `time_limit`, `evidence` and the guesses on it (`factor`, `patterns`, `terms`, `places`,
`influence`, `paths`, `outputs`, `products`, `inner`, `undecided`), `diagnosis` (the kind of mistake),
`locate` (the op), `explain` and `examine` (the whole check).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.gradcheck.intended import declare_intended
from tinygen.gradcheck.report import Culprit, Finding, Kind, Report, Result, Verdict, Worst

__all__ = [
    "Culprit",
    "Finding",
    "Kind",
    "Report",
    "Result",
    "Verdict",
    "Worst",
    "declare_intended",
    "gradcheck",
]


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
    several nested in tuples, lists or dicts. The variables are the floating-point arrays among the `inputs`,
    also inside dicts, lists, tuples and dataclasses. Single numbers, integers and everything else are passed
    unchanged, and `kwargs` are passed by name. Before each run, random generators that `f` can reach are
    reset, and buffers and caches of modules get their first values again.

    `order=2` also checks the gradient of the gradient, if the first order is right. `seed` is for the random
    cotangents and directions. A gradient may differ by `tolerance`, relative to the largest entry for that
    output, plus the error bar of the differences. If inputs and parameters have more than `max_entries`
    entries together, they are moved in random directions instead of entry by entry. An entry costs 4 runs of
    `f` (1 if every op is analytic). `intended` lists gradients that are meant to differ from the derivative
    and are not compared: ops (or their names), and "detach" for everything that is detached from the tape;
    `@declare_intended(why)` declares the same at the op.

    Gradients are checked in float64, where no kernel runs; one run in float32 is compared with that, op by
    op.

    The report is true only if everything is OK; a KINK or an INCONCLUSIVE variable is not. `str(report)`
    explains it, `report.raise_if_failed()` raises AssertionError with that.

    Raises TypeError when there is nothing to check, ValueError when it would take more than `max_seconds`."""
    # Imported at the first check: most programs make none, and `import tinygen` would take 10 ms more.
    from tinygen.gradcheck.examine import examine
    from tinygen.gradcheck.explain import Settings
    from tinygen.gradcheck.subject import Function
    from tinygen.gradcheck.torch_function import TorchFunction, is_torch

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

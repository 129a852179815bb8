"""Who finds what: the corpus through tinygen's checker, torch's `gradcheck` and JAX's `check_grads`.

    python tests/gradcheck/compare.py

prints the table of `docs/gradcheck.md`, with a column for each library that can be imported. Every bug gets
the same wrapper: a function of the other library whose value and gradient are those of tinygen's tape. Each
checker runs with its own defaults; an error on the way counts as found.
"""

import logging
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ops")]

from corpus import CORPUS  # noqa: E402
from models import IN_MODELS  # noqa: E402
from planting import Bug  # noqa: E402

import tinygen  # noqa: E402
from tinygen.gradcheck.subject import Function, Gradient  # noqa: E402


def subject_of(bug: Bug) -> Any:
    function = Function(bug.f, bug.inputs)
    return function if bug.order == 1 else Gradient(function, np.random.default_rng(0))


def by_tinygen(bug: Bug) -> bool:
    """Whether the bug is found."""
    return not tinygen.gradcheck(bug.f, *bug.inputs, order=bug.order)


def by_torch(bug: Bug, fast: bool = False) -> bool:
    import torch

    subject = subject_of(bug)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            values, ctx.pull = subject.record([x.detach().numpy() for x in xs])
            return tuple(torch.from_numpy(np.array(v)) for v in values)

        @staticmethod
        def backward(ctx: Any, *gs: Any) -> Any:
            found = ctx.pull([g.numpy() for g in gs])
            return tuple(None if d is None else torch.from_numpy(np.array(d)) for d in found)

    # torch.tensor would take over NumPy's strides of 0 where an axis has size 0, which gradcheck refuses.
    points = [torch.empty(x.shape, dtype=torch.float64).copy_(torch.from_numpy(x)) for x in subject.points]
    points = [x.requires_grad_() for x in points]
    try:
        return not torch.autograd.gradcheck(Wrapped.apply, points, fast_mode=fast)
    except Exception:
        return True


def by_torch_fast(bug: Bug) -> bool:
    return by_torch(bug, fast=True)


def by_jax(bug: Bug) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    subject = subject_of(bug)
    like = [jax.ShapeDtypeStruct(x.shape, np.float64) for x in subject.points]
    copies = lambda arrays: [np.array(a) for a in arrays]
    leave = [jax.ShapeDtypeStruct(y.shape, np.float64) for y in subject.evaluate(copies(subject.points))]

    def gradients(xs: Any, gs: Any) -> Any:
        found = subject.record(copies(xs))[1](copies(gs))
        return [np.zeros(x.shape) if d is None else d for d, x in zip(found, xs, strict=True)]

    @jax.custom_vjp
    def f(*xs: Any) -> Any:
        return jax.pure_callback(lambda *a: subject.evaluate(copies(a)), leave, *xs)

    f.defvjp(
        lambda *xs: (f(*xs), xs), lambda xs, gs: tuple(jax.pure_callback(gradients, like, list(xs), list(gs)))
    )
    try:
        check_grads(f, subject.points, order=1, modes=["rev"])
    except Exception:
        return True
    return False


CHECKERS: dict[str, tuple[str, Callable[[Bug], bool]]] = {
    "tinygen": ("tinygen", by_tinygen),
    "torch": ("torch", by_torch),
    "torch, fast": ("torch", by_torch_fast),
    "JAX": ("jax", by_jax),
}


def right_cases() -> list[Bug]:
    """The table of right ops, in the form of bugs: whoever finds something here is wrong."""
    from test_every_op import CASES, is_float, tupled

    cases = [c for c in CASES if sum(x.size for x in c.inputs if is_float(x))]
    return [Bug(c.name, "", None, lambda *xs, c=c: tupled(c.f(*xs)), c.inputs) for c in cases]


def named() -> str:
    """How often tinygen's checker says what it is, and where."""
    nameable = [bug for bug in CORPUS if bug.kind]
    reports = [tinygen.gradcheck(bug.f, *bug.inputs, order=bug.order) for bug in nameable]
    kinds = sum(report.kind is bug.kind for report, bug in zip(reports, nameable, strict=True))
    places = 0
    for bug in IN_MODELS:
        model, x = bug.model()
        with bug.in_place():
            culprit = tinygen.gradcheck(model, x, max_entries=200).culprit
        places += culprit is not None and culprit.op == bug.name
    where = f"the op, inside a model, {places} of {len(IN_MODELS)}"
    return f"tinygen names the kind right for {kinds} of {len(nameable)}, {where}."


def main() -> None:
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]  # for the helpers of the table
    logging.disable()  # JAX logs every error within a callback
    columns = {name: check for name, (package, check) in CHECKERS.items() if find_spec(package)}
    right = right_cases()
    found, alarms, seconds = {}, {}, {}
    for name, check in columns.items():
        start = time.process_time()
        found[name] = {bug.name for bug in CORPUS if check(bug)}
        seconds[name] = time.process_time() - start
        alarms[name] = [case.name for case in right if check(case)]
    print(f"| planted | bugs | {' | '.join(columns)} |")
    print(f"|---|---:|{'---:|' * len(columns)}")
    rows = {kind: [bug.name for bug in CORPUS if bug.kind is kind] for kind in {bug.kind for bug in CORPUS}}
    agreed = [kind for kind, names in rows.items() if all(set(names) <= found[c] for c in columns)]
    rest = sum(len(rows[kind]) for kind in agreed)
    print(f"| {len(agreed)} kinds that all find | {rest} | {' | '.join([str(rest)] * len(columns))} |")
    for kind in sorted(set(rows) - set(agreed), key=str):
        row = [str(len(found[c].intersection(rows[kind]))) for c in columns]
        print(f"| {kind.value if kind else 'no name'} | {len(rows[kind])} | {' | '.join(row)} |")
    print(f"| **found** | **{len(CORPUS)}** | {' | '.join(f'**{len(found[c])}**' for c in columns)} |")
    print(f"| false alarms | {len(right)} right | {' | '.join(str(len(alarms[c])) for c in columns)} |")
    print(f"| seconds for the bugs | | {' | '.join(f'{seconds[c]:.1f}' for c in columns)} |")
    print(f"\n{named()}")
    for name in columns:
        missed = [bug.name for bug in CORPUS if bug.name not in found[name]]
        print(f"\n{name} misses: {', '.join(missed) or 'none'}.")
        print(f"{name}'s false alarms: {', '.join(alarms[name]) or 'none'}.")


if __name__ == "__main__":
    main()

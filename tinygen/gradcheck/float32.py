"""A run in float32, where the fast kernels run, compared with the definitions in float64.

Gradients are checked in float64. Then each op on the tape of a float32 run is compared with its definition in
float64 at the same numbers, in value and gradient. The error that a kernel may have depends on the error of
the definition in float32. A definition itself is wrong only if its gradient is wrong and its value is right:
if both lose digits, the cause is rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.backward import unbroadcast
from tinygen.gradcheck import one_op
from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.locate import with_place
from tinygen.gradcheck.report import Finding, Kind
from tinygen.gradcheck.steps import Step, steps_at
from tinygen.gradcheck.subject import Function
from tinygen.gradcheck.time_limit import run_within
from tinygen.kernels.registry import WIDE
from tinygen.modes import no_grad

DIGITS = 1e-4  # the allowed relative error of a kernel, plus
ROOM = 30.0  # this times the error of the definition in float32
GROSS = 0.05  # the allowed relative error of the gradient of a definition
PATIENCE = 1.0  # the time limit in seconds, or
LONG = 120.0  # if arrays are so large that a kernel may have to be compiled


class Float32Run(NamedTuple):
    """The result of the run in float32."""

    findings: list[Finding]
    notes: list[str]
    summary: str  # which implementations ran, and their largest error


def run_in_float32(base: Function, known: Sequence[Step], rng: np.random.Generator) -> Float32Run:
    """Run `base` in float32 and compare each op; `known` has the steps of the run in float64. If the function
    raises an error in float32, or does not end, the result has a note about this."""
    points = [x.astype(np.float32) for x in base.points]
    large = sum(x.size for x in points) >= WIDE

    def look() -> Float32Run:
        findings: list[Finding] = []
        notes: list[str] = []
        off = 0.0
        ran: dict[str, set[str]] = {}
        steps = steps_at(base, points)
        alike = [s.node.op for s in steps] == [s.node.op for s in known]
        for i, step in enumerate(steps):
            notes += one_op.dtype_remarks(step, rng)
            ran.setdefault(step.node.name, set()).add(implementation(step))
            for words, error, limit, certain in comparisons(step, rng):
                off = max(off, error)
                if error > limit and certain:
                    findings.append(with_place(known[i] if alike else step, finding(step, words, error)))
                    break
        return Float32Run(findings, notes, summary(ran, off))

    try:
        return run_within(look, LONG if large else PATIENCE)
    except TimeoutError as error:
        why = f"there is {error}: does it loop until an error that float32 never reaches?"
    except Exception as error:
        why = f"it raises {type(error).__name__}: {error}"
    return Float32Run([], [f"not checked in float32, where {why}"], "")


def implementation(step: Step) -> str:
    """The implementation that computed the value of an op, found by the module of its rules."""
    op = step.node.op
    rule = next((r for r in step.rules if r is not None), None)
    place = getattr(rule, "__module__", None) or ""
    if op.compute is op.body or place == op.body.__module__:
        return "its definition"
    if place.startswith("tinygen.kernels.compiled"):
        return "a compiled kernel"
    return "a CUDA kernel" if place.startswith("tinygen_cuda") else "a NumPy kernel"


def summary(ran: dict[str, set[str]], off: float) -> str:
    """Like "float32 beside it is off by 2e-07 (softmax: a NumPy kernel)"."""
    kernels = [
        f"{name}: {' and '.join(sorted(how))}" for name, how in ran.items() if how != {"its definition"}
    ]
    what = "; ".join(kernels) if kernels else "definitions only"
    return f"float64: definitions; float32 beside it is off by {off:.0e} at most ({what})"


def finding(step: Step, words: str, error: float) -> Finding:
    name = step.node.name
    how = implementation(step)
    return Finding(
        Kind.DTYPE,
        f"in float32, {words} of `{name}` by {how} is off by {error:.1g} of its size, where float64 is right",
        harmless=True,
    )


# -- one op ----------------------------------------------------------------------------------------


class Both(NamedTuple):
    """Values and gradients of one op, in rows of float64."""

    values: list[Array]
    gradients: list[Array]


def compute_step(step: Step, compute: Any, arrays: Sequence[Any], g: Sequence[Array]) -> Both:
    with no_grad(), step.randomness.repeat_draws(), np.errstate(all="ignore"):
        value, *rules = compute(*arrays, **step.node.kwargs)
        values = value if type(value) is tuple else (value,)
        sent = [np.asarray(x, dtype=np.asarray(y).dtype) for x, y in zip(g, values, strict=True)]
        found = step.apply(rules, step.pack(sent))
        fits = [np.asarray(unbroadcast(d, arrays[i])) for d, i in zip(found, step.wanted, strict=True)]
    return Both([widen(np.asarray(y)) for y in values], [widen(d) for d in fits])


def comparisons(step: Step, rng: np.random.Generator) -> Iterator[tuple[str, float, float, bool]]:
    """For the value and for each gradient: its name, the distance of float32 from float64 relative to its
    size, the allowed distance, and whether a larger distance is certainly a mistake."""
    op = step.node.op
    g = [weights(y.shape, rng).astype(np.float32) for y in step.outputs]
    wide = [widen(x) for x in step.arrays]
    try:
        right = compute_step(step, op.body, wide, g)
        here = compute_step(step, op.compute, step.arrays, g)
        plain = here if op.compute is op.body else compute_step(step, op.body, step.arrays, g)
    except Exception:
        return  # the op may accept one dtype only
    kernel = op.compute is not op.body
    size = max((largest_magnitude([y]) for y in right.values), default=0.0)
    moved = size / max(largest_magnitude(step.points), 1e-300)  # rounding can make gradients of that size
    value = relative_distance(here.values, right.values, size)
    floor = relative_distance(plain.values, right.values, size)
    yield "the value", value, DIGITS + ROOM * floor if kernel else GROSS, kernel
    for words, a, b, c in zip(step.names, here.gradients, right.gradients, plain.gradients, strict=True):
        size = max(largest_magnitude([b]), moved)
        error, floor = relative_distance([a], [b], size), relative_distance([c], [b], size)
        limit = DIGITS + ROOM * floor if kernel else GROSS
        yield f"the gradient by the {words}", error, limit, kernel or value < DIGITS


def widen(x: Any) -> Any:
    """`x` in float64, or complex128, if it is an array of such numbers."""
    numbers = isinstance(x, np.ndarray) and x.dtype.kind in "fc"
    return x.astype(np.result_type(x.dtype, np.float64)) if numbers else x


def largest_magnitude(arrays: Sequence[Array]) -> float:
    return max((float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in arrays), default=0.0)


def relative_distance(a: Sequence[Array], b: Sequence[Array], size: float) -> float:
    """The largest distance of two lists of arrays over `size`, without numbers that float32 cannot
    represent."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        seen = np.isfinite(x) & np.isfinite(y)
        if x.shape == y.shape and seen.any() and size > 0:
            worst = max(worst, float(np.abs(x - y)[seen].max()) / size)
    return worst

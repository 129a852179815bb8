"""Checks that need no differences: the function gives the same value twice, does not write into its inputs,
and its gradient is linear in the cotangent and independent of the memory layout.

These are the checks of the whole subject; `one_op.py` has the checks of each recorded op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.compare import FLOOR
from tinygen.gradcheck.report import Finding, Kind, Verdict
from tinygen.gradcheck.subject import Gradient, Subject


def reverse_in_memory(x: Array) -> Array:
    backwards = (slice(None, None, -1),) * x.ndim
    return np.array(x[backwards])[backwards] if x.ndim else np.array(x)


ROWS = (
    "row by row, in C's order"  # the usual layout: an op that is wrong in another layout is right in this one
)
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    ROWS: lambda x: np.array(x, order="C"),
    "in Fortran's order": lambda x: np.array(x, order="F"),
    "backwards, with negative strides": reverse_in_memory,
}


def other_layouts(arrays: Sequence[Array]) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """The layouts to try; row by row only if some array has another layout."""
    rows = all(x.flags.c_contiguous for x in arrays)
    return ((words, arranged) for words, arranged in LAYOUTS.items() if not (rows and words is ROWS))


def is_equal(a: Any, b: Any, tolerance: float = 1e-10) -> bool:
    """Equal up to rounding, relative to the largest entry (exactly, for tolerance 0); NaN equals itself."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or np.array_equal(a, b):
        return bool(a.shape == b.shape)
    size = max((float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0)) for x in (a, b)), default=0.0)
    floor = FLOOR if tolerance else 0.0
    return bool(np.allclose(a, b, rtol=0.0, atol=tolerance * size + floor, equal_nan=True))


def all_equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        y is x or (x is not None and y is not None and is_equal(x, y)) for x, y in zip(a, b, strict=True)
    )


def copies(arrays: Sequence[Array]) -> list[Array]:
    return [np.array(x) for x in arrays]


def times(factor: float, arrays: Sequence[Array]) -> list[Array]:
    return [np.asarray(factor * x) for x in arrays]  # () stays an array


def zero(x: Any) -> bool:
    return x is None or not np.any(x)


# -- the whole subject -----------------------------------------------------------------------------


def value_findings(subject: Subject) -> Iterator[Finding]:
    """Checks of the value. If one fails, differences are meaningless."""
    points = copies(subject.points)
    first = copies(subject.evaluate(points))
    if not first:
        raise TypeError(
            "gradcheck: the function returned no floating-point tensor, there is nothing to check"
        )
    changed = [
        n for n, x, y in zip(subject.names, points, subject.points, strict=True) if not is_equal(x, y, 0)
    ]
    if changed:
        yield Finding(Kind.STATE, f"computing the value writes into {changed[0]}", variable=changed[0])
        return
    for i, y in enumerate(first):
        if not np.isfinite(y).all():
            index = tuple(map(int, np.argwhere(~np.isfinite(y))[0]))
            which = f"output {i}" if len(first) > 1 else "the value"
            yield Finding(
                Kind.DOMAIN,
                f"{which} is {float(y[index])} at {list(index)}: there is no derivative to check",
                Verdict.DOMAIN,
            )
            return
    if not all_equal(first, subject.evaluate(copies(subject.points))):
        yield Finding(
            Kind.STATE,
            "two runs at the same inputs, with every random generator that could be found rewound, give "
            "different values: draw from a generator that is an argument, an attribute or a default",
            Verdict.NONDETERMINISTIC,
        )


def gradient_findings(subject: Subject, rng: np.random.Generator) -> Iterator[Finding]:
    """Checks of the gradient. An error in the gradient is raised again."""
    points = copies(subject.points)
    outputs, pull = subject.record(points)
    if not all_equal(outputs, subject.evaluate(copies(subject.points))):
        yield value_mismatch(subject)
        return
    given = [weights(y.shape, rng) for y in outputs]
    sent = copies(given)
    first = pull(sent)
    for what, now, before in (("the cotangent", sent, given), ("its inputs", points, subject.points)):
        if not all(is_equal(x, y, 0) for x, y in zip(now, before, strict=True)):
            yield Finding(Kind.STATE, f"computing the gradient writes into {what}")
    again = pull(copies(given)), subject.record(copies(subject.points))[1](copies(given))
    for name, a, b, c in zip(subject.names, first, *again, strict=True):
        if not (all_equal([a], [b]) and all_equal([a], [c])):
            yield Finding(
                Kind.STATE,
                f"pulled back twice with the same cotangent, the gradient of {name} is not the same",
                Verdict.NONDETERMINISTIC,
                name,
            )
            return
    nothing, double = pull(times(0, given)), pull(times(-2, given))
    for name, a, z, d in zip(subject.names, first, nothing, double, strict=True):
        yield from linearity(f"the gradient of {name}", a, z, d, name)
    for layout, arranged in other_layouts(subject.points):
        outputs, pull = subject.record([arranged(x) for x in subject.points])
        for name, a, b in zip(subject.names, first, pull([arranged(g) for g in given]), strict=True):
            if not all_equal([a], [b]) and not (zero(a) and zero(b)):
                yield Finding(
                    Kind.LAYOUT, f"the gradient of {name} changes when the arrays lie {layout}", variable=name
                )
                return


def value_mismatch(subject: Subject) -> Finding:
    """The value of a recorded run differs from the value of a run without the tape."""
    if isinstance(subject, Gradient):
        return Finding(
            Kind.REPLAY, "the gradient that the second order differentiates is not the one of the first"
        )
    return Finding(
        Kind.STATE,
        "the value differs between a run that records a gradient and one that does not",
        Verdict.NONDETERMINISTIC,
    )


def linearity(
    what: str, once: Any, nothing: Any, double: Any, variable: str | None = None
) -> Iterator[Finding]:
    """Whether g -> gradient is linear, from its values at g, 0 and -2 g."""
    if once is None or not np.isfinite(once).all():
        return
    if not zero(nothing) and is_equal(nothing, once):
        yield Finding(
            Kind.COTANGENT,
            f"{what} is the same whatever comes back from above, even zeros: multiply by g",
            variable=variable,
        )
    elif not zero(nothing):
        yield Finding(Kind.COTANGENT, f"{what} is not zero when zeros come back", variable=variable)
    elif double is None or not is_equal(double, -2 * once):
        yield Finding(
            Kind.COTANGENT,
            f"{what} is not linear in the cotangent: for -2 g it is not -2 times that for g",
            variable=variable,
        )

"""What a wrong gradient looks like: a factor, a sign, transposed, an axis not summed, ...

Each guess is a function of the evidence that returns a Finding when it fits, else None; the first that fits
wins, so they stand in the order from the particular to the vague.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tinygen.gradcheck.evidence import Evidence, rearrangements
from tinygen.gradcheck.patterns import partial
from tinygen.gradcheck.report import Finding, Kind, Verdict
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.structure import linearity, times
from tinygen.gradcheck.subject import Array, Subject

Guess = Callable[[Evidence], Finding | None]


def diagnose(subject: Subject, k: int, rng: np.random.Generator, what: str) -> Finding:
    """What is wrong with the gradient by variable `k`; `what` is what to call that gradient."""
    e = Evidence(subject, k, rng)
    for guess in GUESSES:
        found = guess(e)
        if found is not None:
            found.sentence = f"{what} {found.sentence}"
            found.variable = e.name
            return found
    raise AssertionError("the last guess always fits")


# -- the guesses -----------------------------------------------------------------------------------


def not_a_number(e: Evidence) -> Finding | None:
    if np.isfinite(e.gradient).all():
        return None
    bad = np.argwhere(~np.isfinite(e.gradient))
    value, count = float(e.gradient[tuple(bad[0])]), f"{len(bad)} of {e.gradient.size} entries"
    return Finding(Kind.NAN, f"is {value} at {bad[0].tolist()} ({count}), where differences are finite")


def detached(e: Evidence) -> Finding | None:
    if np.any(e.gradient):
        return None
    return Finding(Kind.DETACHED, "is zero, although the value changes", Verdict.DEAD)


def unused(e: Evidence) -> Finding | None:
    for finding in linearity("", e.gradient, e.said(times(0, e.g)), e.said(times(-2, e.g))):
        finding.sentence = finding.sentence.strip()
        return finding
    return None


def factor(e: Evidence) -> Finding | None:
    size = float(e.right @ e.right)
    c = float(e.tape @ e.right) / size if size else 0.0
    if not c or not e.close(e.tape / c, e.right):
        return None
    if abs(c + 1) < 1e-5:
        return Finding(Kind.SIGN, "has the wrong sign")
    hint = meaning(abs(c), e)
    sign = "the wrong sign, and its size is " if c < 0 else ""
    return Finding(
        Kind.FACTOR, f"{'has ' if c < 0 else 'is '}{sign}{abs(c):.6g} times what it should be{hint}"
    )


def meaning(c: float, e: Evidence) -> str:
    """What a factor may stand for."""

    def is_(a: float) -> bool:
        return abs(c - a) <= 1e-5 * a

    guesses = []
    if is_(2):
        guesses.append("a factor 1/2 is missing, or something is counted twice")
    if is_(0.5):
        guesses.append("a factor 2 is missing: of a square, or of something used twice")
    arrays = [(e.name.split()[-1], e.x.shape)] + [("the value", y.shape) for y in e.outputs]
    sizes = [(n, f"the size of axis {a} of {name}") for name, shape in arrays for a, n in enumerate(shape)]
    sizes += [(math.prod(shape), f"the number of entries of {name}") for name, shape in arrays]
    seen: set[int] = set()
    for n, words in sizes:
        if n < 3 or n in seen:
            continue
        seen.add(n)
        if is_(n):
            guesses.append(f"{n} is {words}: a mean taken for a sum")
        if is_(1 / n):
            guesses.append(f"{n} is {words}: divided once too often, or one of {n} summands only")
        if is_(math.sqrt(n)):
            guesses.append(f"√{n}, and {n} is {words}: a factor 1/√{n} is missing")
        if is_(1 / math.sqrt(n)):
            guesses.append(f"1/√{n}, and {n} is {words}: a factor 1/√{n} too many")
    return f" ({'; or '.join(guesses)}?)" if guesses else ""


def swapped(e: Evidence) -> Finding | None:
    for other, x in enumerate(e.subject.points):
        if other == e.k or x.shape != e.x.shape:
            continue
        theirs = e.paired(e.g, [e.push(d, other) for d in e.directions])
        found = e.pull([np.array(g) for g in e.g])[other]
        if e.close(e.tape, theirs) and found is not None and e.close(e.along(found), e.right):
            return Finding(Kind.SWAPPED, f"is that of {e.subject.names[other]}, and the other way round")
    return None


def rearranged(e: Evidence) -> Finding | None:
    for r in rearrangements(e.x.shape):
        if e.close(e.tape, e.paired(e.g, [e.push(r.transpose(d)) for d in e.directions])):
            return Finding(r.kind, f"comes out {r.words}")
    if len(e.g) == 1:
        for r in rearrangements(e.g[0].shape):
            if e.close(e.tape, e.paired([r.apply(e.g[0])])):
                return Finding(r.kind, f"is right for a cotangent {r.words}")
    return None


def not_summed(e: Evidence) -> Finding | None:
    if len(e.g) != 1:
        return None
    (g,) = e.g
    for axis, n in enumerate(g.shape):
        for i in (0, n - 1) if n > 1 else ():
            mask = np.zeros_like(g)
            mask[(*[slice(None)] * axis, i)] = 1
            one, rest = [g * mask], [g * (1 - mask)]
            if not np.any(e.said(rest)) and e.close(e.along(e.said(one)), e.paired(one)):
                if np.abs(e.paired(rest)).max() < 1e-9 * np.abs(e.right).max():
                    continue  # only this slice matters anyway
                return Finding(
                    Kind.NOT_SUMMED,
                    f"counts only index {i} of axis {axis} of the cotangent: that axis has to be summed",
                )
    return None


def summed_twice(e: Evidence) -> Finding | None:
    axes: list[tuple[int, ...]] = [(a,) for a, n in enumerate(e.x.shape) if n > 1]
    if len(axes) > 1:
        axes.append(tuple(a for (a,) in axes))
    for group in axes:
        n = math.prod(e.x.shape[a] for a in group)
        sums = [np.broadcast_to(d.sum(axis=group, keepdims=True), d.shape) for d in e.directions]
        right = e.paired(e.g, [e.push(d) for d in sums])
        where = f"ax{'e' if len(group) > 1 else 'i'}s {' and '.join(map(str, group))}"
        if e.close(e.tape, right):
            return Finding(Kind.SUMMED_TWICE, f"is summed along {where}, where each entry has its own")
        if e.close(e.tape * n, right):
            return Finding(Kind.SUMMED_TWICE, f"is averaged along {where}, where each entry has its own")
    return None


def operand(e: Evidence) -> Finding | None:
    """The right gradient, of transposed or reversed inputs."""
    for name, array, put in others(e):
        for r in rearrangements(array.shape):
            if r.kind is Kind.SHIFTED or r.reshaped:
                continue
            subject, points = put(r.apply(array))
            if e.close(
                e.tape, e.paired(e.g, [e.push(d, subject=subject, points=points) for d in e.directions])
            ):
                return Finding(r.kind, f"is the one for {name} {r.words}")
    return None


def others(e: Evidence) -> Iterator[tuple[str, Array, Callable[[Array], tuple[Subject, list[Array]]]]]:
    """Every array that enters: its name, itself, and how to put another in its place."""
    for i, (name, x) in enumerate(zip(e.subject.names, e.subject.points, strict=True)):

        def put_variable(new: Array, i: int = i) -> tuple[Subject, list[Array]]:
            return e.subject, [new if j == i else y for j, y in enumerate(e.subject.points)]

        yield name, x, put_variable
    if isinstance(e.subject, Step):
        step = e.subject
        for name, i in step.constants.items():
            yield name, step.arrays[i], lambda new, i=i: (step.with_constant(i, new), step.points)  # type: ignore[misc]


def missing_factor(e: Evidence) -> Finding | None:
    """An array that should have been multiplied in, or was once too often."""
    named = [(name, x) for name, x, _ in others(e)] + [("the value", y) for y in e.outputs]
    for name, a in named:
        if a.size < 2 or not np.all(a) or np.ptp(np.abs(a)) < 1e-6 * np.abs(a).max():
            continue  # a constant is a factor, and has been looked at
        for power, words in ((a, name), (1 / a, f"1 / {name}")):
            fits = [fit(power, y.shape) for y in e.outputs]
            if all(f is not None for f in fits):
                g = [y * f for y, f in zip(e.g, fits, strict=True)]
                if e.close(e.along(e.said(g)), e.right):
                    return Finding(Kind.MISSING_FACTOR, f"lacks a factor: what comes back times {words}")
            f = fit(power, e.x.shape)
            if f is not None and e.close(e.along(e.gradient * f), e.right):
                return Finding(Kind.MISSING_FACTOR, f"lacks the factor {words}")
    return None


def fit(a: Array, shape: tuple[int, ...]) -> Array | None:
    """`a` where it broadcasts to `shape`, else None."""
    try:
        return np.asarray(np.broadcast_to(a, shape))
    except ValueError:
        return None


def missing_term(e: Evidence) -> Finding | None:
    """T - N has one value along an axis, or is a multiple of the input or the value along it: it vanishes on
    all directions that are orthogonal to that."""
    shape = e.x.shape
    arrays = [("1", np.ones(shape))]
    arrays += [(name, x) for name, x, _ in others(e) if x.shape == shape]
    arrays += [("the value", y) for y in e.outputs if y.shape == shape]
    for axis in [a for a, n in enumerate(shape) if n > 2]:
        for name, v in [
            *arrays,
            *((f"{n} minus its mean", v - v.mean(axis, keepdims=True)) for n, v in arrays[1:]),
        ]:
            along = (v * v).sum(axis, keepdims=True)
            if not np.all(along):
                continue
            ds = [d - v * ((d * v).sum(axis, keepdims=True) / along) for d in e.directions]
            said = np.array([(e.gradient * d).sum() for d in ds])
            if e.close(said, e.paired(e.g, [e.push(d) for d in ds])):
                what = "the same number" if name == "1" else f"a multiple of {name}"
                return Finding(
                    Kind.MISSING_TERM,
                    f"is off by {what} all along axis {axis}: a mean or sum along it was not subtracted?",
                )
    return None


def ones_only(e: Evidence) -> Finding | None:
    ones = [np.ones_like(g) for g in e.g]
    right = e.paired(ones)
    several = sum(g.size for g in e.g) > 1 and np.abs(right).max() > 1e-3 * np.abs(e.right).max()
    if not (several and e.close(e.along(e.said(ones)), right)):
        return None
    return Finding(
        Kind.ONES_ONLY,
        "is right only when the same number comes back for every output, as it does under a sum",
    )


def approximate(e: Evidence) -> Finding | None:
    error = float(np.abs(e.tape - e.right).max() / np.abs(e.right).max())
    if error < 0.03:
        return Finding(
            Kind.APPROXIMATE,
            f"is nearly right, off by about {error:.1g} of its size: a constant mistyped, or the gradient of "
            "another formula for the same thing?",
        )
    return None


def unexplained(e: Evidence) -> Finding:
    return Finding(Kind.UNEXPLAINED, "is wrong in no way that has a name here")


GUESSES: Sequence[Guess] = (
    not_a_number,
    detached,
    unused,
    factor,
    swapped,
    rearranged,
    not_summed,
    summed_twice,
    operand,
    missing_factor,
    missing_term,
    ones_only,
    partial,
    approximate,
    unexplained,
)

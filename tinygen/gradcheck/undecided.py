"""Evidence of the last resort: numbers that are right somewhere else, and the likelier of two kinds where
nothing else fits.

The numbers of a random Jacobian do not agree by chance. So if the numbers of the tape are numbers of the true
Jacobian, in other places, the formula is right, and an index, an order or a transpose is wrong.
"""

from __future__ import annotations

import itertools

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.evidence import Evidence, input_arrays
from tinygen.gradcheck.parts import RealParts
from tinygen.gradcheck.paths import matrices
from tinygen.gradcheck.places import masks
from tinygen.gradcheck.report import Finding, Kind

CLOSE = 1e-7
MOST = 0.75  # this share of the wrong numbers must be numbers of the true Jacobian
DISTINCT = 4  # fewer different numbers agree by chance


def conjugation(e: Evidence) -> Finding | None:
    """A complex gradient, or the gradient that comes in, is the conjugate of the right one."""
    if not isinstance(e.subject, RealParts) or e.output is not None or not e.name.endswith("part)"):
        return None
    g = [-x if turned else x for x, turned in zip(e.g, e.subject.imaginary, strict=True)]
    other = e.pair(g)
    turned = any(e.subject.imaginary) and (e.close(e.tape, other) or e.close(e.tape, -other))
    if not turned and not (e.name.endswith("(imaginary part)") and e.close(e.tape, -e.right)):
        return None
    if not turned and not Evidence(e.subject, e.k - 1, np.random.default_rng(0)).agrees():
        return None  # the real part has the wrong sign as well
    return Finding(
        Kind.PLACE,
        "is right up to a conjugate: of the gradient that comes in, of an argument or of the result",
    )


def other_normalization(e: Evidence) -> Finding | None:
    """Summed over the outputs, the right gradients add up to the same number along one axis, and the tape's
    gradients along another one, as for a softmax along the wrong axis."""
    if e.jacobians is None or e.x.ndim < 2:
        return None
    said, right = (z.reshape(-1, *e.x.shape).sum(axis=0) for z in e.jacobians)

    def constant(z: Array, axis: int) -> bool:
        total = z.sum(axis=axis)
        return bool(total.size > 1 and np.ptp(total) <= CLOSE * np.abs(total).max() and np.ptp(z) > 0)

    for a, b in itertools.permutations(range(e.x.ndim), 2):
        if constant(right, a) and constant(said, b) and not constant(right, b) and not constant(said, a):
            return Finding(Kind.SUM, f"is normalized along axis {b}, where it should be along axis {a}")
    return None


def inner_weight(e: Evidence) -> Finding | None:
    """A square argument between two slopes should be transposed, as in the steps of a recurrence:
    divided by the argument, entry by entry, such a block of the Jacobian has rank 1."""
    if e.jacobians is None or not e.x.ndim or not e.outputs[0].ndim:
        return None
    n = e.x.shape[-1]
    if n < 3 or e.outputs[0].shape[-1] != n:
        return None
    said, right = (z.reshape(-1, n, e.x.size // n, n).swapaxes(1, 2).reshape(-1, n, n) for z in e.jacobians)
    for name, w, _ in input_arrays(e):
        if w.shape != (n, n) or not w.all() or w is e.x:
            continue
        for p in (w, w.T):
            there = [i for i in range(len(right)) if right[i].any() and has_rank_one(right[i] / p)]
            turned = [i for i in there if has_rank_one(said[i] / p.T) and not has_rank_one(said[i] / p)]
            if len(turned) > 1 and 2 * len(turned) >= len(there):
                return Finding(Kind.PLACE, f"goes back through {name} the wrong way round: transpose it")
    return None


def has_rank_one(z: Array) -> bool:
    sizes = np.linalg.svd(z, compute_uv=False)
    return bool(sizes[0] > 0 and sizes[1] <= 1e-6 * sizes[0])


def other_places(e: Evidence) -> Finding | None:
    """The wrong numbers of the tape's Jacobian are numbers of the true one, in other places."""
    both = matrices(e)
    if both is None:
        return None
    said, right = (np.abs(z) for z in both)
    told, true, off = masks(both)
    moved, known = said[told & off], np.sort(right[true])
    if moved.size < 2 * DISTINCT or not known.size:
        return None
    least = CLOSE * float(known[-1])
    if 1 + (np.diff(np.sort(moved)) > least).sum() < DISTINCT:
        return None
    places = np.searchsorted(known, moved).clip(1, len(known) - 1)
    nearest = np.minimum(np.abs(known[places] - moved), np.abs(known[places - 1] - moved))
    if (nearest <= least).mean() < MOST:
        return None
    return Finding(
        Kind.PLACE,
        "has numbers that are right in other places: is an index, an order or an offset wrong?",
        other=Kind.SUM,
    )


def unknown_mistake(e: Evidence) -> Finding:
    """Nothing has been found. Which kinds are likely is told by the way in which the value depends on the
    input: entry by entry, linearly, or otherwise."""
    kinds, why = likely_kinds(e)
    return Finding(
        kinds[0],
        f"is off by {e.error():.2g} times its size, and nothing tells exactly why. {why}",
        other=kinds[1],
        vague=True,
    )


def likely_kinds(e: Evidence) -> tuple[tuple[Kind, Kind], str]:
    both = matrices(e)
    if both is not None and e.outputs[0].shape == e.x.shape and e.x.size > 1:
        told, true, off = masks(both)
        if not (told | true)[~np.eye(e.x.size, dtype=bool)].any():
            if (~off & true).sum() > 1:
                return (Kind.MASK, Kind.SLOPE), "Some entries are right: does a condition differ there?"
            return (Kind.SLOPE, Kind.TERM), (
                "Each entry is wrong in its own way: is it another derivative, or is a term missing?"
            )
    if is_linear(e):
        return (Kind.PLACE, Kind.TERM), (
            "The value is linear in it: do numbers come from, or go to, the wrong places, or is one missing?"
        )
    return (Kind.TERM, Kind.SLOPE), (
        "Is one of the ways through which it acts (a statistic, a factor of a product) missing or wrong?"
    )


def is_linear(e: Evidence) -> bool:
    """Whether the derivative is the same at another input."""
    moved = list(e.subject.points)
    moved[e.k] = np.asarray(e.x + 0.3 * weights(e.x.shape, np.random.default_rng(0)))
    try:
        there = e.push_at(e.directions[0], e.subject, moved)
    except TimeoutError:
        return False
    return all(
        bool(np.isfinite(v).all() and np.abs(u - v).max(initial=0.0) <= 1e-6 * np.abs(u).max(initial=0.0))
        for u, v in zip(e.pushed[0], there, strict=True)
    )

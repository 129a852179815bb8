"""Numbers that are right except for a weight, one for each output, or one for each entry of the input.

If every output depends on one entry only, each mistake looks like such a weight. So a row of the Jacobian (an
output) or a column (an entry) counts as evidence only if it has at least two numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence
from tinygen.gradcheck.paths import matrices
from tinygen.gradcheck.places import masks
from tinygen.gradcheck.report import Finding, Kind

CLOSE = 1e-6


def other_weights(e: Evidence) -> Finding | None:
    """Each output, or each entry, has the right numbers times a weight of its own."""
    both = matrices(e)
    if both is None:
        return None
    for a, b, shape, words in (
        (*both, e.outputs[0].shape, "what comes back at"),
        (both[0].T, both[1].T, e.x.shape, "what is sent to"),
    ):
        factors = multiples(a, b)
        if factors is None:
            continue
        wrong = np.abs(factors - 1) > CLOSE
        if not masks(both)[2].any(axis=0).all() and 2 * wrong.sum() <= (b != 0).any(axis=1).sum():
            where = (
                ", ".join(named_places(wrong.reshape(shape))) or f"{int(wrong.sum())} of {wrong.size} places"
            )
            some = factors[wrong]
            times = f"{some[0]:.6g}" if np.ptp(some) <= CLOSE * abs(some[0]) else "another number"
            return Finding(
                Kind.MASK,
                f"is wrong for {words} {where} only: it counts {times} times as much",
                vague=True,
            )
        if np.abs(factors[wrong] + 1).max() <= CLOSE:
            where = (
                ", ".join(named_places(wrong.reshape(shape))) or f"{int(wrong.sum())} of {wrong.size} places"
            )
            return Finding(Kind.CONSTANT, f"has the wrong sign for {words} {where}")
        return Finding(
            Kind.SLOPE,
            f"lacks a factor: {words} each place has to be multiplied by a number of its own",
        )
    return None


def multiples(said: Array, right: Array) -> Array | None:
    """The factor between the tape's row and the right one, for each row (1 if both are 0). None if there are
    no such factors, or if at most half of the wrong rows have two numbers or more."""
    told, true, off = masks((said, right))
    sizes = (right * right).sum(axis=1)
    if not np.array_equal(told.any(axis=1), true.any(axis=1)):
        return None  # some are left out as a whole: that is no weight
    factors = np.where(sizes > 0, (said * right).sum(axis=1) / np.where(sizes > 0, sizes, 1.0), 1.0)
    if np.abs(said - factors[:, None] * right).max() > CLOSE * np.abs(right).max():
        return None
    telling = (true.sum(axis=1) > 1)[off.any(axis=1)]
    return factors if telling.mean() > 0.5 else None


def named_places(wrong: Array) -> Iterator[str]:
    """The wrong indices along each axis, if not all are wrong."""
    for axis, n in enumerate(wrong.shape):
        found = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        if len(found) < n:
            yield f"ind{'ex' if len(found) == 1 else 'ices'} {', '.join(map(str, found))} of axis {axis}"


def some_outputs(e: Evidence) -> Finding | None:
    """Right for the cotangents of most outputs, and wrong for a few."""
    both = matrices(e)
    if both is None or len(both[0]) < 3:
        return None
    told, true, off = masks(both)
    wrong, telling = off.any(axis=1), (told | true).any(axis=1)
    if not 0 < 3 * wrong.sum() <= telling.sum() or 2 * off.any(axis=0).sum() <= e.x.size:
        return None
    where = ", ".join(named_places(np.asarray(wrong).reshape(e.outputs[0].shape)))
    where = where or f"{int(wrong.sum())} of {wrong.size} outputs"
    return Finding(Kind.MASK, f"is wrong for what comes back at {where} only", vague=True)

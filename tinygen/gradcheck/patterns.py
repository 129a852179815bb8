"""The place of a mistake that concerns some entries only: above the diagonal, at one end, for x < 0, ...

A place is named only if it fits exactly: the gradient is wrong there and right everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence
from tinygen.gradcheck.report import Finding, Kind

RARE = 500  # a threshold among the entries counts if its probability by chance is at most 1 / RARE,
LIKELY = 60  # or 1 / LIKELY if nothing else explains the mistake

Place = tuple[str, Array]
"""A set of entries: its name and its mask."""


def clear_part(e: Evidence) -> Finding | None:
    """Wrong at some entries and right at the others, in a place that is unlikely by chance."""
    return wrong_at_places(e, clear_places)


def possible_part(e: Evidence) -> Finding | None:
    """Wrong at some entries and right at the others."""
    return wrong_at_places(e, all_places)


def extreme_entries(e: Evidence) -> Finding | None:
    """Wrong at the largest or the smallest entry of each row, since the whole row depends on that entry."""
    if e.jacobians is None:
        return None
    said, right = (z.reshape(-1, *e.x.shape) for z in e.jacobians)
    least = 1e-6 * np.abs(right).max()
    off = (np.abs(said - right) > least).any(axis=0)
    lost = (np.abs(said) <= least) & (np.abs(right) > least)
    if e.outputs[0].shape == e.x.shape:
        lost &= ~np.eye(e.x.size, dtype=bool).reshape(lost.shape)  # keep only the weights of other entries
    if off.all() or not lost.any() or not (np.abs(right) > least).any(axis=0)[~off].any():
        return None
    for axis in range(e.x.ndim) if off.ndim else ():
        if e.x.shape[axis] < 3:
            continue
        largest = e.x == e.x.max(axis=axis, keepdims=True)
        smallest = e.x == e.x.min(axis=axis, keepdims=True)
        for words, mask in (
            ("the largest", largest),
            ("the smallest", smallest),
            ("the largest and the smallest", largest | smallest),
        ):
            by_chance = math.comb(n := e.x.shape[axis], min(int(mask.sum(axis=axis).max()), n)) ** (
                e.x.size // n
            )
            if np.array_equal(mask, off) and by_chance >= LIKELY:
                return Finding(
                    Kind.TERM,
                    f"lacks at {words} along axis {axis} what passes through them to the others: is a "
                    "maximum or a minimum taken for a constant?",
                )
    return None


def wrong_at_places(
    e: Evidence, places: Callable[[Evidence, Array, Array], Iterator[Place]]
) -> Finding | None:
    looked, right = e.entries
    size = np.abs(right).max()
    off = looked & (np.abs(e.gradient - right) > 1e-6 * size)
    telling = looked & (off | (np.abs(right) > 1e-6 * size))  # other entries are 0 in both and fit any place
    if not off.any() or off[telling].all():
        return None
    named = (words for words, mask in places(e, off, telling) if (mask == off)[telling].all())
    where = next(named, None)
    if where is None and (places is clear_places or off[telling].mean() > 0.9 or e.nearly_right):
        return None  # nearly right, so right at some entries by chance
    ratio = (e.gradient / right)[off & (np.abs(right) > 1e-6 * size)]
    alike = bool(ratio.size) and np.ptp(ratio) < 1e-5 * np.abs(ratio).max()
    untouched = not np.any(e.gradient[off] * right[off])
    split = where is not None and " some number " in where
    errors = np.abs(e.gradient - right)[off]
    if split and (errors.min() < 1e-3 * errors.max() or e.nearly_right):
        return None  # the error grows with the input: there is no threshold
    if places is all_places and off[telling].mean() > 0.5 and not (alike or untouched or split):
        return None  # right at a few entries only: that says little about the mistake
    counted = f"{int(off.sum())} of {int(looked.sum())} entries"
    what = f"is wrong at {counted}" + (" looked at" if looked.sum() < off.size else " only")
    what += f", {where}" if where else f", one of them {np.argwhere(off)[0].tolist()}"
    if not np.any(e.gradient[off]):
        what += ": there it is 0"
    elif alike:
        what += f": there it is {float(ratio[0]):.6g} times what it should be"
    elif not right[off].any():
        what += ": there it should be 0. Is a mask missing?"
    elif untouched:
        what += ": there it is 0, or should be. Is it another mask?"
    if len(errors) > 1 and same_numbers(e.gradient[off], right[off]):
        what = f"has the right numbers at {counted}, but in other places"
        return Finding(Kind.PLACE, what, other=Kind.MASK, vague=True)
    if where is None and not alike and not untouched and fills_slices(off, telling):
        what = f"is wrong at {counted}, which are a part of it along an axis"
        return Finding(Kind.SLOPE, what, other=Kind.MASK, vague=True)
    if where is not None and "more than once" in where and right[off].any():
        return Finding(Kind.SUM, what, other=Kind.MASK, vague=True)
    return Finding(Kind.MASK, what, other=Kind.TERM if where is None else None, vague=True)


def fills_slices(off: Array, telling: Array) -> bool:
    """Whether the wrong entries are all those at some indices of an axis."""
    for axis in range(off.ndim):
        rest = tuple(a for a in range(off.ndim) if a != axis)
        some = off.any(axis=rest, keepdims=True)
        if off.ndim > 1 and 1 < some.sum() < some.size and off[telling & some].all():
            return True
    return False


def same_numbers(a: Array, b: Array) -> bool:
    """Whether these are the same numbers in another order, or were, before some of them were moved: then each
    error is there twice, with both signs."""
    for x, y in ((a, b), (a - b, b - a)):
        if x.any() and np.abs(np.sort(x) - np.sort(y)).max() <= 1e-6 * np.abs(x).max():
            return True
    return False


# -- the patterns ----------------------------------------------------------------------------------


def all_places(e: Evidence, off: Array, telling: Array) -> Iterator[Place]:
    yield from clear_places(e, off, telling, LIKELY)
    for axis, n in enumerate(off.shape):
        at = np.indices(off.shape)[axis]
        for k in at[off].tolist()[:1]:
            yield f"at index {k} of axis {axis}", at == k
        for k in at[telling & ~off].tolist()[:1]:
            yield f"everywhere but at index {k} of axis {axis}", at != k
        if n > 2:
            yield f"at both ends of axis {axis}", (at == 0) | (at == n - 1)
            yield f"at every other index of axis {axis}", at % 2 == int(off[at % 2 == 1].any())


def clear_places(e: Evidence, off: Array, telling: Array, rare: int = RARE) -> Iterator[Place]:
    if off.sum() == 1:
        yield f"at {np.argwhere(off)[0].tolist()}", off
    yield from repeated_rows(e, off)
    if off.ndim >= 2:
        i, j = np.indices(off.shape)[-2:]
        diagonal = "the diagonal of the last two axes"
        yield f"above {diagonal}", j > i
        yield f"below {diagonal}", j < i
        yield f"on and above {diagonal}", j >= i
        yield f"on and below {diagonal}", j <= i
        if off.shape[-1] == off.shape[-2]:
            yield f"on {diagonal}", i == j
            yield f"off {diagonal}", i != j
    for name, x in zip(e.subject.names, e.subject.points, strict=True):
        if x.shape == off.shape and (telling & ~off).sum() > 1:
            yield from sides(name, x, x[off], x[telling & ~off], rare)
    yield "exactly where the right one is 0", e.entries[1] == 0
    for name, x in zip(e.subject.names, e.subject.points, strict=True):
        if x.shape == off.shape and (telling & ~off).sum() > 1:
            yield from far_from_zero(name, x, x[off], x[telling & ~off], rare)


def sides(name: str, x: Array, wrong: Array, right: Array, rare: int) -> Iterator[Place]:
    """The entries where x is on one side of a threshold."""
    yield f"where {name} is negative", x < 0
    yield f"where {name} is positive", x > 0
    yield f"where {name} is 0", x == 0
    if math.comb(wrong.size + right.size, right.size) < rare:
        return  # too few entries: a threshold may fit by chance
    if wrong.min() > right.max():
        yield (
            f"where {name} is above some number from {right.max():.3g} to {wrong.min():.3g}",
            x >= wrong.min(),
        )
    if wrong.max() < right.min():
        yield (
            f"where {name} is below some number from {wrong.max():.3g} to {right.min():.3g}",
            x <= wrong.max(),
        )


def far_from_zero(name: str, x: Array, wrong: Array, right: Array, rare: int) -> Iterator[Place]:
    """The entries whose size is on one side of a threshold."""
    if math.comb(wrong.size + right.size, right.size) < rare:
        return
    off, fine = np.abs(wrong), np.abs(right)
    if off.min() > fine.max():
        yield (
            f"where |{name}| is above some number from {fine.max():.3g} to {off.min():.3g}",
            abs(x) >= off.min(),
        )
    if off.max() < fine.min():
        yield (
            f"where |{name}| is below some number from {off.max():.3g} to {fine.min():.3g}",
            abs(x) <= off.max(),
        )


def repeated_rows(e: Evidence, off: Array) -> Iterator[Place]:
    """The entries along the first axis whose index occurs more than once in an integer argument."""
    for ids in getattr(e.subject, "integers", []) if off.ndim else ():
        counts = np.bincount(ids[(ids >= 0) & (ids < off.shape[0])].ravel(), minlength=off.shape[0])
        rows = (counts > 1).reshape(-1, *[1] * (off.ndim - 1))
        yield "in the rows that are read more than once", np.broadcast_to(rows, off.shape)

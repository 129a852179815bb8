"""Which outputs influence the gradient at which entries: missing sums, and sums along the wrong axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence, axis_names
from tinygen.gradcheck.places import tied_axes
from tinygen.gradcheck.report import Finding, Kind

LIMIT = 600  # each index along an axis is tried if there are at most so many


def missing_sum(e: Evidence) -> Finding | None:
    """Only the first or the last index of some output axes is used, and for it the gradient is right."""
    return count_only(e, ends(e)) if len(e.g) == 1 else None


def partial_sum(e: Evidence) -> Finding | None:
    """Only some indices of the output axes are used, and for those the gradient is right."""
    if len(e.g) != 1 or e.g[0].shape == e.x.shape:
        return None  # with an output for each entry, unused ones are a mask, not a sum
    found = count_only(e, used_slices(e))
    looked, right = e.entries
    off = looked & (np.abs(e.gradient - right) > 1e-6 * np.abs(right).max())
    if found and (looked & ~off & (right != 0)).any():  # a missing sum would concern all entries
        found.other, found.vague = Kind.MASK, True
        found.sentence = f"is wrong at {int(off.sum())} of {int(looked.sum())} entries: it {found.sentence}"
    return found


Slices = Iterator[tuple[str, Array]]
"""Sets of outputs that may be the only ones used: names and masks."""


def count_only(e: Evidence, slices: Slices) -> Finding | None:
    (g,) = e.g
    for words, mask in slices:
        one, rest = [g * mask], [g * ~mask]
        if np.abs(e.pair(rest)).max() < 1e-9 * np.abs(e.right).max():
            continue  # the other outputs do not matter
        if not np.any(e.tape_gradient(rest)) and e.close(e.components(e.tape_gradient(one)), e.pair(one)):
            return Finding(Kind.SUM, f"counts only {words} of what comes back: the others have to be added")
    return None


def ends(e: Evidence) -> Slices:
    (g,) = e.g
    at = np.indices(g.shape)
    long = [a for a, n in enumerate(g.shape) if n > 1]
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(long, count):
            yield f"index 0 of {axis_names(axes)}", np.logical_and.reduce([at[a] == 0 for a in axes])
            last = [at[a] == g.shape[a] - 1 for a in axes]
            yield f"the last index of {axis_names(axes)}", np.logical_and.reduce(last)


def used_slices(e: Evidence) -> Slices:
    """Along each axis, the indices that the rule uses."""
    (g,) = e.g
    everywhere = np.ones(g.shape, bool)
    texts = []
    for axis, n in enumerate(g.shape):
        at = np.indices(g.shape)[axis]
        found = (
            [i for i in range(n) if np.any(e.tape_gradient([g * (at == i)]))] if 1 < n <= LIMIT else range(n)
        )
        if len(found) < n:
            texts.append(
                f"ind{'ex' if len(found) == 1 else 'ices'} {', '.join(map(str, found))} of axis {axis}"
            )
            everywhere &= np.isin(at, found)
            yield texts[-1], np.isin(at, found)
    if len(texts) > 1:
        yield " and ".join(texts), everywhere


def double_sum(e: Evidence) -> Finding | None:
    """The gradient is constant along an axis: the sum or the mean of the right one."""
    axes: list[tuple[int, ...]] = [(a,) for a, n in enumerate(e.x.shape) if n > 1]
    if len(axes) > 1:
        axes.append(tuple(a for (a,) in axes))
    for group in axes:
        n = math.prod(e.x.shape[a] for a in group)
        sums = [np.broadcast_to(d.sum(axis=group, keepdims=True), d.shape) for d in e.directions]
        right = e.pair(e.g, [e.push(d) for d in sums])
        for factor, words in ((1, "summed"), (n, "averaged")):
            if e.close(e.tape * factor, right):
                return Finding(
                    Kind.SUM, f"is {words} along {axis_names(group)}, where each entry has its own"
                )
    return None


def inverted_mask(e: Evidence) -> Finding | None:
    """The rule uses exactly the wrong outputs."""
    if e.jacobians is None:
        return None
    said, right = (np.abs(z).reshape(e.outputs[0].size, -1) for z in e.jacobians)
    least = 1e-6 * right.max()
    heeded, needed = (said > least).any(axis=1), (right > least).any(axis=1)
    if not heeded.any() or not needed.any() or (heeded & needed).any():
        return None
    return Finding(
        Kind.MASK,
        "heeds what comes back only where it makes no difference, and not where it does: is a mask the "
        "wrong way round?",
    )


def influence(e: Evidence) -> Finding | None:
    """Which indices of an output axis depend on which indices of an input axis: for the function and for the
    tape."""
    both = e.jacobians
    if both is None:
        return None
    said, right = both
    shape = said.shape
    size = np.abs(right).max()
    told, true = np.abs(said) > 1e-6 * size, np.abs(right) > 1e-6 * size
    missing = extra = None
    for a, b in itertools.product(range(e.outputs[0].ndim), range(e.x.ndim)):
        n = e.x.shape[b]
        if e.outputs[0].shape[a] != n or n < 3:
            continue
        over = tuple(i for i in range(len(shape)) if i not in (a, e.outputs[0].ndim + b))
        finding = compare_patterns(true.any(axis=over), told.any(axis=over), b)
        if finding is not None and finding.kind is not Kind.SUM:
            return finding
        if finding is not None and told.any(axis=over).sum() < true.any(axis=over).sum():
            missing = missing or (b, finding, a)
        elif finding is not None:
            extra = extra or (b, finding)
    if missing and extra:
        return Finding(
            Kind.SUM,
            f"sums along axis {extra[0]} of what comes back, where axis {missing[0]} is needed",
        )
    if missing and (axes := missing_axes(said, right, told, true)):
        return Finding(Kind.SUM, f"sums along too few axes: along {axis_names(axes)} as well")
    if missing and not belongs_to_sum(said, right, missing[2], 1e-6 * size):
        return Finding(
            Kind.TERM,
            f"lacks a term: along axis {missing[0]} of what comes back not only the same index matters, and "
            "for the same one it is not right either",
        )
    return (missing or extra or (0, None))[1]


def missing_axes(said: Array, right: Array, told: Array, true: Array) -> list[int]:
    """Axes that a sum or a mean over several axes leaves out. Its weights for other entries are then right,
    or too large by the number of entries that the mean leaves out."""
    shape = said.shape[: said.ndim // 2]
    if said.shape != 2 * shape:
        return []
    own = np.eye(math.prod(shape), dtype=bool).reshape(said.shape)
    ours, theirs = told & ~own, true & ~own
    if not ours.any() or (ours & ~true).any():
        return []
    same, needed = (tied_axes(shape, shape, np.argwhere(z)) for z in (ours, theirs))
    axes = [a for a, b in same if a == b and (a, b) not in needed] if set(needed) < set(same) else []
    counts = (1, math.prod(shape[a] for a in axes))
    ratio = said[ours] / right[ours]
    return axes if any(np.abs(ratio - n).max() < 1e-5 * n for n in counts) else []


def belongs_to_sum(said: Array, right: Array, axis: int, least: float) -> bool:
    """Whether each weight of the tape is right, or is the right weight of another index along an axis of the
    output."""
    off = (np.abs(said) > least) & (np.abs(said - right) > least)
    elsewhere = np.zeros_like(off)
    for part in np.split(right, right.shape[axis], axis):
        elsewhere |= np.abs(said - part) <= least
    return bool(elsewhere[off].all())


def single_index(e: Evidence) -> Finding | None:
    """One index of an output axis is used, although several matter, and for that one it is wrong too."""
    if e.jacobians is None or e.outputs[0].shape == e.x.shape:
        return None
    said, right = (np.abs(z) > 1e-6 * np.abs(e.jacobians[1]).max() for z in e.jacobians)
    for axis, n in enumerate(e.outputs[0].shape):
        over = tuple(a for a in range(said.ndim) if a != axis)
        heeded = np.flatnonzero(said.any(axis=over))
        if n > 2 and len(heeded) == 1 and right.any(axis=over).sum() > 2:
            return Finding(
                Kind.SUM,
                f"heeds only index {heeded[0]} of axis {axis} of what comes back: what the others send has "
                "to be added",
            )
    return None


def compare_patterns(true: Array, told: Array, axis: int) -> Finding | None:
    """The mistake, if `true` are the (output index, input index) pairs that matter, and `told` the pairs that
    the tape uses."""
    t, s = shape_of(true), shape_of(told)
    if t != "diagonal" and t and s == "diagonal":
        return Finding(
            Kind.SUM,
            f"takes along axis {axis} only what comes back at the same index, although others depend on it "
            "too: a sum is missing",
        )
    if t == "diagonal" and s and s != "diagonal":
        return Finding(
            Kind.SUM,
            f"mixes what comes back at different indices of axis {axis}, although each depends on its own",
        )
    if t in ("lower", "upper") and s == "full":
        side = "before" if t == "lower" else "after"
        return Finding(
            Kind.MASK,
            f"counts what comes back {side} an entry along axis {axis}, although that does not depend on it: "
            "is a mask missing?",
        )
    if {t, s} == {"lower", "upper"}:
        return Finding(Kind.PLACE, f"runs the wrong way along axis {axis}")
    for step in (1, -1):
        if (
            t is None
            and drop_ends(told).any()
            and np.array_equal(drop_ends(np.roll(true, step, 0)), drop_ends(told))
        ):
            return Finding(Kind.PLACE, f"is shifted by {step:+d} along axis {axis}")
    return None


def shape_of(pairs: Array) -> str | None:
    """ "diagonal", "lower" or "upper" (most of the pairs on one side of it), "full" (nearly all), or None."""
    n = len(pairs)
    below, above = np.tril(pairs, -1).sum(), np.triu(pairs, 1).sum()
    half = n * (n - 1) / 2
    if not below and not above:
        return "diagonal"
    if not above or not below:
        return "lower" if below > half / 2 else "upper" if above > half / 2 else None
    return "full" if below + above > 0.9 * 2 * half else None


def drop_ends(pairs: Array) -> Array:
    """The pairs without the first and last index, since a shift moves some of those out."""
    return pairs[1:-1]

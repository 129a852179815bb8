"""Paths from the input to the output that a rule leaves out: a path that is cut, a statistic that is taken
for a constant, one of several uses of the input.

The two Jacobians are compared as matrices, with a row for each output and a column for each input entry. A
rule that leaves out a path has some of the right numbers and zeros elsewhere, or a Jacobian of another rank
than the true one. A wrong factor, or numbers in the wrong order, would not change the rank.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.evidence import Evidence, input_arrays
from tinygen.gradcheck.places import masks
from tinygen.gradcheck.report import Finding, Kind

ZERO = 1e-6  # a singular value of that size, relative to the largest, is none
USES = 4  # at most so many uses of an input are told apart


def matrices(e: Evidence) -> tuple[Array, Array] | None:
    """The two Jacobians, (outputs, inputs): the tape's and the true one."""
    if e.jacobians is None:
        return None
    said, right = (z.reshape(e.outputs[0].size, e.x.size) for z in e.jacobians)
    return said, right


def cut_path(e: Evidence) -> Finding | None:
    """The weights of the tape are right, or 0 where the true ones are not. Where two paths meet, a weight may
    be wrong."""
    both = matrices(e)
    if both is None:
        return None
    _, right = both
    told, true, off = masks(both)
    lost, changed = true & ~told, true & told & off
    if not lost.any() or (told & ~true).any() or changed.sum() > min(lost.sum(), (told & ~off).sum() / 2):
        return None
    wrong = off.any(axis=0)
    if told[:, wrong].any(axis=0).mean() <= 0.5:
        return None  # most of these entries get no gradient at all: entries are left out, not a path
    some = np.where(true, right, np.nan)[:, wrong]
    alike = np.nanmax(some, axis=0) - np.nanmin(some, axis=0) <= ZERO * np.nanmax(np.abs(some), axis=0)
    if not changed.any() and alike.all():
        return Finding(
            Kind.SUM,
            f"counts only some of what comes back at {int(wrong.sum())} of {e.x.size} entries, although all "
            "of it has the same weight: it has to be added up",
        )
    single = is_overwritten(e, told[:, wrong], true[:, wrong], np.flatnonzero(wrong))
    return Finding(
        Kind.SUM if single else Kind.TERM,
        f"lacks a term: {int(lost.sum())} of the {int(true.sum())} ways from an entry to an output are not "
        "counted, the others are right. Is one of the paths through the op missing?",
        other=Kind.TERM if single else Kind.SUM,
    )


def is_overwritten(e: Evidence, told: Array, true: Array, entries: Array) -> bool:
    """Whether each of the `entries` keeps only the cotangent at one index of an output axis, as after
    `=` in place of `+=`. If this is the index of the entry itself, the rest is a term of its own."""
    shape = e.outputs[0].shape
    for axis, n in enumerate(shape):
        over = tuple(a for a in range(len(shape)) if a != axis)
        ours, theirs = (z.reshape(*shape, -1).any(axis=over) for z in (told, true))  # (n, entries)
        if (ours.sum(axis=0) > 1).any() or (theirs.sum(axis=0) < 2).any():
            continue
        here = ours.argmax(axis=0)
        own = [i for i, m in zip(np.unravel_index(entries, e.x.shape), e.x.shape, strict=True) if m == n]
        if not any(np.array_equal(here, i) for i in own):
            return True
    return False


def bottleneck(e: Evidence) -> Finding | None:
    """The rule treats a statistic (a mean, a norm) as a constant. The missing part passes through few
    numbers, so it consists of blocks of low rank: 1 for each number."""
    both = matrices(e)
    if both is None:
        return None
    missed = both[1] - both[0]
    blocks = [missed[np.ix_(rows, columns)] for rows, columns in parts(missed)]
    ranks = [rank(block) for block in blocks]
    if not blocks or any(r > 1 and 2 * r >= min(b.shape) for r, b in zip(ranks, blocks, strict=True)):
        return None
    if any(min(block.shape) < 2 for block in blocks):
        return None
    numbers = "one number" if sum(ranks) == 1 else f"{sum(ranks)} numbers"
    return Finding(
        Kind.TERM,
        f"lacks what passes through {numbers} only: is a statistic (a mean, a norm or the like) taken for a "
        "constant?",
    )


def lost_rank(e: Evidence) -> Finding | None:
    """The Jacobian of the tape has a smaller or a larger rank than the true one. A factor or another order of
    the numbers would not change the rank, so a term is missing."""
    both = matrices(e)
    if both is None:
        return None
    told, true, _ = masks(both)
    for axis in (0, 1):
        if not np.array_equal(told.any(axis=axis), true.any(axis=axis)):
            return None  # entries or outputs are left out as a whole, or should be
    ours, theirs = (rank(z) for z in both)
    if ours < theirs:
        shared = true.mean() > 0.5  # a weight of all rows or steps, whose gradients have to be added up
        return Finding(
            Kind.SUM if shared else Kind.TERM,
            f"lacks a term: its Jacobian has rank {ours}, and the true one has rank {theirs}",
            other=Kind.TERM if shared else Kind.SUM,
        )
    if ours > theirs:
        return Finding(
            Kind.TERM,
            f"lacks a term: its Jacobian has rank {ours}, and the true one has rank {theirs}. Is the value "
            "independent of a common shift or scale of the input?",
        )
    return None


def missing_mask(e: Evidence) -> Finding | None:
    """The weights of the tape are right (except for a common factor) where the true ones are not 0; but some
    are not 0 where the true ones are 0."""
    both = matrices(e)
    if both is None:
        return None
    told, true, _ = masks(both)
    extra, common = told & ~true, told & true
    if not extra.any() or (true & ~told).any():
        return None
    ratios = both[0][common] / both[1][common]
    if np.ptp(ratios) > ZERO * np.abs(ratios).max():
        return None
    times = "" if abs(ratios[0] - 1) < ZERO else f" but for a factor {ratios[0]:.4g}"
    return Finding(
        Kind.MASK,
        f"is right{times}, but also counts {int(extra.sum())} pairs of an entry and an output that does not "
        "depend on it: is a mask missing?",
    )


def path_through_matrix(e: Evidence) -> Finding | None:
    """The missing term goes through a matrix w that is an argument: along the last axis it is s * w or s *
    w.T, with an unknown s (the cotangent times a slope, for example)."""
    both = matrices(e)
    if both is None or not e.x.ndim or not e.outputs[0].ndim:
        return None
    n, m = e.x.shape[-1], e.outputs[0].shape[-1]
    said, right = (z.reshape(e.outputs[0].size // m, m, e.x.size // n, n) for z in both)
    missed = right - said
    for name, w, _ in input_arrays(e):
        for p, words in ((w, name), (w.T, f"{name} transposed")):
            if w.ndim != 2 or w is e.x or p.shape != (m, n) or min(m, n) < 2:
                continue
            if goes_through(missed, p) and not goes_through(said, p):
                return Finding(Kind.TERM, f"lacks a term: what goes through {words}")
    return None


def transposed_rows(e: Evidence) -> Finding | None:
    """A matrix that mixes the rows of the input (the edges of a graph, for example) is transposed. A slope
    after it may be 0 for some rows of the output."""
    both = matrices(e)
    if both is None or e.x.ndim < 2 or e.outputs[0].ndim < 2:
        return None
    n, m = e.x.shape[-1], e.outputs[0].shape[-1]
    rows = e.x.size // n
    if e.outputs[0].size // m != rows or rows < 3:
        return None
    said, right = (z.reshape(rows, m, rows, n).transpose(1, 3, 0, 2) for z in both)
    least = ZERO * np.abs(right).max()
    active = (np.abs(right) > least).any(axis=3)  # (m, n, rows)
    seen = active[..., :, None] & active[..., None, :]
    turned = right.swapaxes(2, 3)
    if not (np.abs(said - right)[seen] > least).any() or (np.abs(said - turned)[seen] > least).any():
        return None
    return Finding(Kind.PLACE, "mixes rows by a matrix that should be transposed")


def goes_through(jacobian: Array, p: Array) -> bool:
    """Whether a Jacobian (rows, m, rows, n) is s (rows, m, rows, 1) times p (m, n)."""
    sizes = np.maximum((p * p).sum(axis=1), 1e-300)
    s = np.einsum("ajbi,ji->ajb", jacobian, p) / sizes[:, None]
    return bool(np.abs(s[..., None] * p[:, None] - jacobian).max() <= ZERO * np.abs(jacobian).max())


def one_of_several_uses(e: Evidence) -> Finding | None:
    """The input is used q times in a product, and the rule counts p of these uses. Then for every cotangent
    the tape's slope along the input itself is p/q of the right one (Euler's theorem on homogeneous
    functions)."""
    rng = np.random.default_rng(0)
    (moved,) = [e.push(e.x)]
    ratios = []
    for _ in range(3):
        g = [weights(y.shape, rng) for y in e.outputs]
        right = sum(float((a * b).sum()) for a, b in zip(g, moved, strict=True))
        ratios.append(float((e.tape_gradient(g) * e.x).sum()) / right if right else np.nan)
    ratio = ratios[0]
    if not np.isfinite(ratios).all() or np.ptp(ratios) > ZERO or not 0 < ratio < 1 - ZERO:
        return None
    part = Fraction(ratio).limit_denominator(USES)
    if not part or abs(ratio - part) > ZERO:
        return None
    return Finding(
        Kind.TERM,
        f"lacks a term: of {part.denominator} uses of the input in a product it counts {part.numerator}",
    )


def parts(pairs: Array) -> list[tuple[Array, Array]]:
    """The rows and columns of each connected block of a matrix."""
    there = np.abs(pairs) > 1e-6 * np.abs(pairs).max(initial=0.0)
    left, found = there.any(axis=1), []
    while left.any():
        rows = np.zeros(len(there), bool)
        rows[left.argmax()] = True
        columns = there[rows].any(axis=0)
        while (more := there[:, columns].any(axis=1)).sum() > rows.sum():
            rows, columns = more, there[more].any(axis=0)
        found.append((np.flatnonzero(rows), np.flatnonzero(columns)))
        left &= ~rows
    return found


def rank(block: Array) -> int:
    sizes = np.linalg.svd(block, compute_uv=False)
    return int((sizes > ZERO * sizes.max(initial=0.0)).sum())

"""A wrong slope, mask or sum inside of an op, seen in the ratio of the two Jacobians or in their blocks."""

from __future__ import annotations

import itertools

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence, input_arrays
from tinygen.gradcheck.paths import matrices, parts
from tinygen.gradcheck.places import masks
from tinygen.gradcheck.report import Finding, Kind

CLOSE = 1e-6
FEW = 8  # so many numbers at least have to be alike


def inner_ratio(e: Evidence) -> Finding | None:
    """The ratio of the Jacobians is the same along two axes of the output or the input. The other axes belong
    to hidden numbers whose slope is wrong."""
    if e.jacobians is None:
        return None
    said, right = e.jacobians
    told, true, off = masks(e.jacobians)
    if not np.array_equal(told, true) or off.sum() < FEW:
        return None
    ratio = np.where(true, said / np.where(true, right, 1.0), np.nan)
    if sum(is_constant(ratio, axis) for axis in range(ratio.ndim)) < 2:
        return None
    return Finding(
        Kind.SLOPE,
        "has a wrong factor inside: is a slope, a scale or a gate missing, or another one?",
        other=Kind.TERM,
    )


def is_constant(ratio: Array, axis: int) -> bool:
    """Whether a ratio (NaN where it says nothing) is the same along an axis, and that for many numbers."""
    several = (~np.isnan(ratio)).sum(axis=axis) > 1
    if several.sum() < FEW or 2 * several.sum() < (~np.isnan(ratio)).any(axis=axis).sum():
        return False
    low = np.where(np.isnan(ratio), np.inf, ratio).min(axis=axis)[several]
    high = np.where(np.isnan(ratio), -np.inf, ratio).max(axis=axis)[several]
    return bool((high - low <= CLOSE * np.maximum(np.abs(high), np.abs(low))).all())


def slopes_between_matrices(e: Evidence) -> Finding | None:
    """The slopes between two arguments that are matrices, row by row, are wrong."""
    if e.jacobians is None or e.x.ndim < 1 or e.outputs[0].ndim != e.x.ndim:
        return None
    n, m = e.x.shape[-1], e.outputs[0].shape[-1]
    rows = e.x.size // n
    if e.outputs[0].size // m != rows:
        return None
    r = np.arange(rows)
    said, right = (z.reshape(rows, m, rows, n)[r, :, r].reshape(rows, m * n) for z in e.jacobians)
    known = [p for _, w, _ in input_arrays(e) if w.ndim == 2 for p in (w, w.T)]
    for a, b in itertools.permutations(known, 2):
        if a.shape[1] != n or b.shape[0] != m or a.shape[0] != b.shape[1] or a.shape[0] >= m * n:
            continue
        ways = np.einsum("hn,mh->mnh", a, b).reshape(m * n, -1)  # one way through each hidden number
        if np.linalg.matrix_rank(ways) < ways.shape[1]:
            continue
        theirs, ours = (np.linalg.lstsq(ways, z.T, rcond=None)[0] for z in (right, said))
        least = CLOSE * np.abs(right).max()
        if any(np.abs(ways @ s - z.T).max() > least for s, z in ((theirs, right), (ours, said))):
            continue
        dead = np.abs(theirs) <= CLOSE * np.abs(theirs).max()
        alive = ours[~dead] / theirs[~dead]
        if dead.any() and np.abs(ours[dead]).max() > least and np.ptp(alive) <= CLOSE * np.abs(alive).max():
            return Finding(Kind.MASK, "counts inside of the op what a mask, or a slope of 0, should stop")
        return Finding(Kind.SLOPE, "has other slopes inside, between two matrices, than it should have")
    return None


def finer_blocks(e: Evidence) -> Finding | None:
    """The tape mixes entries within smaller groups than the value does: a mean or a sum over too few."""
    both = matrices(e)
    if both is None or e.outputs[0].shape != e.x.shape:
        return None
    told, true, off = masks(both)
    if (told & ~true).any() or not (true & ~told).any():
        return None
    ours, theirs = parts(both[0]), parts(both[1])
    if not 1 < len(theirs) < len(ours) or min(len(rows) for rows, _ in ours) < 2:
        return None
    if len({len(rows) for rows, _ in theirs}) > 1:
        return None  # groups of a mean have one size
    if any(len(rows) != len(columns) or not told[np.ix_(rows, columns)].all() for rows, columns in ours):
        return None
    if not all(off[np.ix_(rows, columns)].any() for rows, columns in ours):
        return None
    return Finding(
        Kind.SUM,
        f"mixes entries within {len(ours)} groups, where there are {len(theirs)}: is a mean or a sum over "
        "too few?",
        other=Kind.TERM,
    )

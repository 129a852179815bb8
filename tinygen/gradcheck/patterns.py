"""Where a gradient that is wrong only at some entries is wrong: above the diagonal, at a border, for negative
x, ...

A pattern is named only when it fits exactly: wrong there and nowhere else, or right there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygen.gradcheck.evidence import Evidence
from tinygen.gradcheck.report import Finding, Kind
from tinygen.gradcheck.subject import Array

LIMIT = 4096  # entries: larger arrays are not looked through


def partial(e: Evidence) -> Finding | None:
    """Wrong at some entries and right at the others."""
    if not 1 < e.x.size <= LIMIT:
        return None
    right = entry_by_entry(e)
    size = np.abs(right).max()
    off = np.abs(e.gradient - right) > 1e-6 * size
    if not off.any() or off.all():
        return None
    telling = off | (np.abs(right) > 1e-6 * size)  # elsewhere both are 0, which fits anything
    if off[telling].all():
        return None
    where = next((words for words, mask in places(e, off) if (mask == off)[telling].all()), None)
    if where is None and off.mean() > 0.9:
        return None
    what = f"is wrong at {int(off.sum())} of {off.size} entries only" + (f", {where}" if where else "")
    ratio = (e.gradient / right)[off & (np.abs(right) > 1e-6 * size)]
    if not np.any(e.gradient[off]):
        what += ": there it is 0"
    elif ratio.size and np.ptp(ratio) < 1e-5 * np.abs(ratio).max():
        what += f": there it is {float(ratio[0]):.6g} times what it should be"
    elif np.abs(right[off]).max() < 1e-6 * size:
        what += ": there it should be 0"
    return Finding(Kind.PARTIAL, what)


def entry_by_entry(e: Evidence) -> Array:
    """N(g) at every entry."""
    right = np.zeros(e.x.size)
    for j in range(e.x.size):
        d = np.zeros(e.x.shape)
        d.reshape(-1)[j] = 1.0
        right[j] = e.paired(e.g, [e.push(d)])[0]
    return right.reshape(e.x.shape)


def places(e: Evidence, off: Array) -> Iterator[tuple[str, Array]]:
    """Sets of entries that have a name."""
    shape, ndim = off.shape, off.ndim
    if off.sum() == 1:
        yield f"at {list(map(int, np.argwhere(off)[0]))}", off
    if ndim >= 2:
        i, j = np.indices(shape)[-2:]
        yield "above the diagonal of the last two axes", j > i
        yield "below the diagonal of the last two axes", j < i
        yield "on and above the diagonal of the last two axes", j >= i
        yield "on and below the diagonal of the last two axes", j <= i
        yield "on the diagonal of the last two axes", i == j
        yield "off the diagonal of the last two axes", i != j
    for axis, n in enumerate(shape):
        at = np.indices(shape)[axis]
        for k in range(n):
            yield f"at index {k} of axis {axis}", at == k
            yield f"everywhere but at index {k} of axis {axis}", at != k
        if n > 2:
            yield f"at both ends of axis {axis}", (at == 0) | (at == n - 1)
            yield f"at every other index of axis {axis}", at % 2 == int(off[at % 2 == 1].any())
    for name, x in zip(e.subject.names, e.subject.points, strict=True):
        if x.shape == shape:
            yield from sides(name, x, off)
    yield from repeated(e, off)


def sides(name: str, x: Array, off: Array) -> Iterator[tuple[str, Array]]:
    """Where x is on one side of some number."""
    yield f"where {name} is negative", x < 0
    yield f"where {name} is positive", x > 0
    yield f"where {name} is 0", x == 0
    low, high = x[off].min(), x[off].max()
    inside, outside = x[~off].min(), x[~off].max()
    if low > outside:
        yield f"where {name} is above some number between {outside:.3g} and {low:.3g}", x >= low
    if high < inside:
        yield f"where {name} is below some number between {high:.3g} and {inside:.3g}", x <= high


def repeated(e: Evidence, off: Array) -> Iterator[tuple[str, Array]]:
    """Where integer indices, along the first axis, come more than once."""
    for ids in getattr(e.subject, "integers", []):
        counts = np.bincount(ids[(ids >= 0) & (ids < off.shape[0])].ravel(), minlength=off.shape[0])
        rows = (counts > 1).reshape(-1, *[1] * (off.ndim - 1))
        yield "in the rows that are read more than once", np.broadcast_to(rows, off.shape)

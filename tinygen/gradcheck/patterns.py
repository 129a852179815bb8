"""Where a gradient that is wrong at some entries only is wrong: above the diagonal, at one end, for x < 0 ...

A pattern is named only when it fits exactly: wrong there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygen.gradcheck.evidence import Evidence
from tinygen.gradcheck.report import Finding, Kind
from tinygen.gradcheck.subject import Array

LIMIT = 2048  # entries: of larger arrays a sample is looked at,
SAMPLE = 64  # as large as this, and an entry that is wrong


def partial(e: Evidence) -> Finding | None:
    """Wrong at some entries and right at the others."""
    looked = entries_to_look_at(e)
    right = entry_by_entry(e, looked)
    size = np.abs(right).max()
    off = looked & (np.abs(e.gradient - right) > 1e-6 * size)
    telling = looked & (off | (np.abs(right) > 1e-6 * size))  # elsewhere both are 0, which fits anything
    if not off.any() or off[telling].all():
        return None
    where = next((words for words, mask in places(e, off, telling) if (mask == off)[telling].all()), None)
    if where is None and off[telling].mean() > 0.9:
        return None
    counted = f"{int(off.sum())} of {int(looked.sum())} entries"
    what = f"is wrong at {counted}" + (" looked at" if looked.sum() < off.size else " only")
    what += f", {where}" if where else f", one of them {np.argwhere(off)[0].tolist()}"
    ratio = (e.gradient / right)[off & (np.abs(right) > 1e-6 * size)]
    if not np.any(e.gradient[off]):
        what += ": there it is 0"
    elif ratio.size and np.ptp(ratio) < 1e-5 * np.abs(ratio).max():
        what += f": there it is {float(ratio[0]):.6g} times what it should be"
    elif np.abs(right[off]).max() < 1e-6 * size:
        what += ": there it should be 0"
    return Finding(Kind.PARTIAL, what)


def entries_to_look_at(e: Evidence) -> Array:
    looked = np.ones(e.x.shape, bool)
    if e.x.size > LIMIT:
        looked[...] = False
        chosen = np.random.default_rng(0).choice(e.x.size, SAMPLE, replace=False)
        looked.reshape(-1)[[*chosen, halved(e)]] = True
    return looked


def halved(e: Evidence) -> int:
    """An entry that is wrong (a flat index), by going into the half that is more wrong, again and again."""
    low, high = 0, e.x.size
    while high - low > 1:
        middle = (low + high) // 2
        errors = []
        for a, b in ((low, middle), (middle, high)):
            d = np.zeros(e.x.size)
            d[a:b] = e.directions[0].reshape(-1)[a:b]
            d = d.reshape(e.x.shape)
            errors.append(abs(float((e.gradient * d).sum() - e.paired(e.g, [e.push(d)])[0])))
        low, high = (low, middle) if errors[0] >= errors[1] else (middle, high)
    return low


def entry_by_entry(e: Evidence, looked: Array) -> Array:
    """N(g) at the entries looked at, 0 elsewhere."""
    right = np.zeros(e.x.size)
    for j in np.flatnonzero(looked):
        d = np.zeros(e.x.size)
        d[j] = 1.0
        right[j] = e.paired(e.g, [e.push(d.reshape(e.x.shape))])[0]
    return right.reshape(e.x.shape)


# -- the patterns ----------------------------------------------------------------------------------


def places(e: Evidence, off: Array, telling: Array) -> Iterator[tuple[str, Array]]:
    """Sets of entries that have a name."""
    index = np.indices(off.shape)
    if off.sum() == 1:
        yield f"at {np.argwhere(off)[0].tolist()}", off
    yield from repeated(e, off)
    if off.ndim >= 2:
        i, j = index[-2:]
        diagonal = "the diagonal of the last two axes"
        yield f"above {diagonal}", j > i
        yield f"below {diagonal}", j < i
        yield f"on and above {diagonal}", j >= i
        yield f"on and below {diagonal}", j <= i
        yield f"on {diagonal}", i == j
        yield f"off {diagonal}", i != j
    for axis, n in enumerate(off.shape):
        at = index[axis]
        for k in at[off].tolist()[:1]:
            yield f"at index {k} of axis {axis}", at == k
        for k in at[telling & ~off].tolist()[:1]:
            yield f"everywhere but at index {k} of axis {axis}", at != k
        if n > 2:
            yield f"at both ends of axis {axis}", (at == 0) | (at == n - 1)
            yield f"at every other index of axis {axis}", at % 2 == int(off[at % 2 == 1].any())
    for name, x in zip(e.subject.names, e.subject.points, strict=True):
        if x.shape == off.shape:
            yield from sides(name, x, x[off], x[telling & ~off])


def sides(name: str, x: Array, wrong: Array, right: Array) -> Iterator[tuple[str, Array]]:
    """Where x is on one side of some number."""
    yield f"where {name} is negative", x < 0
    yield f"where {name} is positive", x > 0
    yield f"where {name} is 0", x == 0
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


def repeated(e: Evidence, off: Array) -> Iterator[tuple[str, Array]]:
    """Where integer indices, along the first axis, come more than once."""
    for ids in getattr(e.subject, "integers", []) if off.ndim else ():
        counts = np.bincount(ids[(ids >= 0) & (ids < off.shape[0])].ravel(), minlength=off.shape[0])
        rows = (counts > 1).reshape(-1, *[1] * (off.ndim - 1))
        yield "in the rows that are read more than once", np.broadcast_to(rows, off.shape)

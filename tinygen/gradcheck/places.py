"""The right numbers in the wrong places: a cotangent is sent to the entries of another one.

The Jacobian of the tape is compared with the true one. Both have a row for each output, with a weight for
each input entry. A rule that sends the right weights to wrong entries has the same numbers in another order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence, axis_names, input_arrays, transpositions
from tinygen.gradcheck.report import Finding, Kind

CLOSE = 1e-6
DIGITS = 5  # prime factors of the sizes of a shape at most: they have 120 orders


def masks(both: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Masks of the Jacobians: the tape's is not zero, the true one is not zero, they differ."""
    said, right = both
    least = CLOSE * float(np.abs(right).max(initial=0.0))
    return np.abs(said) > least, np.abs(right) > least, np.abs(said - right) > least


def wrong_axis(e: Evidence) -> Finding | None:
    """An output depends on input entries with the same index along one pair of axes; for the tape it is
    another pair, as after a sum without keepdims of a square array."""
    if e.jacobians is None:
        return None
    told, true, off = masks(e.jacobians)
    extra, missing = np.argwhere(told & ~true), np.argwhere(true & off)
    if min(len(extra), len(missing)) < 3:
        return None
    shapes, n = (e.outputs[0].shape, e.x.shape), e.outputs[0].ndim
    heeded, needed = tied_axes(*shapes, extra), tied_axes(*shapes, missing)
    wrong, right = [p for p in heeded if p not in needed], [p for p in needed if p not in heeded]
    if not wrong or not right:
        return None
    if len({a for a, _ in wrong}) == n > 1 and len({b for _, b in wrong}) == e.x.ndim:
        return Finding(Kind.PLACE, "takes the axes of what comes back in another order")
    (a, i), (b, j) = wrong[0], right[0]
    if a == i and b == j:
        return Finding(Kind.SUM, f"sums along axis {b} of what comes back, where axis {a} is needed")
    return Finding(
        Kind.SUM,
        f"takes axis {a} of what comes back for axis {i} of the input, where it is axis {b} for axis {j}: "
        "a sum along the wrong axis, or one without keepdims?",
    )


def factor_along_the_wrong_axis(e: Evidence) -> Finding | None:
    """Entry by entry, the gradient is multiplied by the factor of another entry: the factors are right with
    axes exchanged, as after a broadcast along the wrong axis."""
    if e.jacobians is None or e.outputs[0].shape != e.x.shape or e.x.ndim < 2:
        return None
    said, right = (z.reshape(e.x.size, e.x.size) for z in e.jacobians)
    told, true, _ = masks((said, right))
    if (told | true)[~np.eye(e.x.size, dtype=bool)].any():
        return None
    mine, theirs = np.diag(said).reshape(e.x.shape), np.diag(right).reshape(e.x.shape)
    for r in transpositions(e.x.shape):
        if not r.reshaped and is_close(r.apply(mine), theirs):
            return Finding(Kind.PLACE, f"has a factor that is the right one {r.words}")
    return None


def other_tie(e: Evidence) -> Finding | None:
    """The missing part ties one pair of axes of output and input, and the rest ties another pair: for x @ x,
    the gradient by the second factor is missing."""
    if e.jacobians is None:
        return None
    told, true, off = masks(e.jacobians)
    if not told.any() or (told & ~true).any():
        return None
    ours, missing = (tied_axes(e.outputs[0].shape, e.x.shape, np.argwhere(m)) for m in (told, true & off))
    if not [p for p in missing if p not in ours] or not [p for p in ours if p not in missing]:
        return None
    return Finding(
        Kind.TERM,
        "lacks a term in which axis {} of what comes back is axis {} of the input: is the input used "
        "twice?".format(*missing[0]),
    )


def wrong_grouping(e: Evidence) -> Finding | None:
    """The same of a part of an axis: heads 0 and 1 of four belong together, and are taken for 0 and 2. The
    sizes are split into their prime factors, the digits of an index."""
    if e.jacobians is None:
        return None
    y, x = ([p for n in shape for p in primes(n)] for shape in (e.outputs[0].shape, e.x.shape))
    if len(y) + len(x) > 2 * DIGITS:
        return None
    told, true, off = (z.reshape(*y, *x) for z in masks(e.jacobians))
    extra, missing = np.argwhere(told & ~true), np.argwhere(true & off)
    if min(len(extra), len(missing)) < 10:
        return None
    heeded, needed = tied_axes(y, x, extra), tied_axes(y, x, missing)
    wrong, right = [p for p in heeded if p not in needed], [p for p in needed if p not in heeded]
    if not wrong or not right:
        return None
    if all((true.reshape(e.outputs[0].size, -1).sum(axis=axis) <= 1).all() for axis in (0, 1)):
        return None  # each output is one entry: the entries are in another order
    return Finding(
        Kind.SUM, "sums what comes back by another grouping: parts of an axis are taken for others"
    )


def tied_axes(y: Sequence[int], x: Sequence[int], places: Array) -> list[tuple[int, int]]:
    """The pairs of axes, of the output and of the input, along which the index is the same in all places."""
    pairs = [(a, b) for a in range(len(y)) for b in range(len(x)) if y[a] == x[b] > 1]
    return [(a, b) for a, b in pairs if (places[:, a] == places[:, len(y) + b]).all()]


def inner_transpose(e: Evidence) -> Finding | None:
    """s @ q instead of s.T @ q, or the other way round, for an argument q and an unknown matrix s whose rows
    depend on the same rows of the cotangent, as in attention."""
    if e.jacobians is None or e.x.ndim < 2:
        return None
    *lead, n, m = e.x.shape
    if list(e.outputs[0].shape[: e.x.ndim - 1]) != [*lead, n]:
        return None
    said, right = (z.reshape(*lead, n, -1, *lead, n, m) for z in e.jacobians)
    for name, q, _ in input_arrays(e):
        if q.shape != e.x.shape or name == e.name:
            continue
        blocks = [((*i, ..., *i, slice(None), slice(None)), q[i]) for i in np.ndindex(*lead)]
        for a, b in ((said, right), (right, said)):
            if all(is_crossed(a[block], b[block], part) for block, part in blocks):
                return Finding(Kind.PLACE, f"multiplies {name} by a matrix that should be transposed")
    return None


def is_crossed(a: Array, b: Array, q: Array) -> bool:
    """Whether a(g) = s(g).T @ q and b(g) = s(g) @ q for a matrix s whose rows come of the same rows of g.
    Both are (rows, columns, *q.shape)."""
    sizes = (q * q).sum(axis=1)
    if not sizes.all():
        return False
    s = np.einsum("ocid,od->oci", a, q) / sizes[:, None, None]
    theirs = np.zeros_like(b)
    i = np.arange(len(q))
    theirs[i, :, i] = s @ q
    return is_close(np.einsum("oci,od->ocid", s, q), a) and is_close(theirs, b)


def transposed_weight(e: Evidence) -> Finding | None:
    """s @ w instead of s @ w.T, for a square argument w and an unknown s: the cotangent times the slope of an
    activation, for example."""
    n = e.x.shape[-1] if e.x.ndim else 0
    if e.jacobians is None or n < 2 or e.outputs[0].shape != e.x.shape:
        return None
    rows = np.arange(e.x.size // n)
    said, right = (z.reshape(len(rows), n, len(rows), n)[rows, :, rows] for z in e.jacobians)
    for name, w, _ in input_arrays(e):
        if w.shape != (n, n):
            continue
        for p in (w, w.T):
            slopes = (right * p).sum(axis=-1, keepdims=True) / np.maximum((p * p).sum(axis=1), 1e-300)[
                :, None
            ]
            if is_close(slopes * p, right) and is_close(slopes * p.T, said):
                return Finding(Kind.PLACE, f"multiplies by {name} the wrong way round: transpose it")
    return None


def inner_shift(e: Evidence) -> Finding | None:
    """Shifted, as a padded gradient that is cut at the wrong place. The numbers at the border may be
    anything."""
    if e.jacobians is None:
        return None
    said, right = e.jacobians
    least = CLOSE * float(np.abs(right).max(initial=0.0))
    n = e.outputs[0].ndim
    for words, first, last in ((" is", n, right.ndim), (" is right for a cotangent", 0, n)):
        axes = [a for a in range(first, last) if right.shape[a] > 2]
        groups = [(a,) for a in axes] + ([tuple(axes[-2:])] if len(axes) > 1 else [])
        for group, step in itertools.product(groups, (1, -1, 2, -2)):
            if min(right.shape[a] for a in group) < abs(step) + 2:
                continue
            here, before = (inner_slices(right.ndim, group, s) for s in (step, -step))
            part = said[here]
            if np.abs(part - right[before]).max() > least or np.abs(part - right[here]).max() <= least:
                continue
            where = axis_names([a - first for a in group])
            return Finding(Kind.PLACE, f"{words[1:]} shifted by {step:+d} along {where}, but for its border")
    return None


def inner_slices(ndim: int, axes: Sequence[int], step: int) -> tuple[slice, ...]:
    """The part of an array, moved by `step` along each of the axes, that was in it before."""
    part = slice(step, None) if step > 0 else slice(None, step)
    return tuple(part if a in axes else slice(None) for a in range(ndim))


def wrong_order(e: Evidence) -> Finding | None:
    """Each output's weights are right but for their order, or each input's."""
    if e.jacobians is None:
        return None
    rows, columns = e.outputs[0].size, e.x.size
    said, right = (z.reshape(rows, columns) for z in e.jacobians)
    for a, b, words in ((said, right, "sends each output's"), (said.T, right.T, "gives each entry its")):
        if not is_reordered(a, b):
            continue
        told, true, off = masks((a, b))
        if a is not said and 2 * told.any(axis=0).sum() < true.any(axis=0).sum():
            continue  # few outputs are heeded at all
        wrong = off.any(axis=1)
        if not np.array_equal(told[wrong], true[wrong]):
            if any(np.allclose(said, z, 0, CLOSE * np.abs(right).max()) for z in other_orders(e, right)):
                return Finding(Kind.PLACE, "is that of axes that are exchanged, as a reshape does")
            shifted = has_one_offset(told & ~true, true & ~told, e, a is said)
            where = "to places that are all shifted alike" if shifted else "to the wrong places"
            return Finding(Kind.PLACE, f"{words} right numbers, but {where}")
        backwards = [(x[m], y[m][::-1]) for x, y, m in zip(a[wrong], b[wrong], true[wrong], strict=True)]
        if any(len(x) > 2 for x, _ in backwards) and all(is_close(x, y) for x, y in backwards):
            return Finding(Kind.PLACE, "has its numbers in the reverse order")
        return Finding(Kind.PLACE, "has the right numbers, exchanged for each other")
    return None


def has_one_offset(extra: Array, missing: Array, e: Evidence, by_output: bool) -> bool:
    """Whether in each row one number is at the wrong place, always as far from the right one."""
    shape = e.x.shape if by_output else e.outputs[0].shape
    offsets = set()
    for here, there in zip(extra, missing, strict=True):
        if here.sum() != there.sum() or here.sum() > 1:
            return False
        if here.any():
            ends = [np.array(np.unravel_index(int(z.argmax()), shape)) for z in (here, there)]
            offsets.add(tuple(((ends[0] - ends[1]) % np.array(shape)).tolist()))
    return len(offsets) == 1


def is_close(x: Array, y: Array) -> bool:
    return bool(np.abs(x - y).max(initial=0.0) <= CLOSE * np.abs(y).max(initial=0.0))


def is_reordered(said: Array, right: Array) -> bool:
    """Whether most of the wrong rows have the right numbers in another order, and the others, which a border
    may cut, have some of the right numbers."""
    told, true, off = masks((said, right))
    least = CLOSE * float(np.abs(right).max(initial=0.0))
    whole = wrong = 0
    for i in np.flatnonzero(off.any(axis=1)):
        few, many = sorted((np.sort(said[i][told[i]]), np.sort(right[i][true[i]])), key=len)
        if not len(few) or not is_subset(few, many, least):
            return False
        wrong += 1
        whole += len(few) == len(many)
    return whole > wrong / 2


def is_subset(few: Array, many: Array, least: float) -> bool:
    """Whether the numbers of a sorted row are among those of another one, counted with multiplicity."""
    rest = iter(many)
    return all(any(abs(x - y) <= least for y in rest) for x in few)


def other_orders(e: Evidence, right: Array) -> Iterator[Array]:
    """The Jacobian with its rows or columns in the orders that come from a reshape instead of a transpose."""
    for shape, turned in ((e.outputs[0].shape, rows_of), (e.x.shape, columns_of)):
        sizes = [p for n in shape for p in primes(n)]
        for order in itertools.permutations(range(len(sizes))) if len(sizes) <= DIGITS else ():
            yield turned(right, np.arange(right.size and int(np.prod(shape))).reshape(sizes).transpose(order))


def rows_of(z: Array, order: Array) -> Array:
    return np.asarray(z[order.ravel()])


def columns_of(z: Array, order: Array) -> Array:
    return np.asarray(z[:, order.ravel()])


def primes(n: int) -> Iterator[int]:
    p = 2
    while n > 1:
        while n % p == 0:
            yield p
            n //= p
        p += 1

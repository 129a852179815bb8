"""A missing term of a product rule, recognized by its factors.

At each entry the gradient lacks the cotangent times some number. This number is compared with known arrays
and with products of two of them: the arguments, the value, and common functions of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.evidence import LIMIT, Evidence, input_arrays
from tinygen.gradcheck.report import Finding, Kind
from tinygen.gradcheck.terms import derived_arrays, fit

CLOSE = 1e-6
GRID = 33  # points on a line, to look for a jump of the value; then the interval with the
HALVINGS = 20  # largest change is halved so many times
MOST = 400  # known factors at most


def straight_through_estimator(e: Evidence) -> Finding | None:
    """The value jumps, and the rule passes the cotangent on as if it did not."""
    if len(e.g) != 1 or e.g[0].shape != e.x.shape:
        return None
    path, extra = e.components(e.g[0]), e.tape - e.right
    c = float(path @ extra) / float(path @ path)
    if not (c > 0 and e.close(c * path, extra) and jumps(e)):
        return None
    return Finding(
        Kind.STEPS,
        f"has a term too many, {c:.4g} times what comes back, and the value moves in steps: if this is meant "
        "as a straight-through gradient, declare it: intended=",
    )


def jumps(e: Evidence) -> bool:
    """Whether the value jumps somewhere on a random line through the input."""
    d = weights(e.x.shape, np.random.default_rng(0)) * np.maximum(1.0, np.abs(e.x))

    def value(t: float) -> float:
        arrays = list(e.subject.points)
        arrays[e.k] = np.asarray(e.x + t * d)
        outputs = e.select_outputs(e.subject.evaluate(arrays))
        return sum(float((y * a).sum()) for y, a in zip(outputs, e.g, strict=True))

    try:
        ts = np.linspace(-1, 1, GRID).tolist()
        values = [value(t) for t in ts]
        i = int(np.argmax(np.abs(np.diff(values))))
        (a, b), (low, high) = ts[i : i + 2], values[i : i + 2]
        before = abs(high - low)
        for _ in range(HALVINGS):
            t = (a + b) / 2
            y = value(t)
            a, b, low, high = (a, t, low, y) if abs(y - low) > abs(high - y) else (t, b, y, high)
    except Exception:
        return False  # the function raises an error at other inputs
    return bool(abs(high - low) > 0.01 * before > 0)


def missing_product(e: Evidence) -> Finding | None:
    """The tape lacks the cotangent times a known number, or times a product of two known numbers."""
    if len(e.g) != 1 or max(e.x.size, e.outputs[0].size) > LIMIT:
        return None
    looked, right = e.entries
    missed, wanted = np.where(looked, right - e.gradient, 0.0), e.x.shape
    ways = list(expand_to(e.g[0], e.x.shape))
    if e.x.size == 1 and e.jacobians is not None:  # a single number: compare output by output
        looked, wanted = np.ones(e.outputs[0].shape, bool), e.outputs[0].shape
        missed = (e.jacobians[1] - e.jacobians[0]).reshape(wanted)
        ways = [np.ones(wanted)]
    if missed.size < 3:
        return None
    for g in ways:
        shape = np.broadcast_shapes(g.shape, wanted)
        names, pieces = known_factors(e, shape)
        for i, (name, piece) in enumerate(zip(names, pieces, strict=True)):
            all_terms = np.array([sum_to(z, wanted) for z in g * piece * pieces[i:]]) * looked
            flat = all_terms.reshape(len(all_terms), -1)
            sizes = (flat * flat).sum(axis=1)
            c = flat @ missed.ravel() / np.where(sizes > 0, sizes, 1.0)
            rest = np.abs(c[:, None] * flat - missed.ravel()).max(axis=1)
            j = int(np.argmin(rest))
            if c[j] and rest[j] <= CLOSE * np.abs(missed).max():
                words = " ".join(w for w in ("times", name, names[i + j]) if w)
                number = "" if abs(c[j] - 1) < 1e-5 else f"{c[j]:.4g} times "
                said = f"{number}what comes back {words if words != 'times' else ''}"
                return Finding(Kind.TERM, f"lacks a term: {said.strip()}")
    return None


def expand_to(g: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The cotangent with a shape that broadcasts with the input: summed axes of the input get the size 1."""
    if g.ndim >= len(shape):
        try:
            np.broadcast_shapes(g.shape, shape)
        except ValueError:
            return
        yield g
        return
    for axes in itertools.combinations(range(len(shape)), len(shape) - g.ndim):
        if tuple(n for a, n in enumerate(shape) if a not in axes) == g.shape:
            yield np.expand_dims(g, axes)


def known_factors(e: Evidence, shape: tuple[int, ...]) -> tuple[list[str], Array]:
    """Names and values of the known factors, 1 first; values (number of factors, *shape)."""
    names, pieces = [""], [np.ones(shape)]
    values = [("the value", y) for y in e.outputs] + [
        ("the value", y) for y in expand_to(e.outputs[0], shape) if y.ndim > e.outputs[0].ndim
    ]
    for source, a in [(name, x) for name, x, _ in input_arrays(e)] + values:
        for words, b in derived_arrays(source, a):
            z = fit(b, shape)
            if z is None or not np.isfinite(z).all() or not z.any() or len(names) > MOST:
                continue
            names.append(words)
            pieces.append(z)
            if np.abs(z).min() > 1e-9:
                names.append(f"1 / {words}")
                pieces.append(1 / z)
    return names, np.array(pieces)


def sum_to(z: Array, shape: tuple[int, ...]) -> Array:
    """z summed over the axes along which `shape` was broadcast."""
    z = z.sum(axis=tuple(range(z.ndim - len(shape))))
    axes = tuple(a for a, n in enumerate(shape) if n == 1 < z.shape[a])
    return np.asarray(z.sum(axis=axes, keepdims=True))


def half_of_product_rule(e: Evidence) -> Finding | None:
    """The value is a product of two factors that depend on the input; the rule treats one as a constant."""
    if len(e.g) != 1 or e.g[0].shape != e.x.shape:
        return None
    (y,), (g,) = e.outputs, e.g
    h = 1e-5 * np.maximum(1.0, np.abs(e.x))
    ends = [dict(possible_factors(e.x + step)) for step in (-h, h)]
    for words, a in possible_factors(e.x):
        if not (np.isfinite(a).all() and a.all()):
            continue
        slope = (ends[1][words] - ends[0][words]) / (2 * h)
        one = e.components(g * slope * y / a)  # where `a` moves
        for said, lost in ((one, "the rest moves too"), (e.right - one, f"{words} moves too")):
            if np.abs(e.tape - said).max() <= 1e-6 * max(np.abs(e.right).max(), np.abs(one).max()):
                return Finding(Kind.TERM, f"lacks a term of the product of {words} and the rest: {lost}")
    return None


def possible_factors(x: Array) -> Iterator[tuple[str, Array]]:
    """Possible factors of the value, as (name, array)."""
    sigmoid = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    yield "the input", x
    yield "its square", x * x
    yield "its sigmoid", sigmoid
    yield "1 minus its sigmoid", 1 - sigmoid
    yield "the logarithm of its sigmoid", np.log(sigmoid)
    yield "its tanh", np.tanh(x)
    yield "its exponential", np.exp(np.minimum(x, 700))
    yield "its sine", np.sin(x)
    yield "its cosine", np.cos(x)
    if np.all(x > 0):
        yield "its logarithm", np.log(x)
        yield "its root", np.sqrt(x)
    if np.all((x > 0) & (x < 1)):
        yield "1 minus the input", 1 - x
        yield "the logarithm of 1 minus the input", np.log(1 - x)

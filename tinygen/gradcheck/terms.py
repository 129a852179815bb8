"""Mistakes in a formula: a missing factor or a missing term."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence, axis_names, input_arrays, shift
from tinygen.gradcheck.report import Finding, Kind

SOME = 3  # with at most so many arrays, sums of two are tried as well


def missing_factor(e: Evidence) -> Finding | None:
    """The rule should multiply by an array: the cotangent, or the gradient that it returns."""
    if e.x.size == 1 and e.jacobians is not None:
        return factor_of_each_output(e)
    for words, a in factors(e):
        into_g = [fit(a, y.shape) for y in e.outputs]
        if all(f is not None for f in into_g):
            g = [np.asarray(y * f) for y, f in zip(e.g, into_g, strict=True)]
            c = multiple(e, e.components(e.tape_gradient(g)))
            if c is not None:
                return Finding(Kind.SLOPE, f"lacks a factor: what comes back times {c}{words}")
        f = fit(a, e.x.shape)
        c = None if f is None else multiple(e, e.components(e.gradient * f))
        if c is not None:
            return Finding(Kind.SLOPE, f"lacks the factor {c}{words}")
    return factor_along_axis(e)


def shifted_factor(e: Evidence) -> Finding | None:
    """The gradient is multiplied by an array at the wrong index, as by the state after a step."""
    looked, right = e.entries
    if not looked.all():
        return None
    for name, a in [(name, x) for name, x, _ in input_arrays(e)] + [("the value", y) for y in e.outputs]:
        f = fit(a, e.x.shape)
        if f is None:
            continue
        for axis, step in itertools.product(range(e.x.ndim), (1, -1)):
            if e.x.shape[axis] < 4 or not np.ptp(f, axis=axis).any():
                continue
            moved = shift(np.array(f), step, (axis,), False)
            if np.abs(e.gradient * moved - right * f).max() <= 1e-6 * np.abs(right * f).max():
                return Finding(
                    Kind.PLACE, f"takes {name} shifted by {-step:+d} along axis {axis} as a factor"
                )
    return None


def factor_of_each_output(e: Evidence) -> Finding | None:
    """The same for an input with one entry. Any factor fits its gradient, a single number, but the Jacobian
    has a number for each output."""
    assert e.jacobians is not None
    shape = e.outputs[0].shape
    said, right = (z.reshape(shape) for z in e.jacobians)
    for words, a in factors(e) if said.size > 2 else ():
        f = fit(a, shape)
        if f is None or not (said * f).any():
            continue
        c = float((said * f * right).sum() / (said * f * said * f).sum())
        if np.abs(c * said * f - right).max() <= 1e-6 * np.abs(right).max():
            number = "" if abs(c - 1) < 1e-5 else f"{c:.4g} "
            return Finding(Kind.SLOPE, f"lacks a factor: what comes back times {number}{words}")
    return None


def multiple(e: Evidence, a: Array, wanted: Array | None = None) -> str | None:
    """The number c with c a = `wanted` (the right gradient), as text, "" for 1; None if there is none."""
    wanted = e.right if wanted is None else wanted
    size = float(a @ a)
    if not np.isfinite(size) or size == 0:
        return None
    c = float(a @ wanted) / size
    if not e.close(c * a, wanted):
        return None
    return "" if abs(c - 1) < 1e-5 else f"{c:.4g} "


def factor_along_axis(e: Evidence) -> Finding | None:
    """A missing factor that depends on the index along one axis only: a constant for each channel, for
    example."""
    looked, right = e.entries
    if e.x.ndim < 2 or not looked.all():
        return None
    for axis, n in enumerate(e.x.shape):
        rest = tuple(a for a in range(e.x.ndim) if a != axis)
        squares = (e.gradient * e.gradient).sum(axis=rest, keepdims=True)
        if not 1 < n < e.x.size or not squares.any():
            continue
        factor = np.where(squares > 0, (right * e.gradient).sum(axis=rest, keepdims=True), 1.0)
        factor = factor / np.where(squares > 0, squares, 1.0)
        another = [
            g[(slice(None, None, -1),) * g.ndim] for g in e.g
        ]  # a factor must not depend on the cotangent
        for g in (e.g, another):
            if not e.close(e.components(e.tape_gradient(g) * factor), e.pair(g)):
                break
        else:
            return Finding(Kind.SLOPE, f"lacks a factor, another one for each index of axis {axis}")
    return None


def factors(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Factors that may be missing, as (name, array): inputs, values, and common functions of them. Constants
    are not among them, since `constant_factor` has been tried before."""
    arrays = [(name, x) for name, x, _ in input_arrays(e)]
    pairs = itertools.combinations(arrays, 2) if len(arrays) <= SOME else ()
    sums = [(f"({m} + {n})", a + b) for (m, a), (n, b) in pairs if fit(b, a.shape) is not None]
    for name, a in [*arrays, *(("the value", y) for y in e.outputs), *sums]:
        for words, b in derived_arrays(name, a):
            if b.size > 1 and np.isfinite(b).all() and np.ptp(np.abs(b)) > 1e-6 * np.abs(b).max():
                yield words, b
                yield f"{words} squared", b * b
                if np.all(b):
                    yield f"1 / {words}", 1 / b
                    yield f"1 / {words} squared", 1 / (b * b)


def derived_arrays(name: str, a: Array) -> Iterator[tuple[str, Array]]:
    """`a`, and the functions of it that occur in derivatives of common functions."""
    sigmoid, tanh = 1 / (1 + np.exp(-np.clip(a, -700, 700))), np.tanh(a)
    yield name, a
    yield f"(1 - {name})", 1 - a
    yield f"(1 + {name})", 1 + a
    yield f"{name}²", a * a
    yield f"(1 - {name}²)", 1 - a * a
    yield f"(1 + {name}²)", 1 + a * a
    yield f"{name} (1 - {name})", a * (1 - a)
    yield f"exp({name})", np.exp(np.minimum(a, 700))
    yield f"exp({name} / 2)", np.exp(np.minimum(a / 2, 700))
    yield f"exp(-{name}² / 2)", np.exp(-a * a / 2)  # its square is there as well
    yield f"√(1 - {name}²)", np.sqrt(np.maximum(1 - a * a, 0))
    yield f"√{name}", np.sqrt(np.abs(a)) if np.all(a >= 0) else np.ones(1)
    yield f"|{name}|", np.abs(a)
    yield f"(1 + |{name}|)", 1 + np.abs(a)
    yield f"log({name})", np.log(a) if np.all(a > 0) else np.ones(1)
    yield f"sign({name})", np.sign(a)
    yield f"sigmoid({name})", sigmoid
    yield f"(1 - sigmoid({name}))", 1 - sigmoid
    yield f"sigmoid'({name})", sigmoid * (1 - sigmoid)
    yield f"tanh({name})", tanh
    yield f"(1 - tanh({name})²)", 1 - tanh * tanh
    yield f"cos({name})", np.cos(a)
    yield f"sin({name})", np.sin(a)
    for axis, n in enumerate(a.shape):
        if n > 1:
            squares = (a * a).sum(axis=axis, keepdims=True)
            yield f"the length of {name} along axis {axis}", np.sqrt(squares)
            yield f"the squared length of {name} along axis {axis}", squares
            yield f"the deviation of {name} along axis {axis}", a.std(axis=axis, keepdims=True)
            yield f"the sum of {name} along axis {axis}", a.sum(axis=axis, keepdims=True)


def fit(a: Array, shape: tuple[int, ...]) -> Array | None:
    """`a` broadcast to `shape`, or None if that is impossible."""
    try:
        return np.asarray(np.broadcast_to(a, shape))
    except ValueError:
        return None


def missing_term(e: Evidence) -> Finding | None:
    """T - N is constant along some axes, or a multiple of the input or of the value along them, or a sum of
    both. So it is 0 along all directions that are orthogonal to these."""
    shape = e.x.shape
    ones = ("the same number", np.ones(shape))
    arrays = [(f"a multiple of {name}", x) for name, x, _ in input_arrays(e) if x.shape == shape]
    alike = [y for y in e.outputs if y.shape == shape]
    arrays += [("a multiple of the value", y) for y in alike]
    arrays += [("a multiple of exp(the value)", np.exp(y)) for y in alike if is_safe_exponent(y, shape)]
    arrays += [
        (f"a multiple of exp({name})", np.exp(x))
        for name, x, _ in input_arrays(e)
        if is_safe_exponent(x, shape)
    ]
    candidates = [[ones], *([a] for a in arrays), *([ones, a] for a in arrays)]
    for axes in subsets([a for a, n in enumerate(shape) if n > 1]):
        for group in candidates:
            if np.prod([shape[a] for a in axes]) <= len(group) + 1:
                continue  # so few numbers always are a sum of these
            ds = [orthogonal(d, [v for _, v in group], axes) for d in e.directions]
            right = e.pair(e.g, [e.push(d) for d in ds])
            if np.abs(right).max() <= 1e-6 * np.abs(e.right).max():
                continue  # the whole gradient is a multiple of these, so this explains nothing
            if e.close(np.array([(e.gradient * d).sum() for d in ds]), right):
                what = f"is off by {' and '.join(words for words, _ in group)} all along {axis_names(axes)}"
                if e.jacobians is not None and mixes_too_much(e.jacobians):
                    why = "and mixes entries that do not depend on each other: a sum over too many axes?"
                    return Finding(Kind.SUM, f"{what}, {why}")
                return Finding(Kind.TERM, f"{what}: is a mean or a sum along it missing?")
    return None


def mixes_too_much(both: tuple[Array, Array]) -> bool:
    """Whether the tape has many weights that are not 0 where the true ones are."""
    told, true = (np.abs(z) > 1e-6 * np.abs(both[1]).max() for z in both)
    return bool(2 * (told & ~true).sum() > true.sum())


def is_safe_exponent(x: Array, shape: tuple[int, ...]) -> bool:
    return x.shape == shape and float(x.max(initial=0.0)) < 100


def subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All sets of these axes, the large ones first."""
    for n in range(len(axes), 0, -1):
        yield from itertools.combinations(axes, n)


def orthogonal(d: Array, vectors: Sequence[Array], axes: tuple[int, ...]) -> Array:
    """d minus its projections on `vectors` along the axes (Gram-Schmidt)."""
    basis: list[Array] = []
    for v in vectors:
        for u in basis:
            v = v - u * (u * v).sum(axis=axes, keepdims=True)
        norm = np.sqrt((v * v).sum(axis=axes, keepdims=True))
        basis.append(v / np.where(norm > 0, norm, 1.0))
    for u in basis:
        d = d - u * (u * d).sum(axis=axes, keepdims=True)
    return d


def half_of_symmetric_term(e: Evidence) -> Finding | None:
    """The right gradient is the tape's plus its transpose, or half of that sum, if the rule treats a matrix
    as symmetric."""
    for words, again in transposes(e):
        both = e.tape + again
        for c, text in ((1.0, "lacks a term, which is itself"), (0.5, "has to be averaged with itself")):
            if e.close(c * both, e.right):
                return Finding(Kind.TERM, f"{text} {words}: is something symmetric, or used twice?")
    return None


def transposes(e: Evidence) -> Iterator[tuple[str, Array]]:
    """The tape's gradient with two axes exchanged: its own axes, the axes of the cotangent, or of an
    argument."""

    def square(x: Array) -> bool:
        return x.ndim > 1 and x.shape[-1] == x.shape[-2] > 1

    if square(e.x):
        yield "transposed", e.components(e.gradient.swapaxes(-1, -2))
    if len(e.g) == 1 and square(e.g[0]):
        yield "for what comes back transposed", e.components(e.tape_gradient([e.g[0].swapaxes(-1, -2)]))
    for name, x, put in input_arrays(e):
        if square(x) and x is not e.x:
            subject, points = put(np.array(x.swapaxes(-1, -2)))
            try:
                outputs, pull = subject.record(points)
                found = pull([np.array(g) for g in e.g])[e.k]
            except Exception:
                continue
            if len(outputs) == len(e.g) and found is not None:
                yield f"for {name} transposed", e.components(found)

"""Mistakes in a formula: a factor that is missing, or a term."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.evidence import Evidence, named, others
from tinygen.gradcheck.report import Finding, Kind


def missing_factor(e: Evidence) -> Finding | None:
    """An array that should have been multiplied in: into what comes back, or into what goes on."""
    if e.x.size == 1 and e.jacobians is not None:
        return of_each_output(e)
    for words, a in factors(e):
        into_g = [fit(a, y.shape) for y in e.outputs]
        if all(f is not None for f in into_g):
            g = [np.asarray(y * f) for y, f in zip(e.g, into_g, strict=True)]
            c = multiple(e, e.along(e.said(g)))
            if c is not None:
                return Finding(Kind.MISSING_FACTOR, f"lacks a factor: what comes back times {c}{words}")
        f = fit(a, e.x.shape)
        c = None if f is None else multiple(e, e.along(e.gradient * f))
        if c is not None:
            return Finding(Kind.MISSING_FACTOR, f"lacks the factor {c}{words}")
    return of_one_axis(e)


def of_each_output(e: Evidence) -> Finding | None:
    """The same for an input of one entry: its gradient is one number, which anything fits, but the Jacobian
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
            return Finding(Kind.MISSING_FACTOR, f"lacks a factor: what comes back times {number}{words}")
    return None


def multiple(e: Evidence, a: Array, wanted: Array | None = None) -> str | None:
    """The number that makes `a` what is wanted (the right gradient), in words: "" for 1; None: none does."""
    wanted = e.right if wanted is None else wanted
    size = float(a @ a)
    if not np.isfinite(size) or size == 0:
        return None
    c = float(a @ wanted) / size
    if not e.close(c * a, wanted):
        return None
    return "" if abs(c - 1) < 1e-5 else f"{c:.4g} "


def of_one_axis(e: Evidence) -> Finding | None:
    """A factor that is the same all along the other axes: a constant for each channel, say."""
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
        another = [g[(slice(None, None, -1),) * g.ndim] for g in e.g]  # a factor depends on no cotangent
        for g in (e.g, another):
            if not e.close(e.along(e.said(g) * factor), e.paired(g)):
                break
        else:
            return Finding(Kind.MISSING_FACTOR, f"lacks a factor, another one for each index of axis {axis}")
    return None


def factors(e: Evidence) -> Iterator[tuple[str, Array]]:
    """What may have been forgotten, or divided by: inputs, values, and what comes of them in derivatives. A
    constant has been looked at by then."""
    for name, a in [(name, x) for name, x, _ in others(e)] + [("the value", y) for y in e.outputs]:
        for words, b in derived(name, a):
            if b.size > 1 and np.isfinite(b).all() and np.ptp(np.abs(b)) > 1e-6 * np.abs(b).max():
                yield words, b
                yield f"{words} squared", b * b
                if np.all(b):
                    yield f"1 / {words}", 1 / b
                    yield f"1 / {words} squared", 1 / (b * b)


def derived(name: str, a: Array) -> Iterator[tuple[str, Array]]:
    """`a`, and what derivatives of common functions make of it."""
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
    """`a` where it broadcasts to `shape`, else None."""
    try:
        return np.asarray(np.broadcast_to(a, shape))
    except ValueError:
        return None


def missing_term(e: Evidence) -> Finding | None:
    """T - N has one value along some axes, or is a multiple of the input or the value along them, or a sum of
    both: it vanishes on all directions that are orthogonal to those."""
    shape = e.x.shape
    ones = ("the same number", np.ones(shape))
    arrays = [(f"a multiple of {name}", x) for name, x, _ in others(e) if x.shape == shape]
    alike = [y for y in e.outputs if y.shape == shape]
    arrays += [("a multiple of the value", y) for y in alike]
    arrays += [("a multiple of exp(the value)", np.exp(y)) for y in alike if exponential(y, shape)]
    arrays += [(f"a multiple of exp({name})", np.exp(x)) for name, x, _ in others(e) if exponential(x, shape)]
    candidates = [[ones], *([a] for a in arrays), *([ones, a] for a in arrays)]
    for axes in subsets([a for a, n in enumerate(shape) if n > 1]):
        for group in candidates:
            if np.prod([shape[a] for a in axes]) <= len(group) + 1:
                continue  # so few numbers are always a sum of these
            ds = [orthogonal(d, [v for _, v in group], axes) for d in e.directions]
            right = e.paired(e.g, [e.push(d) for d in ds])
            if np.abs(right).max() <= 1e-6 * np.abs(e.right).max():
                continue  # all of the gradient is a multiple of these: that explains nothing
            if e.close(np.array([(e.gradient * d).sum() for d in ds]), right):
                return Finding(
                    Kind.MISSING_TERM,
                    f"is off by {' and '.join(words for words, _ in group)} all along {named(axes)}: is a "
                    "mean or a sum along it missing?",
                )
    return None


def exponential(x: Array, shape: tuple[int, ...]) -> bool:
    return x.shape == shape and float(x.max(initial=0.0)) < 100


def subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Of several axes the large sets first."""
    for n in range(len(axes), 0, -1):
        yield from itertools.combinations(axes, n)


def orthogonal(d: Array, vectors: Sequence[Array], axes: tuple[int, ...]) -> Array:
    """d without its components along each of `vectors`, which are taken along the axes (Gram-Schmidt)."""
    basis: list[Array] = []
    for v in vectors:
        for u in basis:
            v = v - u * (u * v).sum(axis=axes, keepdims=True)
        norm = np.sqrt((v * v).sum(axis=axes, keepdims=True))
        basis.append(v / np.where(norm > 0, norm, 1.0))
    for u in basis:
        d = d - u * (u * d).sum(axis=axes, keepdims=True)
    return d


def half_of_symmetric(e: Evidence) -> Finding | None:
    """The right gradient is the tape's and the same once more, transposed; or half of both, where a matrix
    was taken for symmetric."""
    for words, again in transposed(e):
        both = e.tape + again
        for c, text in ((1.0, "lacks a term, which is itself"), (0.5, "has to be averaged with itself")):
            if e.close(c * both, e.right):
                return Finding(Kind.MISSING_TERM, f"{text} {words}: is something symmetric, or used twice?")
    return None


def transposed(e: Evidence) -> Iterator[tuple[str, Array]]:
    """The tape's gradient with two axes exchanged: its own, those of what comes back, or of an argument."""

    def square(x: Array) -> bool:
        return x.ndim > 1 and x.shape[-1] == x.shape[-2] > 1

    if square(e.x):
        yield "transposed", e.along(e.gradient.swapaxes(-1, -2))
    if len(e.g) == 1 and square(e.g[0]):
        yield "for what comes back transposed", e.along(e.said([e.g[0].swapaxes(-1, -2)]))
    for name, x, put in others(e):
        if square(x) and x is not e.x:
            subject, points = put(np.array(x.swapaxes(-1, -2)))
            try:
                outputs, pull = subject.record(points)
                found = pull([np.array(g) for g in e.g])[e.k]
            except Exception:
                continue
            if len(outputs) == len(e.g) and found is not None:
                yield f"for {name} transposed", e.along(found)

"""Cheap tests of a guess about a wrong gradient.

A typical guess is: the gradient T(g) of the tape is the right one, N(g) = gᵀJ, but of a rearranged cotangent,
or rearranged itself, or at other inputs. Such a guess can be tested without the Jacobian: along a direction d
the two gradients are two numbers, <T(g), d> and <g, J d>, and J d costs a few runs. A guess that holds for
three random directions is right.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.numeric import STEP, sizes
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.subject import Subject
from tinygen.gradcheck.time_limit import run_within

DIRECTIONS = 3
CLOSE = 1e-6
LITTLE = 0.03  # an error of less, relative to the gradient, is nearly right
FLOOR = 1e-12  # smaller differences count as 0
LIMIT = 2048  # entries of an array; of a larger one only a sample is compared,
SAMPLE = 64  # of this many entries
JACOBIAN = 600  # rows and columns at most, if the two Jacobians are computed


class Evidence:
    """The gradient of a subject by its variable `k`, for one random cotangent `g` (a list, one per output).
    If `output` is given, only this output is considered.

    Numbers that cannot be computed (the function raises an error for such inputs, or does not end) are NaN,
    and NaN fits no guess."""

    def __init__(self, subject: Subject, k: int, rng: np.random.Generator, output: int | None = None) -> None:
        self.subject = subject
        self.k = k
        self.output = output
        self.name = subject.names[k]
        self.x = subject.points[k]
        start = time.perf_counter()
        every, self.pull_all = subject.record(subject.points)
        self.patience = 1.0 + 100 * (time.perf_counter() - start)
        self.shapes = [y.shape for y in every]
        self.outputs = self.select_outputs(every)
        self.g = [weights(y.shape, rng) for y in self.outputs]
        self.directions = [weights(self.x.shape, rng) for _ in range(DIRECTIONS)]
        self.pushed = [self.push(d) for d in self.directions]
        if not all(np.isfinite(u).all() for us in self.pushed for u in us) and self.x.size <= LIMIT:
            free = self.movable_entries()  # the function raises an error if others are moved
            self.directions = [d * free for d in self.directions]
            self.pushed = [self.push(d) for d in self.directions]
        self.gradient = self.tape_gradient(self.g)
        self.tape = self.components(self.gradient)
        self.right = self.pair(self.g)

    def agrees(self) -> bool:
        """Whether this part of the gradient is right."""
        size = max(float(np.abs(self.right).max()), float(np.abs(self.tape).max()))
        return bool(np.isfinite(size) and np.abs(self.tape - self.right).max() <= CLOSE * size + FLOOR)

    def error(self) -> float:
        """The error of the tape, relative to the right gradient."""
        size = float(np.abs(self.right).max())
        return float(np.abs(self.tape - self.right).max()) / size if size else float("inf")

    @functools.cached_property
    def nearly_right(self) -> bool:
        """Whether the error is small, for this cotangent and in the whole Jacobian."""
        if self.error() >= LITTLE:
            return False
        if self.jacobians is None:
            return True
        said, right = self.jacobians
        return bool(np.linalg.norm(said - right) < LITTLE * np.linalg.norm(right))

    def select_outputs(self, outputs: Sequence[Array]) -> list[Array]:
        return list(outputs) if self.output is None else [outputs[self.output]]

    def pull(self, g: Sequence[Array]) -> list[Array | None]:
        """The gradient by each variable. The cotangents are copied, since a rule may write into them."""
        if self.output is None:
            return self.pull_all([np.array(x) for x in g])
        given = [np.zeros(shape) for shape in self.shapes]
        given[self.output] = np.array(g[0])
        return self.pull_all(given)

    def movable_entries(self) -> Array:
        """A mask of the entries that can be moved alone without an error."""
        units = np.eye(self.x.size).reshape(-1, *self.x.shape)
        movable = [all(np.isfinite(u).all() for u in self.push(d)) for d in units]
        return np.array(movable).reshape(self.x.shape)

    def tape_gradient(self, g: Sequence[Array]) -> Array:
        """T(g)."""
        try:
            found = self.pull(g)[self.k]
        except Exception:
            return np.full(self.x.shape, np.nan)
        return np.zeros_like(self.x) if found is None else found

    def push(self, d: Array, k: int | None = None) -> list[Array]:
        """J d by Richardson's rule, one array per output; by variable `k` if it is given."""
        return self.differences(d, self.k if k is None else k, self.subject, self.subject.points)

    def push_at(self, d: Array, subject: Subject, points: Sequence[Array]) -> list[Array]:
        """J d at other points, or of a subject with another constant. The function may raise an error at
        these points (then the result is NaN), or never end.

        Raises TimeoutError if it does not end in time."""
        return run_within(lambda: self.differences(d, self.k, subject, points), self.patience)

    def differences(self, d: Array, k: int, subject: Subject, points: Sequence[Array]) -> list[Array]:
        h = STEP * float(sizes(points[k]).max(initial=0.0))

        def outputs_at(t: float) -> list[Array]:
            arrays = list(points)
            arrays[k] = np.asarray(points[k] + t * d)
            try:
                return [np.array(y) for y in self.select_outputs(subject.evaluate(arrays))]
            except Exception:
                return [np.full(y.shape, np.nan) for y in self.outputs]

        ends = [outputs_at(t) for t in (h, -h, h / 2, -h / 2)]
        return [(4 * (c - e) / h - (a - b) / (2 * h)) / 3 for a, b, c, e in zip(*ends, strict=True)]

    def components(self, gradient: Array) -> Array:
        """<gradient, d> for each direction."""
        return np.array([(gradient * d).sum() for d in self.directions])

    def pair(self, g: Sequence[Array], pushed: Sequence[Sequence[Array]] | None = None) -> Array:
        """<g, J d> for each direction."""
        pushed = self.pushed if pushed is None else pushed
        return np.array([sum((a * b).sum() for a, b in zip(g, u, strict=True)) for u in pushed])

    @functools.cached_property
    def entries(self) -> tuple[Array, Array]:
        """A mask of the entries that are compared one by one (all; of many, a sample and a wrong one), and
        N(g) at these entries."""
        looked = np.ones(self.x.size, bool)
        if self.x.size > LIMIT:
            looked[:] = False
            looked[np.random.default_rng(0).choice(self.x.size, SAMPLE, replace=False)] = True
            looked[self.bisect_error()] = True
        right = np.zeros(self.x.size)
        for j in np.flatnonzero(looked):
            d = np.zeros(self.x.size)
            d[j] = 1.0
            right[j] = self.pair(self.g, [self.push(d.reshape(self.x.shape))])[0]
        looked &= np.isfinite(right)
        right[np.abs(right) < 1e-9 * np.abs(right[looked]).max(initial=0.0)] = 0.0
        return looked.reshape(self.x.shape), right.reshape(self.x.shape)

    @functools.cached_property
    def jacobians(self) -> tuple[Array, Array] | None:
        """The Jacobians (outputs..., inputs...) of the tape and of the function; None if they would be too
        large."""
        if len(self.outputs) != 1 or max(self.outputs[0].size, self.x.size) > JACOBIAN:
            return None
        (y,) = self.outputs
        units = np.eye(y.size).reshape(-1, *y.shape)
        said = np.array([self.tape_gradient([u]).ravel() for u in units]).reshape(y.shape + self.x.shape)
        moves = np.eye(self.x.size).reshape(-1, *self.x.shape)
        right = np.array([self.push(d)[0].ravel() for d in moves]).T.reshape(said.shape)
        return (said, right) if np.isfinite(said).all() and np.isfinite(right).all() else None

    def bisect_error(self) -> int:
        """A wrong entry (a flat index), by bisection: into the half with the larger error."""
        low, high = 0, self.x.size
        while high - low > 1:
            middle = (low + high) // 2
            errors = []
            for a, b in ((low, middle), (middle, high)):
                d = np.zeros(self.x.size)
                d[a:b] = self.directions[0].reshape(-1)[a:b]
                d = d.reshape(self.x.shape)
                right = self.pair(self.g, [self.push(d)])[0]
                errors.append(abs(float((self.gradient * d).sum() - right)))
            low, high = (low, middle) if errors[0] >= errors[1] else (middle, high)
        return low

    def close(self, a: Array, b: Array) -> bool:
        """Whether two rows of such numbers are equal, and not only both zero."""
        size = max(float(np.abs(b).max()), 1e-3 * float(np.abs(self.right).max()))
        return bool(np.isfinite(a).all() and size > 0 and np.abs(a - b).max() <= CLOSE * size)


def input_arrays(e: Evidence) -> Iterator[tuple[str, Array, Callable[[Array], tuple[Subject, list[Array]]]]]:
    """Every array that the function gets: its name, the array, and a function that replaces it."""
    for i, (name, x) in enumerate(zip(e.subject.names, e.subject.points, strict=True)):

        def put_variable(new: Array, i: int = i) -> tuple[Subject, list[Array]]:
            return e.subject, [new if j == i else y for j, y in enumerate(e.subject.points)]

        yield name, x, put_variable
    if isinstance(e.subject, Step):
        step = e.subject
        for name, i in step.constants.items():
            yield name, step.arrays[i], lambda new, i=i: (step.with_constant(i, new), step.points)  # type: ignore[misc]


# -- rearrangements --------------------------------------------------------------------------------


class Rearrangement(NamedTuple):
    """A linear map from arrays of one shape to that shape, and its transpose."""

    words: str
    apply: Callable[[Array], Array]
    transpose: Callable[[Array], Array]
    reshaped: bool = False
    shifted: bool = False


def rearrangements(shape: Sequence[int]) -> Iterator[Rearrangement]:
    """The usual ways to mix up the entries of an array of `shape`."""
    yield from transpositions(tuple(shape))
    axes = [a for a, n in enumerate(shape) if n > 1]
    groups = [(a,) for a in axes] + ([tuple(axes[-2:])] if len(axes) > 1 else [])
    for group in groups:
        flip = partial(np.flip, axis=group)
        if all(shape[a] == 2 for a in group):  # of two, the reverse order is the other one
            yield Rearrangement(f"with the two parts along {axis_names(group)} exchanged", flip, flip)
        yield Rearrangement(f"reversed along {axis_names(group)}", flip, flip)
        turn = partial(turn_around, axes=group)
        yield Rearrangement(f"reversed around index 0 of {axis_names(group)}", turn, turn)
    for group, step, around in itertools.product(groups, (1, -1, 2, -2), (False, True)):
        if not around and min(shape[a] for a in group) <= abs(step) + 1:
            continue  # that would leave nothing, or one index: an axis that was not summed
        yield Rearrangement(
            f"shifted by {step:+d} along {axis_names(group)}" + " (around the end)" * around,
            partial(shift, step=step, axes=group, around=around),
            partial(shift, step=-step, axes=group, around=around),
            shifted=True,
        )


def axis_names(axes: Sequence[int]) -> str:
    return f"ax{'i' if len(axes) == 1 else 'e'}s {' and '.join(map(str, axes))}"


def transpositions(shape: tuple[int, ...]) -> Iterator[Rearrangement]:
    """Axes in another order; if that would change the shape, a reshape in place of a transpose."""
    long = [a for a, n in enumerate(shape) if n > 1]
    for order in itertools.permutations(range(len(shape))) if len(shape) <= 4 else ():
        if [a for a in order if a in long] == long:
            continue  # the same in memory
        new = tuple(shape[a] for a in order)
        words = f"with {axis_names([a for a, b in enumerate(order) if a != b])} exchanged"
        yield Rearrangement(
            words + " (reshaped, not transposed)" * (new != shape),
            partial(exchange_axes, shape=new, order=tuple(map(int, np.argsort(order)))),
            partial(exchange_axes_back, shape=shape, order=order),
            new != shape,
        )


def exchange_axes(z: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    return z.reshape(shape).transpose(order)


def exchange_axes_back(z: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    return z.transpose(order).reshape(shape)


def turn_around(z: Array, axes: tuple[int, ...]) -> Array:
    """Index i becomes -i modulo the size, as if the Fourier transform were conjugated."""
    return np.roll(np.flip(z, axes), 1, axes)


def shift(z: Array, step: int, axes: Sequence[int], around: bool) -> Array:
    """z moved by `step` along each of `axes`. The border is filled with 0, or (`around`) from the other
    end."""
    out = np.roll(z, [step] * len(axes), axes)
    if not around:
        for a in axes:
            out[(*[slice(None)] * a, slice(None, step) if step > 0 else slice(step, None))] = 0
    return out

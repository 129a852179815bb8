"""Checking a gradient against finite differences.

Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), ch. 1; the step size is that of Press et al.,
*Numerical Recipes* (3rd ed. 2007), section 5.7. A checker that sends back ones is blind to whatever sums
to zero (a softmax whose gradient is 0 everywhere passes it), so here every output is sent back by itself,
weighted by a random number, and the whole Jacobian is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.tensor import Tensor
from tinygen.transforms import vjp

Matrix = np.ndarray[Any, Any]
TOLERANCE = 1e-6
"""Two derivatives agree when they are this close, absolutely or relatively. Central differences in float64
are right to about 1e-9 where the function and its third derivative are about 1."""


def gradcheck(
    f: Callable[..., Any], *inputs: Any, order: int = 1, rng: np.random.Generator | None = None
) -> None:
    """Compare the gradient that the tape gives for `f` with central differences, in float64.

    `f` takes Tensors and returns one, or a tuple of them. Floating-point `inputs` are checked, converted to
    float64; others (integers, bools, None) are passed as they are. `order=2` checks the gradient's own
    gradient too. `rng` draws the weights of the outputs (seed 0 when left out).

    Raises AssertionError with the worst entry, both values, and how many entries are off. `f` must give the
    same when called twice and have no kink within 1e-5 of the inputs. It is called twice per entry of the
    inputs; second order calls its gradient as often."""
    rng = np.random.default_rng(0) if rng is None else rng
    checked = [i for i, x in enumerate(inputs) if np.asarray(x).dtype.kind == "f"]
    if not checked:
        raise TypeError("gradcheck: none of the inputs is a floating-point array, there is nothing to check")

    def function(*xs: Any) -> Tensor:
        """All outputs of f in one row, as a function of the inputs that are checked."""
        args = list(inputs)
        for i, x in zip(checked, xs, strict=True):
            args[i] = x
        return in_a_row(f(*args))

    points = [np.asarray(inputs[i], dtype=np.float64) for i in checked]  # strides stay as they are
    compare(function, points, rng, [f"input {i}" for i in checked], "the gradient")
    if order == 2:

        def gradient(g: Any, *xs: Any) -> Tensor:
            return in_a_row(vjp(function, *xs)[1](g))

        g = weights(function(*map(Tensor, points)).size, rng)
        names = ["the gradient that is sent back", *(f"input {i}" for i in checked)]
        compare(gradient, [g, *points], rng, names, "the gradient of the gradient")


def in_a_row(values: Any) -> Tensor:
    if isinstance(values, tuple):
        joined: Any = np.concatenate([in_a_row(v) for v in values])
        return joined  # type: ignore[no-any-return]
    return values.reshape(-1)  # type: ignore[no-any-return]


def weights(n: int, rng: np.random.Generator) -> Matrix:
    """Random, none near zero, none equal, of both signs."""
    return np.asarray(rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n))


def compare(
    f: Callable[..., Tensor],
    inputs: Sequence[Matrix],
    rng: np.random.Generator,
    names: Sequence[str],
    what: str,
) -> None:
    """Raise AssertionError unless the tape's Jacobian of `f` is the numerical one, for every input."""
    value, pull = vjp(f, *inputs)
    g = weights(value.size, rng)
    rows = [pull(row) for row in np.diag(g)]  # each output by itself,
    total = pull(g)  # and all of them at once
    for k, (x, name) in enumerate(zip(inputs, names, strict=True)):
        if total[k].shape != x.shape:
            raise AssertionError(f"{what} by {name} has shape {total[k].shape}, the input {x.shape}")
        expected = (g[:, None] * numerical(f, inputs, k, value.size)).reshape(value.size, *x.shape)
        jacobian = np.array([row[k].numpy() for row in rows]).reshape(expected.shape)
        disagree(jacobian, expected, f"{what} by {name}, as (output, *entry)")
        disagree(total[k].numpy(), expected.sum(axis=0), f"{what} of all outputs by {name}")


def numerical(f: Callable[..., Tensor], inputs: Sequence[Matrix], k: int, outputs: int) -> Matrix:
    """∂f/∂inputs[k] by central differences: (outputs, entries of the input)."""
    jacobian = np.zeros((outputs, inputs[k].size))
    point = inputs[k].copy(order="C")
    entries = point.reshape(-1)  # a view: writing here writes into point
    args = [point if i == k else x for i, x in enumerate(inputs)]
    for j, x in enumerate(entries.tolist()):
        h = np.finfo(np.float64).eps ** (1 / 3) * max(1.0, abs(x))
        ends = []
        for moved in (x + h, x - h):
            entries[j] = moved
            ends.append((moved, f(*(Tensor(a) for a in args)).numpy().copy()))
        entries[j] = x
        (right, above), (left, below) = ends
        jacobian[:, j] = (above - below) / (right - left)
    return jacobian


def disagree(tape: Matrix, numeric: Matrix, what: str) -> None:
    """Raise AssertionError where the two differ, or where the tape's is not a number."""
    error = np.abs(tape - numeric)
    off = ~(error <= TOLERANCE * (1 + np.abs(numeric)))
    if off.any():
        size = np.where(np.isnan(error), np.inf, error)
        worst = np.unravel_index(int(size.argmax()), size.shape)
        raise AssertionError(
            f"{what} is wrong at {int(off.sum())} of {off.size} entries. Worst at index "
            f"{tuple(map(int, worst))}: the tape says {tape[worst]:.9g}, differences say {numeric[worst]:.9g}"
        )

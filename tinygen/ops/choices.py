"""Elementwise ops with a kink or a choice: |x|, sign, maximum, clip, where.

At a kink the rule takes a slope between the slopes on both sides; each op says which one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.tape import implements, op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules

__all__ = ["absolute", "clip", "maximum", "minimum", "sign", "where"]


@implements(np.absolute, np.fabs)
@op
def absolute(x: Array) -> ValueAndRules:
    """|x|; its slope at 0 is taken to be 0."""
    if x.dtype.kind == "c":
        return np.abs(x), lambda g: g * np.conj(np.sign(x))
    return np.abs(x), lambda g: g * np.sign(x)


@implements(np.sign)
@op
def sign(x: Array) -> ValueAndRules:
    """-1, 0 or 1; its slope is 0. For a complex number x/|x|, and 0 at 0."""
    y = np.sign(x)
    if y.dtype.kind != "c":
        return y, lambda g: np.zeros_like(g)

    def dx(g: Array) -> Array:  # along the circle only: a step away from the center changes nothing
        size = np.abs(x)
        return np.where(size > 0, (g - np.real(g * y) * np.conj(y)) / np.where(size > 0, size, 1), 0)

    return y, dx


@implements(np.maximum)
@op
def maximum(a: Array, b: Array) -> ValueAndRules:
    """The larger one; where both are equal, each gets half of the gradient."""
    return np.maximum(a, b), lambda g: share_of_larger(g, a, b), lambda g: share_of_larger(g, b, a)


@implements(np.minimum)
@op
def minimum(a: Array, b: Array) -> ValueAndRules:
    """The smaller one; where both are equal, each gets half of the gradient."""
    return np.minimum(a, b), lambda g: share_of_larger(g, b, a), lambda g: share_of_larger(g, a, b)


def share_of_larger(g: Array, a: Array, b: Array) -> Array:
    """g where a is the larger one, half of it where both are equal."""
    return np.where(a == b, 0.5 * g, np.where(a > b, g, 0.0))


@implements(np.clip)
@op
def clip(
    x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> ValueAndRules:
    """x limited to [a_min, a_max]. Either limit may be None; NumPy also calls them min and max. The
    gradient goes to x inside the closed interval; outside, it goes to the limit that replaced x."""
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    y = np.clip(x, low, high)

    def of_high(g: Array) -> Array:
        over = np.greater(x, high)
        return np.where(over if low is None else np.logical_or(over, np.greater(low, high)), g, 0.0)

    def of_low(g: Array) -> Array:
        under = np.less(x, low)
        return np.where(under if high is None else np.logical_and(under, np.less_equal(low, high)), g, 0.0)

    return y, lambda g: np.where(y == x, g, 0.0), of_low, of_high


@implements(np.where)
@op
def where(condition: Array, a: Any = None, b: Any = None) -> ValueAndRules:
    """a where the condition holds, else b; with the condition alone, the indices where it holds.

    This op passes no NaN from the side that is not chosen, but the ops that computed that side may: give them
    a safe argument there."""
    if a is None and b is None:
        return (np.nonzero(condition),)
    if a is None or b is None:
        raise ValueError("either both or neither of the two choices should be given")
    y = np.where(condition, a, b)
    return y, None, lambda g: np.where(condition, g, 0.0), lambda g: np.where(condition, 0.0, g)

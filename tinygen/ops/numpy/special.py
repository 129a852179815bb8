"""sinc, and the Bessel function i0 with its derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tape import implements, in_replay, op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules


@implements(np.sinc)
@op
def sinc(x: Array) -> ValueAndRules:
    """sin(pi x) / (pi x), and 1 at 0."""
    return np.sinc(x), lambda g: g * slope_of_sinc(x)


def slope_of_sinc(x: Array) -> Array:
    """(cos(pi x) - sinc(x)) / x loses its digits near 0: there its Taylor series, in u = pi x."""
    near = np.less(np.abs(x), 0.3)
    u = math.pi * np.where(near, x, 0.0)
    series: Any = 0.0
    for k in range(9, 0, -1):
        series = series * (u * u) + (-1) ** k * 2 * k / math.factorial(2 * k + 1)
    away = np.where(near, 1.0, x)
    return np.where(near, math.pi * u * series, (np.cos(math.pi * away) - np.sinc(away)) / away)


@implements(np.i0)
@op
def i0(x: Array) -> ValueAndRules:
    """The modified Bessel function of the first kind of order 0; its slope is the one of order 1."""
    return np.i0(x), lambda g: g * i1(x)


@op
def i1(x: Array) -> ValueAndRules:
    """Of order 1: I1' = I0 - I1 / x."""
    y = i1(x) if in_replay(x) else i1_of_array(x)

    def dx(g: Array) -> Array:
        zero = np.equal(x, 0)
        return g * (i0(x) - np.where(zero, 0.5, y / np.where(zero, 1.0, x)))

    return y, dx


def i1_of_array(x: Array) -> Array:
    """The power series up to 30, whose terms are positive; then Hankel's expansion (DLMF 10.25.2, 10.40)."""
    small = np.minimum(np.abs(x), 30.0)
    quarter = small * small / 4
    series = np.ones_like(small)
    for k in range(80, 0, -1):
        series = 1 + series * quarter / (k * (k + 1))
    large = np.maximum(np.abs(x), 30.0)
    tail = np.ones_like(large)
    for k in range(25, 0, -1):
        tail = 1 + tail * ((2 * k - 1) ** 2 - 4) / (8 * k * large)
    far = np.exp(large) / np.sqrt(2 * math.pi * large) * tail
    return np.sign(x) * np.where(np.abs(x) <= 30, small / 2 * series, far)

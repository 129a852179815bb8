"""The error function, to 4 units in the last place of float64.

Cody, *Rational Chebyshev approximations for the error function* (Mathematics of Computation, 1969).
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.tape import in_replay, op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules

__all__ = ["erf"]


@op
def erf(x: Array) -> ValueAndRules:
    """The error function, 2/sqrt(π) times the integral of exp(-t²) from 0 to x."""
    y = erf(x) if in_replay(x) else erf_of_array(x)
    return y, lambda g: g * (2 / math.sqrt(math.pi) * np.exp(-(x * x)))


def erf_of_array(x: Array) -> Array:
    """Two rational functions: of x² near 0, and of |x| for the complement, where erfc is exp(-x²) r(|x|)."""
    a = np.minimum(np.abs(x), 6.0)  # erf(6) is 1 in float64
    near = x * polynomial(ERF_NEAR[0], x * x) / polynomial(ERF_NEAR[1], x * x)
    far = 1 - np.exp(-a * a) * polynomial(ERF_FAR[0], a) / polynomial(ERF_FAR[1], a)
    return np.where(a <= 0.46875, near, np.sign(x) * far)


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule, highest power first."""
    y = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y


# fmt: off
ERF_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 113.864154151050156, 377.485237685302021,
     3209.37758913846947),
    (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062),
)
ERF_FAR = (
    (2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295,
     298.635138197400131, 881.952221241769090, 1712.04761263407058, 2051.07837782607147,
     1230.33935479799725),
    (1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019,
     3290.79923573345963, 4362.61909014324716, 3439.36767414372164, 1230.33935480374942),
)
# fmt: on

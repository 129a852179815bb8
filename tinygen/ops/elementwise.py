"""Elementwise ops: arithmetic, exp and its kin, comparisons.

Broadcasting is NumPy's; the tape sums each gradient back to its input's shape, so the rules here are
the scalar derivatives. At a kink the rule gives one element of the subdifferential, named at the op.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tape import detach, implements, op
from tinygen.tensor import Array, Tensor

# -- arithmetic ------------------------------------------------------------------------------------


@implements(np.add)
@op
def add(a: Array, b: Array) -> Any:
    return a + b, lambda g: g, lambda g: g


@implements(np.subtract)
@op
def subtract(a: Array, b: Array) -> Any:
    return a - b, lambda g: g, lambda g: -g


@implements(np.multiply)
@op
def multiply(a: Array, b: Array) -> Any:
    return a * b, lambda g: g * b, lambda g: g * a


@implements(np.divide, np.true_divide)
@op
def divide(a: Array, b: Array) -> Any:
    y = a / b
    return y, lambda g: g / b, lambda g: -g * y / b


@implements(np.negative)
@op
def negative(x: Array) -> Any:
    return -x, lambda g: -g


@implements(np.positive)
@op
def positive(x: Array) -> Any:
    return x, lambda g: g


@implements(np.square)
@op
def square(x: Array) -> Any:
    return x * x, lambda g: g * (2 * x)


@implements(np.reciprocal)
@op
def reciprocal(x: Array) -> Any:
    y = 1 / x
    return y, lambda g: -g * y * y


@implements(np.power)
@op
def power(x: Array, p: Array) -> Any:
    """x to the p. An integer exponent is done by multiplications: `np.power` is tens of times slower.

    The gradient by p is that of real powers, y log x; it is 0 where x <= 0."""
    if isinstance(p, (int, np.integer)):
        y = integer_power(x, int(p))
        return y, lambda g: g * (p * integer_power(x, int(p) - 1)) if p else np.zeros_like(g)
    y = np.power(x, p)

    def dx(g: Array) -> Array:
        base = np.where(np.logical_and(p == 0, x == 0), 1.0, x)  # 0 to the 0 is 1, and so is 0.1 to the 0
        return g * (p * np.power(base, p - 1))

    def dp(g: Array) -> Array:
        usable = x != 0 if y.dtype.kind == "c" else x > 0
        base = np.where(usable, x, np.ones_like(y))  # in y's dtype, also when x is a number
        return g * y * np.log(base)

    return y, dx, dp


def integer_power(x: Array, n: int) -> Array:
    """x multiplied n times, by repeated squaring."""
    if n < 0:
        return 1 / integer_power(x, -n)
    if n == 0:
        return np.ones_like(x)
    if n == 1:
        return x
    half = integer_power(x, n // 2)
    return half * half if n % 2 == 0 else half * half * x


# -- exp and its kin -------------------------------------------------------------------------------


@implements(np.exp)
@op
def exp(x: Array) -> Any:
    y = np.exp(x)
    return y, lambda g: g * y


@implements(np.expm1)
@op
def expm1(x: Array) -> Any:
    y = np.expm1(x)
    return y, lambda g: g * (y + 1)


@implements(np.log)
@op
def log(x: Array) -> Any:
    return np.log(x), lambda g: g / x


@implements(np.log1p)
@op
def log1p(x: Array) -> Any:
    return np.log1p(x), lambda g: g / (1 + x)


@implements(np.sqrt)
@op
def sqrt(x: Array) -> Any:
    y = np.sqrt(x)
    return y, lambda g: g / (2 * y)


@op
def rsqrt(x: Array) -> Any:
    """1 / sqrt(x)."""
    y = 1 / np.sqrt(x)
    return y, lambda g: g * (-0.5 * y / x)


@implements(np.tanh)
@op
def tanh(x: Array) -> Any:
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@implements(np.sin)
@op
def sin(x: Array) -> Any:
    return np.sin(x), lambda g: g * np.cos(x)


@implements(np.cos)
@op
def cos(x: Array) -> Any:
    return np.cos(x), lambda g: -g * np.sin(x)


@op
def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)), without overflow on either side."""
    e = np.exp(-np.abs(detach(x)))
    y = sigmoid(x) if isinstance(x, Tensor) else np.where(x >= 0, 1, e) / (1 + e)
    return y, lambda g: g * (y * (1 - y))


@op
def erf(x: Array) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t²) from 0 to x, to 4 ulp.

    Cody, *Rational Chebyshev approximations for the error function* (1969)."""
    y = erf(x) if isinstance(x, Tensor) else erf_of_array(x)
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


# -- kinks and choices -----------------------------------------------------------------------------


@implements(np.absolute, np.fabs)
@op
def absolute(x: Array) -> Any:
    """|x|; its slope at 0 is taken to be 0."""
    if x.dtype.kind == "c":
        return np.abs(x), lambda g: g * np.conj(np.sign(x))
    return np.abs(x), lambda g: g * np.sign(x)


@implements(np.sign)
@op
def sign(x: Array) -> Any:
    """-1, 0 or 1, whose slope is 0; of a complex number x/|x|, and 0 at 0."""
    y = np.sign(x)
    if y.dtype.kind != "c":
        return y, lambda g: np.zeros_like(g)

    def dx(g: Array) -> Array:  # along the circle only: what goes away from the center changes nothing
        size = np.abs(x)
        return np.where(size > 0, (g - np.real(g * y) * np.conj(y)) / np.where(size > 0, size, 1), 0)

    return y, dx


@implements(np.conjugate)
@op
def conjugate(x: Array) -> Any:
    return np.conj(x), lambda g: np.conj(g)


@implements(np.maximum)
@op
def maximum(a: Array, b: Array) -> Any:
    """The larger one; where both are equal, each gets half of the gradient."""
    return np.maximum(a, b), lambda g: share(g, a, b), lambda g: share(g, b, a)


@implements(np.minimum)
@op
def minimum(a: Array, b: Array) -> Any:
    """The smaller one; where both are equal, each gets half of the gradient."""
    return np.minimum(a, b), lambda g: share(g, b, a), lambda g: share(g, a, b)


def share(g: Array, a: Array, b: Array) -> Array:
    """g where a is the larger one, half of it where both are equal."""
    return np.where(a == b, 0.5 * g, np.where(a > b, g, 0.0))


@implements(np.clip)
@op
def clip(x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """x kept within [a_min, a_max], either of which may be None, and which NumPy also calls min and max. The
    gradient passes on the closed interval; outside, the limit that took x's place gets it."""
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
def where(condition: Array, a: Any = None, b: Any = None) -> Any:
    """a where the condition holds, else b; of the condition alone, the indices where it holds. A NaN on the
    side that is not chosen stays out of the gradient of *this* op, but not of what computed that side: make
    the argument harmless first."""
    if a is None and b is None:
        return (np.nonzero(condition),)
    if a is None or b is None:
        raise ValueError("either both or neither of the two choices should be given")
    y = np.where(condition, a, b)
    return y, None, lambda g: np.where(condition, g, 0.0), lambda g: np.where(condition, 0.0, g)


@op
def astype(x: Array, *, dtype: Any) -> Any:
    """x in another dtype; the gradient comes back in x's own. Ints and bools pass none."""
    rules = (lambda g: g,) if np.dtype(dtype).kind in "fc" else ()
    return x.astype(dtype), *rules


# -- comparisons and tests: no gradient, they give bools -------------------------------------------


def without_gradient(function: np.ufunc) -> Any:
    def body(*args: Array) -> Any:
        return (function(*args),)

    body.__name__ = function.__name__
    return implements(function)(op(body))


equal = without_gradient(np.equal)
not_equal = without_gradient(np.not_equal)
less = without_gradient(np.less)
less_equal = without_gradient(np.less_equal)
greater = without_gradient(np.greater)
greater_equal = without_gradient(np.greater_equal)
logical_and = without_gradient(np.logical_and)
logical_or = without_gradient(np.logical_or)
logical_not = without_gradient(np.logical_not)
isnan = without_gradient(np.isnan)
isfinite = without_gradient(np.isfinite)


@implements(np.zeros_like)
def zeros_like(
    x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Tensor:
    """A constant: zeros of x's shape, dtype and device, or of the given ones."""
    return Tensor(np.zeros_like(x._data, dtype=dtype, shape=shape))


@implements(np.ones_like)
def ones_like(
    x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Tensor:
    """A constant: ones of x's shape, dtype and device, or of the given ones."""
    return Tensor(np.ones_like(x._data, dtype=dtype, shape=shape))


@implements(np.shape)
def shape(x: Any) -> Any:
    return x.shape


@implements(np.ndim)
def ndim(x: Any) -> Any:
    return x.ndim

"""Elementwise ops: arithmetic, powers, exp and its relatives.

Broadcasting is NumPy's. The tape sums each gradient back to its input's shape, so the rules here are the
scalar derivatives, written beside the values.
"""

from __future__ import annotations

import numpy as np

from tinygen.tape import detach, implements, in_replay, op
from tinygen.tensor import Array
from tinygen.types import DType, ValueAndRules

__all__ = [
    "add",
    "astype",
    "conjugate",
    "cos",
    "divide",
    "exp",
    "expm1",
    "log",
    "log1p",
    "multiply",
    "negative",
    "power",
    "reciprocal",
    "rsqrt",
    "sigmoid",
    "sin",
    "sqrt",
    "square",
    "subtract",
    "tanh",
]

# -- arithmetic ------------------------------------------------------------------------------------


@implements(np.add)
@op
def add(a: Array, b: Array) -> ValueAndRules:
    """a + b."""
    return a + b, lambda g: g, lambda g: g


@implements(np.subtract)
@op
def subtract(a: Array, b: Array) -> ValueAndRules:
    """a - b."""
    return a - b, lambda g: g, lambda g: -g


@implements(np.multiply)
@op
def multiply(a: Array, b: Array) -> ValueAndRules:
    """a b, entry by entry."""
    return a * b, lambda g: g * b, lambda g: g * a


@implements(np.divide, np.true_divide)
@op
def divide(a: Array, b: Array) -> ValueAndRules:
    """a / b."""
    y = a / b
    return y, lambda g: g / b, lambda g: -g * y / b


@implements(np.negative)
@op
def negative(x: Array) -> ValueAndRules:
    """-x."""
    return -x, lambda g: -g


@implements(np.positive)
@op
def positive(x: Array) -> ValueAndRules:
    """+x, which is x."""
    return x, lambda g: g


@implements(np.square)
@op
def square(x: Array) -> ValueAndRules:
    """x²."""
    return x * x, lambda g: g * (2 * x)


@implements(np.reciprocal)
@op
def reciprocal(x: Array) -> ValueAndRules:
    """1 / x."""
    y = 1 / x
    return y, lambda g: -g * y * y


@implements(np.power)
@op
def power(x: Array, p: Array) -> ValueAndRules:
    """x to the p. An integer exponent is done by multiplications: `np.power` is tens of times slower.

    The gradient by p is y log x, as for real powers; it is 0 where x <= 0."""
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


@implements(np.conjugate)
@op
def conjugate(x: Array) -> ValueAndRules:
    """The complex conjugate; x itself where it is real."""
    return np.conj(x), lambda g: np.conj(g)


@op
def astype(x: Array, *, dtype: DType) -> ValueAndRules:
    """x in another dtype; the gradient comes back in x's own. Ints and bools pass none."""
    rules = (lambda g: g,) if np.dtype(dtype).kind in "fc" else ()
    return x.astype(dtype), *rules


# -- exp and its relatives -------------------------------------------------------------------------


@implements(np.exp)
@op
def exp(x: Array) -> ValueAndRules:
    """e to the x; it is its own derivative."""
    y = np.exp(x)
    return y, lambda g: g * y


@implements(np.expm1)
@op
def expm1(x: Array) -> ValueAndRules:
    """exp(x) - 1, without loss of digits near 0."""
    y = np.expm1(x)
    return y, lambda g: g * (y + 1)


@implements(np.log)
@op
def log(x: Array) -> ValueAndRules:
    """The natural logarithm; its derivative is 1/x."""
    return np.log(x), lambda g: g / x


@implements(np.log1p)
@op
def log1p(x: Array) -> ValueAndRules:
    """log(1 + x), without loss of digits near 0."""
    return np.log1p(x), lambda g: g / (1 + x)


@implements(np.sqrt)
@op
def sqrt(x: Array) -> ValueAndRules:
    """The square root; its derivative 1 / (2 sqrt(x)) is infinite at 0."""
    y = np.sqrt(x)
    return y, lambda g: g / (2 * y)


@op
def rsqrt(x: Array) -> ValueAndRules:
    """1 / sqrt(x)."""
    y = 1 / np.sqrt(x)
    return y, lambda g: g * (-0.5 * y / x)


@implements(np.tanh)
@op
def tanh(x: Array) -> ValueAndRules:
    """The hyperbolic tangent; its derivative is 1 - tanh²."""
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@implements(np.sin)
@op
def sin(x: Array) -> ValueAndRules:
    """The sine, of radians."""
    return np.sin(x), lambda g: g * np.cos(x)


@implements(np.cos)
@op
def cos(x: Array) -> ValueAndRules:
    """The cosine, of radians."""
    return np.cos(x), lambda g: -g * np.sin(x)


@op
def sigmoid(x: Array) -> ValueAndRules:
    """1 / (1 + exp(-x)), without overflow on either side."""
    e = np.exp(-np.abs(detach(x)))
    y = sigmoid(x) if in_replay(x) else np.where(x >= 0, 1, e) / (1 + e)
    return y, lambda g: g * (y * (1 - y))

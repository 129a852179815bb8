"""Entry by entry: more logarithms, trigonometry, remainders, and the rest of NumPy's ufuncs that have a
derivative. As in `tinygen/ops/elementwise.py`, the rules are the scalar derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import composition, refuse_out
from tinygen.ops.elementwise import power, sigmoid
from tinygen.tape import implements, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike, ValueAndRules

# -- logarithms and powers -------------------------------------------------------------------------


@implements(np.log2)
@op
def log2(x: Array) -> ValueAndRules:
    return np.log2(x), lambda g: g / (x * math.log(2))


@implements(np.log10)
@op
def log10(x: Array) -> ValueAndRules:
    return np.log10(x), lambda g: g / (x * math.log(10))


@implements(np.exp2)
@op
def exp2(x: Array) -> ValueAndRules:
    y = np.exp2(x)
    return y, lambda g: g * (y * math.log(2))


@implements(np.cbrt)
@op
def cbrt(x: Array) -> ValueAndRules:
    y = np.cbrt(x)
    return y, lambda g: g / (3 * y * y)


@implements(np.float_power)
def float_power(x: TensorLike, p: TensorLike) -> TensorLike:
    """x to the p, in floating point also for integers (but a Tensor keeps its own floating-point dtype)."""
    ints = np.result_type(*(v.dtype if isinstance(v, Tensor) else v for v in (x, p))).kind in "iub"
    return power(np.multiply(x, 1.0, dtype=float) if ints and not isinstance(x, Tensor) else x * 1.0, p * 1.0)


@implements(np.logaddexp)
@op
def logaddexp(a: Array, b: Array) -> ValueAndRules:
    """log(exp(a) + exp(b)) without overflow; each gets its share, exp(a) / (exp(a) + exp(b))."""
    d = difference(a, b)
    return np.logaddexp(a, b), lambda g: g * sigmoid(d), lambda g: g * sigmoid(-d)


@implements(np.logaddexp2)
@op
def logaddexp2(a: Array, b: Array) -> ValueAndRules:
    """log2(2**a + 2**b)."""
    d = difference(a, b) * math.log(2)
    return np.logaddexp2(a, b), lambda g: g * sigmoid(d), lambda g: g * sigmoid(-d)


def difference(a: Array, b: Array) -> Array:
    """a - b, and 0 where both are the same infinity."""
    same = np.logical_and(np.isinf(a), np.equal(a, b))
    return np.where(same, 0.0, a) - np.where(same, 0.0, b)


@implements(np.hypot)
@op
def hypot(a: Array, b: Array) -> ValueAndRules:
    """sqrt(a² + b²) without overflow; its slope at (0, 0) is taken to be 0."""
    y = np.hypot(a, b)
    length = np.where(np.equal(y, 0), 1.0, y)
    return y, lambda g: g * (a / length), lambda g: g * (b / length)


# -- trigonometry ----------------------------------------------------------------------------------


@implements(np.tan)
@op
def tan(x: Array) -> ValueAndRules:
    y = np.tan(x)
    return y, lambda g: g * (1 + y * y)


@implements(np.arcsin)
@op
def arcsin(x: Array) -> ValueAndRules:
    return np.arcsin(x), lambda g: g / (np.sqrt(1 - x) * np.sqrt(1 + x))


@implements(np.arccos)
@op
def arccos(x: Array) -> ValueAndRules:
    return np.arccos(x), lambda g: -g / (np.sqrt(1 - x) * np.sqrt(1 + x))


@implements(np.arctan)
@op
def arctan(x: Array) -> ValueAndRules:
    return np.arctan(x), lambda g: g / (1 + x * x)


@implements(np.arctan2)
@op
def arctan2(y: Array, x: Array) -> ValueAndRules:
    """The angle of the point (x, y)."""
    r = np.hypot(x, y)
    return np.arctan2(y, x), lambda g: g * (x / r) / r, lambda g: -g * (y / r) / r


@implements(np.sinh)
@op
def sinh(x: Array) -> ValueAndRules:
    return np.sinh(x), lambda g: g * np.cosh(x)


@implements(np.cosh)
@op
def cosh(x: Array) -> ValueAndRules:
    return np.cosh(x), lambda g: g * np.sinh(x)


@implements(np.arcsinh)
@op
def arcsinh(x: Array) -> ValueAndRules:
    size = np.sqrt(x * x + 1) if x.dtype.kind == "c" else np.hypot(x, 1.0)
    return np.arcsinh(x), lambda g: g / size


@implements(np.arccosh)
@op
def arccosh(x: Array) -> ValueAndRules:
    return np.arccosh(x), lambda g: g / (np.sqrt(x - 1) * np.sqrt(x + 1))


@implements(np.arctanh)
@op
def arctanh(x: Array) -> ValueAndRules:
    return np.arctanh(x), lambda g: g / ((1 - x) * (1 + x))


@implements(np.deg2rad, np.radians)
@op
def deg2rad(x: Array) -> ValueAndRules:
    return np.deg2rad(x), lambda g: g * (math.pi / 180)


@implements(np.rad2deg, np.degrees)
@op
def rad2deg(x: Array) -> ValueAndRules:
    return np.rad2deg(x), lambda g: g * (180 / math.pi)


@composition("unwrap")
def unwrap(
    p: TensorLike, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi
) -> TensorLike:
    """p plus whole periods, so that neighbors are close; the periods are constants."""
    values = p._data
    whole = np.unwrap(values, discont, axis, period=period) - values
    return p + np.asarray(whole, dtype=values.dtype, like=values)


# -- signs, remainders, parts of a number ----------------------------------------------------------


@implements(np.copysign)
@op
def copysign(x: Array, s: Array) -> ValueAndRules:
    """|x| with the sign of s."""
    return np.copysign(x, s), lambda g: g * np.copysign(1.0, s) * np.sign(x), lambda g: np.zeros_like(g)


@implements(np.fmax)
@op
def fmax(a: Array, b: Array) -> ValueAndRules:
    """The larger one, or the one that is not nan; where both are equal, each gets half of the gradient."""
    y = np.fmax(a, b)
    return y, lambda g: gradient_of_chosen(g, a, b, y), lambda g: gradient_of_chosen(g, b, a, y)


@implements(np.fmin)
@op
def fmin(a: Array, b: Array) -> ValueAndRules:
    """The smaller one, or the one that is not nan; where both are equal, each gets half of the gradient."""
    y = np.fmin(a, b)
    return y, lambda g: gradient_of_chosen(g, a, b, y), lambda g: gradient_of_chosen(g, b, a, y)


def gradient_of_chosen(g: Array, a: Array, b: Array, y: Array) -> Array:
    """g where y is a, half of it where it is b as well."""
    return np.where(np.equal(a, y), np.where(np.equal(b, y), 0.5 * g, g), 0.0)


@implements(np.heaviside)
@op
def heaviside(x: Array, h: Array) -> ValueAndRules:
    """0 below 0, 1 above, h at 0: a step, whose slope is taken to be 0."""
    y = np.heaviside(x, h)
    return y, lambda g: np.zeros_like(g), lambda g: np.where(np.equal(x, 0), g, 0.0)


@implements(np.remainder)
@op
def remainder(a: Array, b: Array) -> ValueAndRules:
    """a - b floor(a / b), as %; between the jumps of floor its slopes are 1 and -floor(a / b)."""
    whole = np.floor_divide(a, b)
    return np.remainder(a, b), lambda g: g, lambda g: -g * whole


@implements(np.fmod)
@op
def fmod(a: Array, b: Array) -> ValueAndRules:
    """a - b trunc(a / b): as C has it, with the sign of a."""
    y = np.fmod(a, b)
    return y, lambda g: g, lambda g: -g * np.rint((a - y) / b)


@implements(np.divmod)
def divmod(a: TensorLike, b: TensorLike) -> Any:
    return np.floor_divide(a, b), remainder(a, b)


@show_as("modf")
@op
def fraction(x: Array) -> ValueAndRules:
    return np.modf(x)[0], lambda g: g


@implements(np.modf)
def modf(x: TensorLike) -> Any:
    """The part behind the point, whose slope is 1, and the whole number before it, a constant."""
    return fraction(x), np.trunc(x)


@show_as("frexp")
@op
def mantissa(x: Array) -> ValueAndRules:
    y, exponent = np.frexp(x)
    return y, lambda g: np.ldexp(g, -exponent)


@implements(np.frexp)
def frexp(x: TensorLike) -> Any:
    """x = m · 2**e: m, whose slope is 2**-e, and e, a constant."""
    e = np.frexp(x._data)[1]
    return mantissa(x), Tensor(e if hasattr(e, "__array_function__") else np.asarray(e))


@implements(np.ldexp)
@op
def ldexp(x: Array, e: Array) -> ValueAndRules:
    """x · 2**e for integers e."""
    return np.ldexp(x, e), lambda g: np.ldexp(g, e)


@composition("nan_to_num")
def nan_to_num(
    x: TensorLike, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> TensorLike:
    """x with numbers in place of nan and infinities, which get no gradient."""
    if not copy:
        raise TypeError("copy=False would write into x, and the graph would be lost: leave it out")
    if x.dtype.kind == "c":
        return nan_to_num(np.real(x), True, nan, posinf, neginf) + 1j * nan_to_num(
            np.imag(x), True, nan, posinf, neginf
        )
    if x.dtype.kind != "f":
        return np.copy(x)
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    x = np.where(np.isnan(x), nan, x)
    return np.where(np.isposinf(x), high, np.where(np.isneginf(x), low, x))


@composition("fix")
def fix(x: TensorLike, out: Any = None) -> TensorLike:
    refuse_out(out)
    return np.trunc(x)


@composition("round", "around")
def round(a: TensorLike, decimals: int = 0, out: Any = None) -> TensorLike:
    """Rounded to so many decimals; a constant, since the slope is 0 almost everywhere."""
    refuse_out(out)
    return Tensor(np.round(a._data, decimals))

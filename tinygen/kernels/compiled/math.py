"""exp, log, tanh, sigmoid and the normal distribution function in float32, without a branch or a call, so
that the compiler can compute 8 or 16 of them at once. The functions of the C library are called one by one,
which is ten times as slow.

The polynomials are weighted minimax fits (Lawson's algorithm: least squares whose weights follow the
error). Their errors are below half a unit in float32's last place. With float32's rounding, the errors of
the functions are within the bounds in the docstrings, which `tests/kernels/test_math.py` measures. NaN
stays NaN, and infinities give the correct limits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygen.kernels.compiled.compile import inner

F = np.float32
ZERO, HALF, ONE = F(0), F(0.5), F(1)


@intrinsic
def bits(context: Any, x: Any) -> tuple[Any, Any]:
    """The bits of a float32, as an int32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), code


@intrinsic
def number(context: Any, x: Any) -> tuple[Any, Any]:
    """The float32 that has these bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), code


@intrinsic
def from_half(context: Any, x: Any) -> tuple[Any, Any]:
    """The float32 of the float16 that has these bits, an uint16: exact, also for infinities and NaN."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = builder.bitcast(args[0], ir.HalfType())
        return builder.fpext(half, context.get_value_type(types.float32))

    return types.float32(types.uint16), code


SOME = 64  # rows that are summed in float32 before the sum is added to a float64, as in `summation.py`


@inner
def flush(block, total):
    """total (float64) += block; then block = 0."""
    for i in range(block.size):
        total[i] += block[i]
        block[i] = ZERO


@inner
def clear(row):
    """Set all entries to 0. Assigning to a slice takes as long to compile as a whole kernel."""
    for i in range(row.size):
        row[i] = ZERO


@inner
def largest_entry(row):
    """The largest entry of a row that is not empty; NaN if an entry is NaN. It compares integers that have
    the same order as the floats: the compiler may reorder comparisons of integers, but not of floats,
    because of NaN."""
    top = np.int32(-(2**31))
    for i in range(row.size):
        b = bits(row[i])
        top = max(top, b ^ ((b >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return number(top ^ ((top >> np.int32(31)) & np.int32(0x7FFFFFFF)))


# -- exp -------------------------------------------------------------------------------------------

LOG2E = F(1 / math.log(2))
LN2_HIGH = F(355 / 512)  # few bits: n · LN2_HIGH is exact
LN2_LOW = F(math.log(2) - 355 / 512)
E2, E3, E4, E5, E6 = map(F, (0.49999993451668784, 0.1666652068943491, 0.04166838736843101,
                             0.008368709866851351, 0.001381461300445536))  # fmt: skip
LOWEST, HIGHEST = F(-104), F(89)  # below the first, exp is 0; above the second, infinite


@inner
def power_of_two(n):
    """2ⁿ for whole n in [-126, 127]."""
    return number((n + np.int32(127)) << np.int32(23))


@inner
def exp(x):
    """eˣ = 2ⁿ eʳ with n = round(x / ln 2), |r| <= ln(2)/2. Relative error below 1.2e-7."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    n = np.floor(x * LOG2E + HALF)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    y = ONE + (r + r * r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * E6)))))
    n = np.int32(n)
    half = n >> np.int32(1)  # in two steps, since 2ⁿ may overflow float32 although eˣ does not
    return y * power_of_two(half) * power_of_two(n - half)


# -- log -------------------------------------------------------------------------------------------

L3, L4, L5, L6, L7, L8, L9, L10 = map(F, (0.33333316725749346, -0.2500081040644361, 0.2000228628148034,
                                          -0.1662455399882855, 0.14181191760511055, -0.1312875509553489,
                                          0.1288164890018396, -0.07859612427966722))  # fmt: skip
ROOT_HALF_BITS = np.int32(0x3F3504F3)
ROOT_2, LN2 = F(math.sqrt(2)), F(math.log(2))
SMALLEST = F(2**-126)  # below it, numbers have fewer bits (subnormal)
TWO23 = F(2**23)
NAN, INFINITY = F(np.nan), F(np.inf)


@inner
def log_near_1(f):
    """log(1 + f) for f in [√½ - 1, √2 - 1)."""
    q = L3 + f * (L4 + f * (L5 + f * (L6 + f * (L7 + f * (L8 + f * (L9 + f * L10))))))
    return f + f * f * (f * q - HALF)


@inner
def log(x):
    """log(2ⁿ (1 + f)) = n ln 2 + log(1 + f) with 1 + f in [√½, √2). Relative error below 1.2e-7."""
    tiny = x < SMALLEST
    b = bits(x * TWO23 if tiny else x) - ROOT_HALF_BITS
    n = F(b >> np.int32(23)) - (F(23) if tiny else ZERO)
    f = number((b & np.int32(0x7FFFFF)) + ROOT_HALF_BITS) - ONE
    y = n * LN2_HIGH + (log_near_1(f) + n * LN2_LOW)
    y = y if x < INFINITY else x
    y = y if x != ZERO else -INFINITY
    return y if x >= ZERO or x != x else NAN


@inner
def log1p(x):
    """log(1 + x) for x in [0, 1]. Relative error below 2e-7."""
    near = x < ROOT_2 - ONE
    y = log_near_1(x if near else HALF * (x - ONE))
    return y if near else y + LN2


# -- functions composed of exp ---------------------------------------------------------------------

T3, T5, T7, T9, T11 = map(F, (-0.33333283925163704, 0.13331491283685354, -0.05374349780629891,
                              0.020650586406464683, -0.005717044068216856))  # fmt: skip
NEAR = F(0.625)
TWO = F(2)


@inner
def sigmoid(x):
    """1 / (1 + e⁻ˣ). Relative error below 2e-7."""
    return ONE / (ONE + exp(-x))


@inner
def tanh(x):
    """A polynomial near 0, 1 - 2 / (e²ˣ + 1) elsewhere. Relative error below 4e-7."""
    z = x * x
    near = x + x * z * (T3 + z * (T5 + z * (T7 + z * (T9 + z * T11))))
    far = ONE - TWO / (exp(TWO * x) + ONE)
    return near if abs(x) < NEAR else far


# Φ(-|x|) = exp(-x²/2) t (c₁ + c₂ t + ... + c₈ t⁷) with t = 1/(1 + 0.33 |x|/√2).
C1, C2, C3, C4, C5, C6, C7, C8 = map(F, (0.09318305323030829, 0.0914186065583967, 0.10096203277671699,
                                         0.022504880412531608, 0.20627165414768162, -0.17772036989103474,
                                         0.23134460828721604, -0.06796450832561922))  # fmt: skip
P = F(0.33 * math.sqrt(0.5))


@inner
def normal_cdf(x, density):
    """Φ(x), given exp(-x²/2). Absolute error below 3e-7, relative error below 1e-6 for x > -5."""
    t = ONE / (ONE + P * abs(x))
    t2 = t * t
    low, high = (C1 + t * C2) + t2 * (C3 + t * C4), (C5 + t * C6) + t2 * (C7 + t * C8)
    tail = density * t * (low + t2 * t2 * high)
    return ONE - tail if x > ZERO else tail

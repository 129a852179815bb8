"""GELU and SiLU in blocks that fit into the cache; each step works in place on one scratch array.

Forward computes the derivative together with the value, from the same intermediate results. So backward is
one multiplication, and one array is stored instead of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import kernels
from tinygen.tensor import Array

BLOCK = 2**16  # floats: 256 kB each of x, y and slope about fill a second-level cache

# For a >= 0, Φ(-a) = exp(-a²/2) / (A a + B + (C a + D) / (a² + E a + F)): a weighted least-squares fit,
# with larger weights where the error was largest. The errors of Φ and of a Φ are below 1e-7.
A, B, C, D, E, F = (
    np.float32(c) for c in (2.46824375, 0.68844534, -3.59040836, 15.78775859, 5.26982263, 12.03744185)
)
FAR = np.float32(100)  # where Φ(-a) is 0, and a² is not yet infinite
SIGN = np.uint32(1 << 31)


@kernels.register(ops.gelu)
def gelu(x: Array, approximate: str = "none") -> Any:
    block = {"none": exact_gelu, "tanh": tanh_gelu}.get(approximate)
    return NotImplemented if block is None else compute_in_blocks(x, block)


@kernels.register(ops.silu)
def silu(x: Array) -> Any:
    return compute_in_blocks(x, silu_and_slope)


def compute_in_blocks(x: Array, block: Callable[[Array, Array, Array], None]) -> Any:
    """The value and the rule; `block(x, y, slope)` computes y and its derivative."""
    if not x.flags.c_contiguous:
        return NotImplemented
    y, slope = np.empty_like(x), np.empty_like(x)
    flat_x, flat_y, flat_slope = x.reshape(-1), y.reshape(-1), slope.reshape(-1)
    for start in range(0, x.size, BLOCK):
        part = slice(start, start + BLOCK)
        block(flat_x[part], flat_y[part], flat_slope[part])
    return y, lambda g: g * slope


def exact_gelu(x: Array, y: Array, slope: Array) -> None:
    """y = x Φ(x), slope = Φ(x) + x φ(x)."""
    density = np.square(x, out=slope)
    density *= np.float32(-0.5)
    np.exp(density, out=density)  # √(2π) φ(x)
    a = np.abs(x)
    np.minimum(a, FAR, out=a)
    below = a + E
    below *= a
    below += F
    tail = np.multiply(a, C, out=y)
    tail += D
    tail /= below
    a *= A
    tail += a
    tail += B
    cdf = np.divide(density, tail, out=y)  # Φ(-a)
    np.subtract(np.float32(0.5), cdf, out=cdf)
    copy_sign(cdf, x, scratch=a)
    cdf += np.float32(0.5)
    density *= x
    density *= np.float32(1 / math.sqrt(2 * math.pi))
    slope += cdf
    y *= x


def copy_sign(y: Array, x: Array, scratch: Array) -> None:
    """Give y >= 0 the sign of x: like np.copysign, in a third of its time."""
    bits = y.view(np.uint32)
    bits |= np.bitwise_and(x.view(np.uint32), SIGN, out=scratch.view(np.uint32))


def tanh_gelu(x: Array, y: Array, slope: Array) -> None:
    """y = x (1 + t)/2 with t = tanh(u), u = √(2/π) (x + a x³); slope = (1 + t)/2 + x (1 - t²)/2 u'."""
    c, a = math.sqrt(2 / math.pi), 0.044715
    square = x * x
    t = np.multiply(square, np.float32(c * a), out=y)
    t += np.float32(c)
    t *= x
    np.tanh(t, out=t)
    square *= np.float32(1.5 * c * a)
    square += np.float32(0.5 * c)
    square *= x  # x u'/2
    np.multiply(t, t, out=slope)
    np.subtract(np.float32(1), slope, out=slope)
    slope *= square
    t += np.float32(1)
    t *= np.float32(0.5)
    slope += t
    y *= x


def silu_and_slope(x: Array, y: Array, slope: Array) -> None:
    """y = x σ(x), slope = σ + y (1 - σ)."""
    s = np.negative(x, out=slope)
    with np.errstate(over="ignore"):  # where exp(-x) is infinite, σ is 0
        np.exp(s, out=s)
    s += np.float32(1)
    np.reciprocal(s, out=s)
    np.multiply(x, s, out=y)
    rest = np.subtract(np.float32(1), s)
    rest *= y
    slope += rest

"""ReLU, sigmoid, tanh, softplus and SiLU: a line of C each, around which CuPy puts the loop over the entries.

    "y = x / (1 + exp(-x))"     thread i:  x = x[i];  y = x / (1 + exp(-x));  y[i] = y

`gelu.py` shows what that is when it is written out. Here it would be the same ten times over; and a launch by
CuPy is said to take the CPU a fraction of one by Numba, which counts where the work is as little as here.

    bytes moved   forward 4·n read, 4·n written; backward 8·n read, 4·n written
    operations    an exp or two and a few sums an entry, which hide behind the memory

The definitions take up to seven launches forward and five backward, each through memory.
"""

from __future__ import annotations

import functools
from typing import Any

from tinygen.tensor import Array

# Numbers are ints, which C makes floats of: 1.0 would be a double, and all that it touches.
VALUES = {
    "relu": "y = x <= 0 ? 0 : x",  # NaN stays NaN
    "sigmoid": "y = 1 / (1 + exp(-x))",
    "tanh": "y = tanh(x)",
    "softplus": "y = (x > 0 ? x : 0) + log1p(exp(-fabs(x)))",
    "silu": "y = x / (1 + exp(-x))",
}
OF_Y = {
    "relu": "d = y > 0 ? g : 0",
    "sigmoid": "d = g * y * (1 - y)",
    "tanh": "d = g * (1 - y * y)",
}
"""Gradients by the value."""
OF_X = {
    "softplus": "d = g / (1 + exp(-x))",
    "silu": "float s = 1 / (1 + exp(-x)); d = g * s * (1 + x * (1 - s))",
}
"""Gradients by the argument."""


@functools.cache
def compiled(name: str) -> tuple[Any, Any]:
    """The value, a function of x, and the gradient, one of x or y and of g."""
    import cupy

    value = cupy.ElementwiseKernel("float32 x", "float32 y", VALUES[name], f"{name}_entries")
    inputs, line = ("float32 x", OF_X[name]) if name in OF_X else ("float32 y", OF_Y[name])
    slope = cupy.ElementwiseKernel(f"{inputs}, float32 g", "float32 d", line, f"{name}_entries_backward")
    return value, slope


def entrywise(name: str, x: Array) -> Any:
    value, slope = compiled(name)
    y = value(x)
    kept = x if name in OF_X else y
    return y, lambda g: slope(kept, g)


def relu(x: Array) -> Any:
    """As `tinygen.ops.relu`; so for the others."""
    return entrywise("relu", x)


def sigmoid(x: Array) -> Any:
    return entrywise("sigmoid", x)


def tanh(x: Array) -> Any:
    return entrywise("tanh", x)


def softplus(x: Array) -> Any:
    return entrywise("softplus", x)


def silu(x: Array) -> Any:
    return entrywise("silu", x)

"""ReLU, sigmoid, tanh, softplus and SiLU: one line of C each; CuPy adds the loop over the entries.

    "y = x / (1 + exp(-x))"     thread i:  x = x[i];  y = x / (1 + exp(-x));  y[i] = y

`gelu.py` shows such a kernel written out in full; here it would be repeated ten times. A launch by CuPy also
costs the CPU less time than a launch by Numba, and these kernels are so short that this matters.

    bytes moved   forward 4·n read, 4·n written; backward 8·n read, 4·n written
    operations    per entry, one or two exp and a few additions: memory bandwidth limits it

The definitions take up to seven launches forward and five backward, each through memory.
"""

from __future__ import annotations

import functools
from typing import Any

from tinygen.tensor import Array

# Constants are ints, which C converts to float; 1.0 would be a double and make the whole expression double.
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
"""Gradients computed from the output y."""
OF_X = {
    "softplus": "d = g / (1 + exp(-x))",
    "silu": "float s = 1 / (1 + exp(-x)); d = g * s * (1 + x * (1 - s))",
}
"""Gradients computed from the input x."""


@functools.cache
def compile_pair(name: str) -> tuple[Any, Any]:
    """Two kernels: the value as a function of x, and the gradient as a function of x or y, and g."""
    import cupy

    value = cupy.ElementwiseKernel("float32 x", "float32 y", VALUES[name], f"{name}_entries")
    inputs, line = ("float32 x", OF_X[name]) if name in OF_X else ("float32 y", OF_Y[name])
    slope = cupy.ElementwiseKernel(f"{inputs}, float32 g", "float32 d", line, f"{name}_entries_backward")
    return value, slope


def apply_entrywise(name: str, x: Array) -> Any:
    value, slope = compile_pair(name)
    y = value(x)
    kept = x if name in OF_X else y
    return y, lambda g: slope(kept, g)


def relu(x: Array) -> Any:
    """As `tinygen.ops.relu`; the functions below, too, are named like their ops."""
    return apply_entrywise("relu", x)


def sigmoid(x: Array) -> Any:
    return apply_entrywise("sigmoid", x)


def tanh(x: Array) -> Any:
    return apply_entrywise("tanh", x)


def softplus(x: Array) -> Any:
    return apply_entrywise("softplus", x)


def silu(x: Array) -> Any:
    return apply_entrywise("silu", x)

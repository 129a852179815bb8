"""Python's operators and functions on Tensors: x + y, x // y, abs(x), f"{x:.2f}", round(x), y in x.

`__add__` answers x + y; where x is no Tensor, `__radd__` of y does. Bits (`& | ^ ~ << >>`) are for integers
and bools, whose `&` is the logical and.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygen.ops.numpy  # noqa: F401 (it gives NumPy's functions their meaning)
from tinygen.ops.choices import absolute
from tinygen.ops.elementwise import (
    add,
    divide,
    multiply,
    negative,
    positive,
    power,
    subtract,
)
from tinygen.ops.index import getitem
from tinygen.ops.linalg import matmul
from tinygen.ops.numpy import elementwise
from tinygen.ops.without_gradient import equal, greater, greater_equal, less, less_equal, not_equal
from tinygen.tensor import IMPLEMENTS, Tensor, bind_to_tensor
from tinygen.types import TensorLike


def swap_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda b, a: function(a, b)


def power_of(x: TensorLike, p: TensorLike, modulus: Any = None) -> Any:
    """x ** p; Python's pow(x, p, modulus) is for whole numbers only."""
    if modulus is not None:
        raise TypeError("pow(x, p, modulus) is for Python's whole numbers: write x ** p % modulus")
    return power(x, p)


def format_tensor(x: Tensor, spec: str) -> str:
    """f"{loss:.4f}" of a tensor of size 1; without a format, any tensor as str() has it."""
    if not spec:
        return str(x)
    if x.size != 1:
        raise TypeError(
            f"the format {spec!r} needs one number, this tensor has shape {x.shape}: format t.item() of each"
        )
    return format(x.item(), spec)


def round_tensor(x: Tensor, decimals: int | None = None) -> Any:
    """round(x) of a tensor of size 1 is a Python number, as round(loss, 3); of others a tensor."""
    if x.size == 1:
        return round(x.item(), decimals)
    return np.round(x, decimals or 0)


def contains(x: Tensor, value: Any) -> bool:
    """`value in x`: whether any entry is equal to it."""
    return bool((x == value).any())


@bind_to_tensor
class Operators:
    """`a + b` is `add(a, b)`: each operator, and the function that it calls."""

    __add__ = add
    __radd__ = swap_arguments(add)
    __sub__ = subtract
    __rsub__ = swap_arguments(subtract)
    __mul__ = multiply
    __rmul__ = swap_arguments(multiply)
    __truediv__ = divide
    __rtruediv__ = swap_arguments(divide)
    __floordiv__ = IMPLEMENTS[np.floor_divide]
    __rfloordiv__ = swap_arguments(IMPLEMENTS[np.floor_divide])
    __mod__ = elementwise.remainder
    __rmod__ = swap_arguments(elementwise.remainder)
    __divmod__ = elementwise.divmod
    __rdivmod__ = swap_arguments(elementwise.divmod)
    __pow__ = power_of
    __rpow__ = swap_arguments(power_of)
    __matmul__ = matmul
    __rmatmul__ = swap_arguments(matmul)
    __and__ = IMPLEMENTS[np.bitwise_and]
    __rand__ = swap_arguments(IMPLEMENTS[np.bitwise_and])
    __or__ = IMPLEMENTS[np.bitwise_or]
    __ror__ = swap_arguments(IMPLEMENTS[np.bitwise_or])
    __xor__ = IMPLEMENTS[np.bitwise_xor]
    __rxor__ = swap_arguments(IMPLEMENTS[np.bitwise_xor])
    __lshift__ = IMPLEMENTS[np.left_shift]
    __rlshift__ = swap_arguments(IMPLEMENTS[np.left_shift])
    __rshift__ = IMPLEMENTS[np.right_shift]
    __rrshift__ = swap_arguments(IMPLEMENTS[np.right_shift])
    __neg__ = negative
    __pos__ = positive
    __abs__ = absolute
    __invert__ = IMPLEMENTS[np.invert]
    __eq__: Any = equal  # returns a Tensor, where `object` returns a bool
    __ne__: Any = not_equal
    __lt__ = less
    __le__ = less_equal
    __gt__ = greater
    __ge__ = greater_equal
    __getitem__ = getitem
    __contains__ = contains
    __format__ = format_tensor
    __round__ = round_tensor

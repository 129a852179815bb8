"""Python's protocols that could drop the graph of a Tensor: conversion to a number, copies, pickle, `x += 1`.

Each of these could lose the graph silently, so that a leaf would get no gradient. They work as long as no
graph is lost; otherwise they raise a TypeError that says how to drop the graph on purpose.
"""

from __future__ import annotations

import copy
from typing import Any

from tinygen.tensor import Array, Tensor, bind_to_tensor

# -- numbers ---------------------------------------------------------------------------------------


def array_off_tape(t: Tensor, kind: str) -> Array:
    if t.requires_grad:
        raise TypeError(
            f"{kind}() of a tensor that requires grad would drop its graph (math.exp, np.fromiter and "
            "`array[i] = tensor` too): t.item() is the number; np.exp, np.stack stay on the tape"
        )
    return t._data


def to_float(t: Tensor) -> float:
    return float(array_off_tape(t, "float"))


def to_int(t: Tensor) -> int:
    return int(array_off_tape(t, "int"))


def to_complex(t: Tensor) -> complex:
    return complex(array_off_tape(t, "complex"))


def to_index(t: Tensor) -> int:
    return array_off_tape(t, "int").__index__()


# -- copies ----------------------------------------------------------------------------------------


def shallow_copy(t: Tensor) -> Tensor:
    """A tensor that was computed on the tape is its own copy, since it is never written into."""
    if t.node is not None:
        return t
    if t.requires_grad:
        raise TypeError(
            "copy.copy of a leaf would share its values and not its gradient: copy.deepcopy(t) is another "
            "leaf, t.detach() a constant of the same values"
        )
    return restore(t, state_of(t))


def deep_copy(t: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf is copied; a tensor that was computed on the tape is its own copy."""
    return t if t.node is not None else restore(t, copy.deepcopy(state_of(t), memo))


def restore(t: Tensor, state: Any) -> Tensor:
    new = type(t).__new__(type(t))
    for attributes in state:
        for name, value in (attributes or {}).items():
            setattr(new, name, value)
    return new


def state_of(t: Tensor) -> Any:
    """For pickle."""
    if t.node is not None:
        raise TypeError(
            f"a tensor computed on the tape, from {t.node.name}, cannot be pickled with its graph: pickle "
            "t.detach() or t.numpy()"
        )
    return object.__getstate__(t)


# -- `x += 1`, after which x is another tensor ------------------------------------------------------


def add_in_place(t: Tensor, other: Any) -> Any:
    """`t += other`: Python computes `t + other` instead, after NotImplemented."""
    if t.requires_grad and t.node is None:
        raise TypeError(
            "an operator such as += on a leaf that requires grad would make its name another tensor's, whose "
            ".grad stays None: write y = x + ..., or x.data += ... to update the leaf itself"
        )
    return NotImplemented


@bind_to_tensor
class Protocols:
    """The methods that Python calls for float(x), copy.copy(x), pickle.dumps(x), and the functions above."""

    __float__ = to_float
    __int__ = to_int
    __complex__ = to_complex
    __index__ = to_index
    __copy__ = shallow_copy
    __deepcopy__ = deep_copy
    __getstate__ = state_of


IN_PLACE = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
for name in IN_PLACE.split():
    setattr(Tensor, f"__i{name}__", add_in_place)

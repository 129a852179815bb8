"""Memory that arrays share, and when it was last written into.

A gradient needs values as they were in the forward pass. Views and detached tensors have the same memory as
the tensor that they come from, so a write through any of them changes all. Each piece of memory has one
stamp, the time of its last write by the tape's own clock; a recorded op has such a time too, and whatever is
younger than the op came too late. What NumPy writes by itself (`t.numpy()[0] = 1`) cannot be seen from here.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from tinygen.types import Array

CLOCK = itertools.count(1)
"""Gives the time, a number larger than all before, to recorded ops and to writes."""


class Memory:
    """The memory of an array and of all views of it."""

    __slots__ = ("owner", "written")

    def __init__(self, owner: weakref.ref[Any]) -> None:
        self.owner = owner  # the array that allocated it
        self.written = 0  # when, or 0 for never


KNOWN: dict[int, Memory] = {}
"""By the owner's id, as arrays have no room for a stamp of their own. Each leaves with its owner."""


def owner_of(array: Array) -> Array:
    """The array at the end of the chain of views."""
    while hasattr(array.base, "base"):
        array = array.base
    return array


def memory_of(array: Array) -> Memory:
    owner = owner_of(array)
    key = id(owner)
    return KNOWN.get(key) or KNOWN.setdefault(key, Memory(weakref.ref(owner, lambda _: KNOWN.pop(key, None))))


def write(array: Array) -> None:
    """Say that `array` has been written into."""
    memory_of(array).written = next(CLOCK)


def last_write(array: Array) -> int:
    """When anything that shares memory with `array` was written into; 0 for never."""
    known = KNOWN.get(id(owner_of(array)))
    return known.written if known else 0


VIEWS = (
    *("alias", "broadcast_to", "entries", "flip", "imag", "moveaxis", "pick"),
    *("real", "reshape", "split", "swapaxes", "transpose"),
)
"""Ops whose value may be a view of their input."""


def share(node: Any, array: Array) -> None:
    """Say that others than the tape can write into `array`, the value of `node`: a detached tensor, a view
    that is not on the tape. Nodes whose values have the same memory, by way of views, are told too."""
    memory, owner = memory_of(array), owner_of(array)
    todo = [node]
    for node in todo:  # which grows meanwhile
        if memory in node.shared:
            continue
        node.shared = (*node.shared, memory)
        for x in node.inputs:
            if type(x) is type(node):
                held = None if x.out is None else x.out()
                if node.op.name in VIEWS if held is None else owner_of(held._data) is owner:
                    todo.append(x)

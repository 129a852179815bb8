"""Memory that arrays share, and when it was last written into.

A gradient needs values as they were in the forward pass. Views and detached tensors share memory with the
tensor that they come from, so a write through one of them changes all. Each piece of memory has the time of
its last write, by the tape's own clock. A recorded op has a time too: a write after it makes its gradient
wrong. A write by NumPy itself (`t.numpy()[0] = 1`) cannot be seen from here.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from tinygen.types import Array

CLOCK = itertools.count(1)
"""Each `next(CLOCK)` is a new time, later than all before. Recorded ops and writes have one."""


class Memory:
    """The memory of an array and of all views of it."""

    __slots__ = ("owner", "written")

    def __init__(self, owner: weakref.ref[Any]) -> None:
        self.owner = owner  # the array that allocated it
        self.written = 0  # when, or 0 for never


KNOWN: dict[int, Memory] = {}
"""By the owner's id, since an array has no attribute for it. An entry is deleted with its owner."""


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
    """Note that `array` has been written into."""
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
    """Note that `array`, the value of `node`, can be written into from outside the tape: through a detached
    tensor, or a view that is not on the tape. The same is noted for all nodes whose values share its
    memory."""
    memory, owner = memory_of(array), owner_of(array)
    todo = [node]
    for node in todo:  # the loop below appends to it
        if memory in node.shared:
            continue
        node.shared = (*node.shared, memory)
        for x in node.inputs:
            if type(x) is type(node):
                held = None if x.out is None else x.out()
                if node.op.name in VIEWS if held is None else owner_of(held._data) is owner:
                    todo.append(x)

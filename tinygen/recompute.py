"""Checkpointing: memory for time. What was computed inside `checkpoint()` is not kept but computed again.

Griewank & Walther 2008, ch. 12; for neural nets Chen et al. 2016, arXiv:1604.06174, section 4.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.modes import switch
from tinygen.tape import PICK, Node
from tinygen.tensor import Array, Tensor


class Segment:
    """The nodes recorded inside one `checkpoint()`: they keep the program and no arrays.

    When backward reaches one of them, all that are still there are computed again, from the values that
    entered. Nodes hold their segment, and it does not hold them: a graph that nobody wants is freed."""

    def __init__(self) -> None:
        self.nodes: list[weakref.ref[Node]] = []
        self.entered: weakref.WeakKeyDictionary[Node, Array] = weakref.WeakKeyDictionary()

    def record(self, node: Node, args: Sequence[Any]) -> None:
        node.rules = self
        self.nodes.append(weakref.ref(node))
        for x in args:
            if isinstance(x, Tensor) and x.node is not None:
                maker = x.node.inputs[0] if x.node.op is PICK else x.node
                if maker.rules is not self:
                    self.entered[x.node] = x._data

    def rebuild(self) -> None:
        values: dict[Node, Any] = dict(self.entered)

        def value_of(x: Any) -> Any:
            if type(x) is not Node:
                return x._data if isinstance(x, Tensor) else x
            if x.op is PICK and x not in values:
                return values[x.inputs[0]][x.kwargs["i"]]
            return values[x]

        for held in self.nodes:
            node = held()
            if node is not None:
                value, *node.rules = node.op.compute(*map(value_of, node.inputs), **node.kwargs)
                values[node] = like_before(value, node.dtype)
        self.nodes.clear()
        self.entered.clear()


def like_before(value: Any, dtype: Any) -> Any:
    if type(value) is tuple:
        return tuple(like_before(v, d) for v, d in zip(value, dtype, strict=True))
    return (value if hasattr(value, "__array_function__") else np.asarray(value)).astype(dtype, copy=False)


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, keeping only its inputs: backward computes the inside again.

    The function must do the same when run twice; the ops here do, `dropout` too, since each is given its
    seed."""
    with switch(segment=Segment()):
        return function(*args)

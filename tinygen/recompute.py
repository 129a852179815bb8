"""Checkpointing saves memory and costs time: intermediate values inside `checkpoint()` are not kept, and
backward computes them again.

Griewank & Walther 2008, ch. 12; for neural nets Chen et al. 2016, arXiv:1604.06174, section 4.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from tinygen.modes import switch
from tinygen.node import PICK, Node
from tinygen.rerun import rerun, run_on_arrays
from tinygen.tensor import Array, Tensor


class Segment:
    """The nodes recorded inside one `checkpoint()`: they keep the program and no arrays.

    When backward reaches one of them, all nodes that still exist are computed again, from the inputs of the
    segment. Nodes hold a reference to their segment, but the segment holds none to them, so that an unused
    graph is freed."""

    def __init__(self) -> None:
        self.nodes: list[weakref.ref[Node]] = []
        self.entered: weakref.WeakKeyDictionary[Node, Array] = weakref.WeakKeyDictionary()

    def record(self, output: Tensor, args: Sequence[Any]) -> None:
        """Take the node that made `output` into the segment, which replaces its rules, and keep the `args`
        that come from outside."""
        node = maker_of(output)
        node.rules = self
        self.nodes.append(weakref.ref(node))
        for x in args:
            if isinstance(x, Tensor) and x.node is not None and maker_of(x).rules is not self:
                self.entered[x.node] = x._data

    def rules_of(self, node: Node) -> Any:
        """The rules of `node`, from computing the segment again: now all its nodes have their rules."""

        def run(node: Node, inputs: list[Any]) -> Any:
            value, rules = run_on_arrays(node, inputs)
            if node.op is not PICK:
                node.rules = rules
            return value

        rerun(self.order(), run, self.entered)
        self.nodes.clear()
        self.entered.clear()
        return node.rules

    def order(self) -> list[Node]:
        """The nodes that are still there, inputs first, with the PICKs of outputs that they use."""
        order: list[Node] = []
        for held in self.nodes:
            if (node := held()) is not None:
                uses = [x for x in node.inputs if type(x) is Node and x.op is PICK and x not in self.entered]
                order += [*uses, node]
        return order


def maker_of(output: Any) -> Any:
    """The node of the op that computed the Tensor `output`, alone or among several."""
    node = output.node
    return node.inputs[0] if node.op is PICK else node


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, keeping only its inputs: backward computes the inside again.

    The function must compute the same when it runs a second time. All ops here do, also `dropout`, which
    gets its seed as an argument."""
    with switch(segment=Segment()):
        return function(*args)

"""Exercises on the engine: the parts of backward, and ops with their gradient rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values
from tinygen.node import Node
from tinygen.tensor import Tensor

UNBROADCAST = Exercise(
    "unbroadcast",
    "tinygen.backward:unbroadcast",
    "sum a gradient over the axes that broadcasting made",
    hints=(
        "Broadcasting copied each entry of x. Every copy got a gradient: what is the gradient of the entry?",
        "Two kinds of axes were made: new ones in front (g has more axes than x), and axes of size 1 "
        "that were stretched. Sum over both.",
        "added = g.ndim - x.ndim; stretched = the axes i where x.shape[i - added] is 1 and g.shape[i] "
        "is not; sum over range(added) and stretched, then reshape to x.shape and cast to x.dtype.",
    ),
    given=lambda: {
        "g": numbers(2, 3, 4),
        "column": numbers(3, 1),
        "row": numbers(4),
        "one": numbers(1, 1),
        "single": np.zeros((3, 1), np.float32),
    },
    checks=(
        Values("unbroadcast(g, g)"),
        Values("unbroadcast(g, row)"),
        Values("unbroadcast(g, column)"),
        Values("unbroadcast(g, one)"),
        Values("str(unbroadcast(g, single).dtype)"),
    ),
    mistakes=(
        Mistake(
            "sum_over(g, (*range(added), *stretched))",
            "np.mean(g, (*range(added), *stretched))",
            "every entry has the factor 1/6",
            "the copies are averaged instead of summed",
        ),
        Mistake("(*range(added), *stretched)", "stretched", "shape (4,)", "new axes in front are not summed"),
        Mistake(
            "(*range(added), *stretched)).reshape(x.shape)",
            "(*range(added), *stretched))",
            "shape (3,), expected (3, 1)",
            "the stretched axes of size 1 are lost",
        ),
    ),
)


def count_order(nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes there are, and how many come before one of their inputs."""
    early = sum(any(x is later for x in node.inputs for later in nodes[i:]) for i, node in enumerate(nodes))
    return {"nodes": len(nodes), "nodes before one of their inputs": early}


def diamond() -> Tensor:
    """A value that is reached on several paths, of different lengths."""
    x = Tensor(numbers(3), requires_grad=True)
    a = np.exp(x)
    b = np.tanh(np.sin(a) * a)
    return a + b * np.cos(b) + a * x


TOPOLOGICAL_ORDER = Exercise(
    "topological_order",
    "tinygen.backward:topological_order",
    "put each node behind its inputs",
    hints=(
        "When backward reaches a node, all nodes that used its value must have been visited. Begin with the "
        "nodes of the outputs: where do you find the nodes that they were computed from?",
        "Follow `node.inputs` and collect every Node once; a value that is used twice is found twice. "
        "Each node has a number `seq`, which grows with time.",
        "seen = a set of the outputs' nodes; a list of them, to which you append each unseen input of "
        "type Node; then sort the list by `seq`.",
    ),
    given=lambda: {"y": diamond(), "count_order": count_order},
    checks=(Values("count_order(topological_order([y]))"), Values("count_order(topological_order([y, y]))")),
    mistakes=(
        Mistake(
            'order.sort(key=attrgetter("seq"))',
            "order.reverse()",
            "['nodes before one of their inputs']",
            "the nodes are in the reverse of the order in which they were found: one that is used "
            "early and late comes too late",
        ),
        Mistake(
            "if type(x) is Node and x not in seen:",
            "if type(x) is Node:",
            "the factor is 17/9",
            "a node is collected each time that it is found",
        ),
        Mistake(
            'order.sort(key=attrgetter("seq"))',
            'order.sort(key=attrgetter("seq"), reverse=True)',
            "['nodes before one of their inputs']",
            "the newest node comes first",
        ),
    ),
)

ACCUMULATE = Exercise(
    "accumulate",
    "tinygen.backward:accumulate",
    "add the gradients of all paths to a value",
    hints=(
        "x may reach the output on many paths. What does the chain rule say of their terms?",
        "The first term of a value is stored as it is. The second makes a new array, since the first "
        "may belong to somebody else. From then on the sum is ours.",
        "Three cases: no sum yet (store g); x in owned (before += g); else store before + g and put x "
        "into owned.",
    ),
    given=lambda: {"a": numbers(3), "b": numbers(3, seed=1), "c": numbers(3, seed=2)},
    checks=(
        Values("sums = {}; accumulate(sums, [('x', a), ('y', b)], set()); sums"),
        Values("sums = {}; accumulate(sums, [('x', a), ('y', b), ('x', b)], set()); sums"),
        Values("sums = {}; accumulate(sums, [('x', a), ('x', b), ('x', c)], set()); sums"),
        Values("accumulate({}, [('x', a), ('x', b), ('x', c)], set()); a"),
    ),
    mistakes=(
        Mistake(
            "sums[x] = before + g",
            "sums[x] = g",
            "it is b itself",
            "the last path overwrites the others: = in place of +=",
        ),
        Mistake(
            "            sums[x] = g\n",
            "            sums[x] = g\n            owned.add(x)\n",
            "",
            "the first term, which is borrowed, is added to in place",
        ),
        Mistake("before += g ", "before = g ", "it is c itself", "a third term takes the place of the sum"),
    ),
)

CHAPTER = Chapter("The engine", (UNBROADCAST, ACCUMULATE, TOPOLOGICAL_ORDER))

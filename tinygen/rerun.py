"""Run the recorded program again.

The tape records the ops and their inputs, but does not keep intermediate values. To get these, the program
runs once more: for gradients of gradients (`replay` in `backward.py`), for the values that `checkpoint`
dropped (`recompute.py`), for the values that `graph` shows, and for the steps that `gradcheck` checks one
by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.node import Node
from tinygen.tensor import Tensor


def rerun(
    order: Sequence[Node], run: Callable[[Node, list[Any]], Any], known: Mapping[Node, Any] | None = None
) -> dict[Node, Any]:
    """The value of each node in `order` (inputs first), as `run(node, inputs)` computes it.

    Among the inputs of a node, every Node has its new value in its place; the rest are as they were recorded:
    Tensors, arrays, numbers. `known` has the values of nodes that are not in `order`."""
    values: dict[Node, Any] = dict(known or {})
    for node in order:
        values[node] = run(node, [values[x] if type(x) is Node else x for x in node.inputs])
    return values


def run_on_arrays(node: Node, inputs: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The op computed once more on arrays: its value, as it was on the tape, and its rules."""
    value, *rules = node.op.compute(*map(array_of, inputs), **node.kwargs)
    return with_recorded_dtype(value, node), rules


def array_of(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else x


def with_recorded_dtype(value: Any, node: Node) -> Any:
    """`value` as the array, or the tuple of arrays, that the tape made of it when `node` was recorded."""

    def cast(y: Any, dtype: Any) -> Any:
        return (y if hasattr(y, "__array_function__") else np.asarray(y)).astype(dtype, copy=False)

    if type(value) is not tuple:
        return cast(value, node.dtype)
    return tuple(cast(y, dtype) for y, dtype in zip(value, node.dtype, strict=True))

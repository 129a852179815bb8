"""The entries of the tape: a `Node` is one execution of an `Op`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from tinygen.callers import line_of
from tinygen.memory import Memory

if TYPE_CHECKING:
    from tinygen.recompute import Segment
    from tinygen.tensor import Tensor

Rule = Callable[[Any], Any]
"""Takes the gradient of an op's value; returns the gradient of one input, or a tuple: of every input."""


class Op:
    """An op. `body` is its definition. `compute` runs on arrays: it is the body itself, unless
    `tinygen.kernels` has put a faster kernel there, for which `name` is the key."""

    __slots__ = ("body", "complex", "compute", "intended", "kind", "name", "shown")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.name = body.__name__
        self.shown: str | Callable[[Any], str] = self.name  # see `show_as`
        self.complex = False  # whether its rules are right for complex numbers: `ops/complex_numbers.py`
        self.body = body
        self.compute = body
        self.intended = ""  # why its gradient is meant to be another than the derivative; see gradcheck
        self.kind: type | None = None  # the type of its results: a tuple, once one has been checked

    def name_for(self, args: Sequence[Any]) -> str:
        """The name that the user called to have the op run on `args`."""
        return self.shown if isinstance(self.shown, str) else self.shown(args[0])

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


class Node:
    """One op that was executed: an entry of the tape.

    A node keeps no arrays; a rule that needs one holds it in its closure. So in `inputs` a Tensor that was
    itself computed on the tape is represented by its Node. Leaves and constants are there as Tensors, and
    arrays, numbers, axes as they are. `put_on_tape` in `tape.py` makes nodes."""

    __slots__ = (
        *("op", "inputs", "kwargs", "rules", "seq", "code", "offset"),
        *("shape", "dtype", "out", "shared", "__weakref__"),
    )  # fmt: skip

    requires_grad = True  # like a Tensor's: only values that require grad have a Node

    op: Op
    inputs: Sequence[Any]
    kwargs: dict[str, Any]
    rules: Sequence[Rule] | Segment | None
    """None once backward() has freed them."""
    seq: int
    """When the op ran, by the tape's clock."""
    code: CodeType
    """The user's code that called the op; `offset` is the position in it, of which `line_of` makes a line."""
    offset: int
    shape: Any
    """The value's shape, and in `dtype` its dtype; tuples of them when the value is a tuple."""
    dtype: Any
    out: weakref.ref[Tensor] | None
    """The output, as long as somebody holds it; None when the value is a tuple."""
    shared: tuple[Memory, ...]
    """The memory of the value, where others can write into it: `share` knows."""

    @property
    def name(self) -> str:
        """The op, by the name that the user called."""
        return self.op.name_for([self])  # the inputs may have been freed; the value has as many axes as they

    @property
    def where(self) -> str:
        """The line that called the op, as "file:line"."""
        return line_of(self.code, self.offset)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.dtype} {self.shape}, called at {self.where}>"


PICK = Op(lambda values, i: (values[i],))
"""An op with several outputs has one Node, whose value is a tuple. Each output is a Tensor with a Node of
its own, which picks element `i` of the tuple. It has no rule: see `put_aside` in `backward.py`."""
PICK.name = PICK.shown = "pick"

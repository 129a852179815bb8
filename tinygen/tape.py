"""The tape: reverse-mode automatic differentiation.

Linnainmaa 1976; Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), chapters 3, 5 and 6.

An **op** is a function that returns its value and, beside it, one small function per input that
sends the gradient back. `@op` makes of it a function on Tensors: it computes on their arrays and,
when an input wants a gradient, leaves a `Node` on the tape. A node holds the op, its inputs and those
small functions (its rules). So the tape is a program, and the order of creation is one of its
topological orders. `tinygen/backward.py` walks it.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from tinygen.checks import better_error, check_finite, check_result, refuse_complex, signature, too_few_rules
from tinygen.memory import CLOCK, Memory, owner_of, share
from tinygen.modes import MODE
from tinygen.tensor import IMPLEMENTS, Array, Tensor

if TYPE_CHECKING:
    from tinygen.recompute import Segment

P = ParamSpec("P")
Rule = Callable[[Any], Any]
"""Takes the gradient of an op's value; returns that of one input, or a tuple: of every input."""


# -- what is on the tape ---------------------------------------------------------------------------


class Op:
    """An op's `name`, its `body` (the definition) and `compute`: what runs on arrays, the body itself
    unless `tinygen.kernels` has put a faster kernel there. `kind` is the type of its results: a tuple, once
    one has been looked at."""

    __slots__ = ("body", "complex", "compute", "intended", "kind", "name")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.name = body.__name__
        self.complex = False  # whether its rules are right for complex numbers: `ops/complex_numbers.py`
        self.body = body
        self.compute = body
        self.intended = ""  # why its gradient is meant to be another than the derivative; see gradcheck
        self.kind: type | None = None


class Node:
    """One executed op. Arrays that were computed on the tape are not kept here, only by the rules that
    need them: their place among `inputs` is taken by the Node that made them."""

    __slots__ = (
        *("op", "inputs", "kwargs", "rules", "seq", "code", "offset"),
        *("shape", "dtype", "out", "shared", "__weakref__"),
    )  # fmt: skip

    shape: Any
    """The value's shape, and in `dtype` its dtype; tuples of them when the value is a tuple."""
    dtype: Any
    out: weakref.ref[Tensor] | None
    """The output, as long as somebody holds it."""
    shared: tuple[Memory, ...]
    """The memory of the value, where others can write into it: `share` knows."""

    def __init__(
        self,
        op: Op,
        inputs: Sequence[Any],
        kwargs: dict[str, Any],
        rules: Any,
        frame: FrameType,
    ) -> None:
        self.op = op
        self.inputs = inputs  # Nodes, Tensors (leaves and constants), and whatever isn't a Tensor
        self.kwargs = kwargs
        self.rules: Sequence[Rule] | Segment | None = rules  # None once backward() has freed them
        self.seq = next(CLOCK)
        self.code, self.offset = caller_of(frame)
        self.out = None
        self.shared = ()

    @property
    def where(self) -> str:
        """What called the op, as "file:line"."""
        return line_of(self.code, self.offset)


PICK = Op(lambda values, i: (values[i],))  # takes one output of an op that has several
PICK.name = "pick"
HERE = os.path.dirname(__file__) + os.sep
ENGINE = (
    "modes.py",
    "tape.py",
    "tensor.py",
    "recompute.py",
    "backward.py",
    "transforms.py",
    *(f + os.sep for f in ("ops", "nn", "gradcheck")),
)


@functools.cache
def is_internal(filename: str) -> bool:
    return filename.startswith(tuple(HERE + name for name in ENGINE))


def caller_of(frame: FrameType) -> tuple[CodeType, int]:
    """Where `frame`'s caller outside the engine and its layers stands; `line_of` makes words of it."""
    while is_internal(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_of(code: CodeType, offset: int) -> str:
    line = next((n for start, end, n in code.co_lines() if start <= offset < end), None)
    return f"{code.co_filename}:{line}"


def op(body: Callable[P, Any]) -> Callable[P, Tensor]:
    """Make a differentiable function of `body`.

    `body` gets arrays and returns a tuple, `value, rule, rule, ...`: a rule takes the gradient of the value
    and returns that of one positional argument, in order (None in the place of an argument that has none;
    those at the end may be left out). One rule alone may be **joint**: it returns the gradients of all
    positional arguments as a tuple; if it returns anything else, that is the first argument's. An op with
    several outputs has a tuple of them for its value, and one joint rule, which takes a tuple of their
    gradients. An op that has no gradient returns `value,`.

    Rules are written in functions that Tensors answer too (NumPy's, operators, other ops), since higher
    orders call them with Tensors. What a rule returns is summed over broadcast axes and cast to its input's
    dtype here, so rules need not. What the body closes over is constant: Tensors have to be arguments.

    The result takes Tensors anywhere among its arguments; called with arrays only, it returns an array.
    Floating-point results have the dtype of the floating-point Tensors that came in (with Tensors of integers
    only, of the floating-point arrays, else float32), unless `dtype=` is passed.

    Raises TypeError at the first call when the body returns anything else, and at the call when an input
    requires grad and the rules, two or more, have none for it.
    """
    self = Op(body)

    @functools.wraps(body)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs and any(isinstance(x, Tensor) for x in kwargs.values()):
            bound = inspect.signature(body).bind(*args, **kwargs)
            bound.apply_defaults()
            if any(isinstance(x, Tensor) for x in bound.kwargs.values()):
                names = ", ".join(k for k, x in bound.kwargs.items() if isinstance(x, Tensor))
                raise TypeError(f"{self.name}: {names} can be given by name only, so it cannot be a Tensor")
            return call(*bound.args, **bound.kwargs)
        tensor = None
        tracked = 0
        arrays, inputs = [], []
        for x in args:
            if isinstance(x, Tensor):
                tensor = x
                tracked += x.requires_grad
                arrays.append(x._data)
                inputs.append(x.node or x)
            else:
                arrays.append(x)
                inputs.append(x)
        if tensor is None:
            result = self.compute(*arrays, **kwargs)
            if type(result) is not self.kind:
                check_result(self, result, args)
            return result[0]
        try:
            result = self.compute(*arrays, **kwargs)
        except Exception as error:
            better = better_error(error, signature(self, arrays), arrays)
            if better is None:
                raise
            kind, message = better
            raise kind(message).with_traceback(error.__traceback__) from None
        if type(result) is not self.kind:
            check_result(self, result, args)
        value, rules = result[0], result[1:]
        if type(value) is not np.ndarray or value.dtype is not tensor._data.dtype:
            value = with_tensor_dtype(value, args, kwargs)
        record, anomaly, segment, _ = MODE.get()
        if anomaly:
            where = line_of(*caller_of(sys._getframe(1)))
            check_finite(value, f"the value of {signature(self, arrays)}", where)
        if not (tracked and record and rules):
            if tracked and (type(value) is tuple or value.base is not None or value is arrays[0]):
                share_views(args, value)
            return to_tensor(value)
        if 1 < len(rules) != tracked:  # nobody will ask the others, so let go of what they keep
            asked = [isinstance(x, Tensor) and x.requires_grad for x in args]
            if True in asked[len(rules) :]:
                raise TypeError(too_few_rules(self, len(rules), asked))
            asked += [False] * (len(rules) - len(args))  # arguments that were left out
            rules = tuple(rule if wanted else None for rule, wanted in zip(rules, asked, strict=False))
        if not self.complex:
            refuse_complex(self, value, args)
        node = Node(self, inputs, kwargs, rules, sys._getframe(1))
        if segment is not None:
            segment.record(node, args)
        return to_tensor(value, node)

    call.op = self  # type: ignore[attr-defined]
    return call


def implements(
    *functions: Callable[..., Any],
) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """Let NumPy's `functions` mean this one when they are called with Tensors."""

    def register(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        IMPLEMENTS.update(dict.fromkeys(functions, function))
        return function

    return register


def detach(x: Array) -> Array:
    """`x` as a constant, for bodies: in a replay no gradient flows through it."""
    return x.detach() if isinstance(x, Tensor) else x


def to_tensor(value: Any, node: Node | None = None) -> Any:
    """The Tensor (or tuple of them) of an op's value, made by `node`."""
    if type(value) is tuple:
        if node is None:
            return tuple(to_tensor(v) for v in value)
        node.shape, node.dtype = tuple(v.shape for v in value), tuple(v.dtype for v in value)
        frame = sys._getframe(1)
        return tuple(to_tensor(v, Node(PICK, (node,), {"i": i}, (), frame)) for i, v in enumerate(value))
    out = Tensor.__new__(Tensor)
    out._data = value
    out.grad = None
    out.version = 0
    out.node = node
    out.requires_grad = node is not None
    if node is not None:
        node.shape, node.dtype, node.out = value.shape, value.dtype, weakref.ref(out)
    return out


def with_tensor_dtype(value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """`value` as an array (NumPy's reductions give scalars) of the dtype that the Tensors ask for.

    NumPy 2 promotes float32 with float64 constants, 0-d arrays or integer arrays to float64 (NEP 50);
    a Tensor keeps its dtype. Tensors of ints and bools have none to keep: then float arrays beside them
    decide, and float32 is what is left. Complex values come in that precision: complex64 for float32."""
    if type(value) is tuple:
        return tuple(with_tensor_dtype(v, args, kwargs) for v in value)
    if isinstance(value, Tensor):
        raise TypeError(
            "an op's value must be an array, not a Tensor: what its body closes over is an argument"
        )
    if not hasattr(value, "__array_function__"):  # NumPy's scalars and Python's numbers
        value = np.asarray(value)
    if value.dtype.kind in "fc" and kwargs.get("dtype") is None:
        floats = [x for x in args if hasattr(x, "__array_function__") and x.dtype.kind in "fc"]
        dtypes = [x.dtype for x in floats if isinstance(x, Tensor)] or [x.dtype for x in floats]
        dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
        if value.dtype.kind != dtype.kind:
            dtype = np.finfo(dtype).dtype if dtype.kind == "c" else np.result_type(dtype, np.complex64)
        value = value.astype(dtype, copy=False)
    return value


def share_views(args: Sequence[Any], value: Any) -> None:
    """`share` what is on the tape among `args` and has the memory of `value`, which is not."""
    for y in value if type(value) is tuple else (value,):
        for x in args:
            if isinstance(x, Tensor) and x.node is not None and owner_of(x._data) is owner_of(y):
                share(x.node, x._data)

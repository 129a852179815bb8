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
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from tinygen.modes import MODE
from tinygen.tensor import IMPLEMENTS, Array, Tensor, device_of
from tinygen.words import keyword_hint

if TYPE_CHECKING:
    from tinygen.backward import Segment

P = ParamSpec("P")
Rule = Callable[[Any], Any]
"""Takes the gradient of an op's value; returns that of one input, or a tuple: of every input."""


class AnomalyError(ArithmeticError):
    """A NaN or an infinity, caught where it was made, under `anomaly()`."""


# -- what is on the tape ---------------------------------------------------------------------------


class Op:
    """An op's `name`, its `body` (the definition) and `compute`: what runs on arrays, the body itself
    unless `tinygen.kernels` has put a faster kernel there."""

    __slots__ = ("body", "complex", "compute", "intended", "name")

    def __init__(self, body: Callable[..., Any]) -> None:
        self.name = body.__name__
        self.complex = False  # whether its rules are right for complex numbers: `ops/complex_numbers.py`
        self.body = body
        self.compute = body
        self.intended = ""  # why its gradient is meant to be another than the derivative; see gradcheck


class Node:
    """One executed op. Arrays that were computed on the tape are not kept here, only by the rules that
    need them: their place among `inputs` is taken by the Node that made them."""

    __slots__ = (
        *("op", "inputs", "kwargs", "rules", "seq", "version", "code", "offset"),
        *("shape", "dtype", "out", "__weakref__"),
    )  # fmt: skip

    shape: Any
    """The value's shape, and in `dtype` its dtype; tuples of them when the value is a tuple."""
    dtype: Any
    out: weakref.ref[Tensor] | None
    """The output, as long as somebody holds it."""

    def __init__(
        self,
        op: Op,
        inputs: Sequence[Any],
        kwargs: dict[str, Any],
        rules: Any,
        version: int,
        frame: FrameType,
    ) -> None:
        self.op = op
        self.inputs = inputs  # Nodes, Tensors (leaves and constants), and whatever isn't a Tensor
        self.kwargs = kwargs
        self.rules: Sequence[Rule] | Segment | None = rules  # None once backward() has freed them
        self.seq = next(SEQUENCE)
        self.version = version  # of all Tensors among the inputs
        self.code, self.offset = place(frame)
        self.out = None

    @property
    def where(self) -> str:
        """What called the op, as "file:line"."""
        return line_of(self.code, self.offset)


SEQUENCE = itertools.count()
PICK = Op(lambda values, i: (values[i],))  # takes one output of an op that has several
PICK.name = "pick"
HERE = os.path.dirname(__file__) + os.sep
ENGINE = (
    "modes.py",
    "tape.py",
    "tensor.py",
    "backward.py",
    "transforms.py",
    *(f + os.sep for f in ("ops", "nn", "gradcheck")),
)


@functools.cache
def internal(filename: str) -> bool:
    return filename.startswith(tuple(HERE + name for name in ENGINE))


def place(frame: FrameType) -> tuple[CodeType, int]:
    """Where `frame`'s caller outside the engine and its layers stands; `line_of` makes words of it."""
    while internal(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_of(code: CodeType, offset: int) -> str:
    line = next((n for start, end, n in code.co_lines() if start <= offset < end), None)
    return f"{code.co_filename}:{line}"


def op(body: Callable[P, Any]) -> Callable[P, Tensor]:
    """Make a differentiable function of `body`.

    `body` gets arrays and returns `value, rule, rule, ...`: a rule takes the gradient of the value and
    returns that of one positional argument, in order (None where there is none to give), or all of
    them at once as a tuple from a single rule. It is written in functions that Tensors answer too
    (NumPy's, operators, other ops), since higher orders call it with Tensors. A rule's result is
    summed over broadcast axes and cast to its input's dtype here, so rules need not.

    The result takes Tensors anywhere among its arguments; called with arrays only, it returns an array.
    Floating-point results have the dtype of the Tensors that came in, unless `dtype=` is passed.
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
        tracked = version = 0
        arrays, inputs = [], []
        for x in args:
            if isinstance(x, Tensor):
                tensor = x
                tracked += x.requires_grad
                version += x.version
                arrays.append(x._data)
                inputs.append(x.node or x)
            else:
                arrays.append(x)
                inputs.append(x)
        if tensor is None:
            return self.compute(*arrays, **kwargs)[0]
        try:
            value, *rules = self.compute(*arrays, **kwargs)
        except Exception as error:
            better = explained(error, signature(self, arrays), arrays)
            if better is error:
                raise
            raise better from error
        if type(value) is not np.ndarray or value.dtype is not tensor._data.dtype:
            value = settled(value, args, kwargs)
        record, anomaly, segment, _ = MODE.get()
        if anomaly:
            where = line_of(*place(sys._getframe(1)))
            check_finite(value, f"the value of {signature(self, arrays)}", where)
        if not (tracked and record and rules):
            return wrapped(value)
        if 1 < len(rules) != tracked:  # nobody will ask the others, so let go of what they keep
            asked = [isinstance(x, Tensor) and x.requires_grad for x in args]
            asked += [False] * (len(rules) - len(args))  # arguments that were left out
            rules = [rule if wanted else None for rule, wanted in zip(rules, asked, strict=False)]
        if not self.complex:
            refuse_complex(self, value, args)
        node = Node(self, inputs, kwargs, rules, version, sys._getframe(1))
        if segment is not None:
            segment.record(node, args)
        return wrapped(value, node)

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


def detached(x: Array) -> Array:
    """`x` as a constant, for bodies: in a replay no gradient flows through it."""
    return x.detach() if isinstance(x, Tensor) else x


def wrapped(value: Any, node: Node | None = None) -> Any:
    """The Tensor (or tuple of them) of an op's value, made by `node`."""
    if type(value) is tuple:
        if node is None:
            return tuple(wrapped(v) for v in value)
        node.shape, node.dtype = tuple(v.shape for v in value), tuple(v.dtype for v in value)
        frame = sys._getframe(1)
        return tuple(wrapped(v, Node(PICK, (node,), {"i": i}, (), 0, frame)) for i, v in enumerate(value))
    out = Tensor.__new__(Tensor)
    out._data = value
    out.grad = None
    out.version = 0
    out.node = node
    out.requires_grad = node is not None
    if node is not None:
        node.shape, node.dtype, node.out = value.shape, value.dtype, weakref.ref(out)
    return out


def settled(value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """`value` as an array (NumPy's reductions give scalars) of the dtype that the Tensors ask for.

    NumPy 2 promotes float32 with float64 constants, 0-d arrays or integer arrays to float64 (NEP 50);
    a Tensor keeps its dtype. Tensors of ints and bools have none to keep: then float arrays beside them
    decide, and float32 is what is left. Complex values come in that precision: complex64 for float32."""
    if type(value) is tuple:
        return tuple(settled(v, args, kwargs) for v in value)
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


def refuse_complex(op: Op, value: Any, args: Sequence[Any]) -> None:
    """Raise TypeError when complex numbers meet an op whose gradient is not known to be right for them."""
    for x in args:
        if isinstance(x, Tensor) and x._data.dtype.kind == "c":
            break
    else:
        y = value[-1] if type(value) is tuple else value
        if y.dtype.kind != "c":
            return
    raise TypeError(
        f"`{op.name}` has no gradient for complex numbers: take np.abs, np.real or np.imag first, or, if it "
        "is your own op, see docs/arrays.md on complex numbers"
    )


# -- what errors say -------------------------------------------------------------------------------


def signature(op: Op, arrays: Sequence[Any]) -> str:
    """Like "matmul(float32 (2, 3), float32 (4, 5))"."""

    def describe(x: Any) -> str:
        array = hasattr(x, "dtype") and isinstance(getattr(x, "shape", None), tuple)  # not a dtype
        return f"{x.dtype} {x.shape}" if array else repr(x)[:40]

    return f"{op.name}({', '.join(describe(x) for x in arrays)})"


def explained(error: Exception, call: str, arrays: Sequence[Any]) -> Exception:
    """`error` once more, with the call that failed and its shapes."""
    devices = {device_of(x) for x in arrays if hasattr(x, "__array_function__")}
    if len(devices) > 1 and isinstance(error, TypeError):  # NumPy's ids for an array on a card are fine
        return TypeError(f"{call}: arrays on cpu and on cuda do not mix; move one with .to(device)")
    for x in arrays:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array_function__"):
            kind = f"{type(x).__module__}.{type(x).__qualname__}"
            return TypeError(f"{call}: NumPy cannot compute with a {kind}; Tensor(x) shares its memory")
    if type(error) in (TypeError, ValueError, IndexError, np.linalg.LinAlgError):
        return type(error)(f"{call}: {error}{keyword_hint(str(error))}")
    error.add_note(f"in {call}")
    return error


def check_finite(value: Any, what: str, where: str) -> None:
    """Raise AnomalyError, naming `what` and `where`, when `value` has a NaN or an infinity."""
    for array in value if type(value) is tuple else (value,):
        array = array._data if isinstance(array, Tensor) else array
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            kind = "NaN" if np.isnan(array[index]) else "infinity"
            raise AnomalyError(f"{kind} at index {index} in {what}, called at {where}")

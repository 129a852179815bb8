"""The tape: how ops are recorded for reverse-mode automatic differentiation.

Linnainmaa 1976; Griewank & Walther, *Evaluating Derivatives* (2nd ed. 2008), chapters 3, 5 and 6.

An **op** is a function that returns its value and, beside it, one small function per input, its **rule**,
which sends the gradient back. `@op` makes of it a function on Tensors: it computes on their arrays and,
when an input requires grad, puts a `Node` on the tape. A node holds the op, its inputs and its rules. So
the tape is a program, and the order in which nodes are made is a topological order: an op is newer than
all that it used. `tinygen/backward.py` visits the nodes in the reverse order.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinygen.callers import INTERNAL, caller_of, line_of
from tinygen.checks import better_error, check_finite, check_result, refuse_complex, signature, too_few_rules
from tinygen.memory import CLOCK, owner_of, share
from tinygen.modes import MODE
from tinygen.node import PICK, Node, Op
from tinygen.tensor import IMPLEMENTS, Array, Tensor

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])
FLOAT32 = np.dtype(np.float32)

# -- the parts of recording ------------------------------------------------------------------------


new_tensor, new_node = Tensor.__new__, Node.__new__  # looked up once: every op makes both


def to_tensor(value: Any) -> Any:
    """The Tensor (or tuple of them) of an op's value, off the tape."""
    if type(value) is tuple:
        return tuple(to_tensor(v) for v in value)
    out = new_tensor(Tensor)
    out._data = value
    out.grad = out.node = None
    out.version = 0
    out.requires_grad = False
    return out


def put_on_tape(
    op: Op, inputs: Sequence[Any], kwargs: dict[str, Any], rules: Any, value: Any, frame: FrameType
) -> Any:
    """The Tensor (or tuple of them) of `value`, with a new Node. `frame` is the caller of the op."""
    node = new_node(Node)
    node.op = op
    node.inputs = inputs
    node.kwargs = kwargs
    node.rules = rules
    node.seq = next(CLOCK)
    node.shared = ()
    while INTERNAL[frame.f_code.co_filename] and frame.f_back is not None:  # as `caller_of`, written out:
        frame = frame.f_back  # every op comes here
    node.code, node.offset = frame.f_code, frame.f_lasti
    if type(value) is tuple:
        node.shape, node.dtype = tuple(v.shape for v in value), tuple(v.dtype for v in value)
        node.out = None
        return tuple(put_on_tape(PICK, (node,), {"i": i}, (), v, frame) for i, v in enumerate(value))
    out = new_tensor(Tensor)
    out._data = value
    out.grad = None
    out.version = 0
    out.node = node
    out.requires_grad = True
    node.shape, node.dtype, node.out = value.shape, value.dtype, weakref.ref(out)
    return out


def with_tensor_dtype(value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """`value` as an array (NumPy's reductions give scalars) in the common dtype of the Tensors among `args`.

    NumPy 2 promotes float32 with float64 constants, 0-d arrays or integer arrays to float64 (NEP 50);
    a Tensor keeps its dtype. Where all Tensors are of ints or bools, the floating-point arrays among `args`
    decide, and without any it is float32. Complex values come in that precision: complex64 for float32."""
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
    """`share` each of `args` that is on the tape and has the same memory as `value`, which is not on it."""
    for y in value if type(value) is tuple else (value,):
        for x in args:
            if isinstance(x, Tensor) and x.node is not None and owner_of(x._data) is owner_of(y):
                share(x.node, x._data)


def tensors_by_position(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments with Tensors by position only, as `call` looks for them there."""
    bound = inspect.signature(op.body).bind(*args, **kwargs)
    bound.apply_defaults()
    names = ", ".join(k for k, x in bound.kwargs.items() if isinstance(x, Tensor))
    if names:
        raise TypeError(f"{op.name_for(args)}: {names} can be given by name only, so it cannot be a Tensor")
    return bound.args, bound.kwargs


def used_rules(op: Op, rules: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """`rules`, with None for inputs that need no gradient, so that the arrays in their rules can be freed.

    Raises TypeError when an input requires grad and there is no rule for it."""
    used: list[Any] = [None] * len(rules)
    for i, x in enumerate(args):
        if isinstance(x, Tensor) and x.requires_grad:
            if i >= len(rules):
                raise TypeError(too_few_rules(op, len(rules), args))
            used[i] = rules[i]
    return used


# -- @op --------------------------------------------------------------------------------------------


def op(body: Callable[P, Any]) -> Callable[P, Tensor]:
    """Make a differentiable function of `body`.

    `body` gets arrays and returns a tuple, `value, rule, rule, ...`: a rule takes the gradient of the value
    and returns the gradient of one positional argument, in order (None for an argument that has none; at the
    end, None may be left out). One rule alone may be **joint**: it returns the gradients of all
    positional arguments as a tuple; if it returns anything else, that is the first argument's. An op with
    several outputs has a tuple of them for its value, and one joint rule, which takes a tuple of their
    gradients. An op that has no gradient returns `value,`.

    Rules need not undo broadcasting or cast: `backward` sums each gradient over broadcast axes and casts it
    to its input's dtype (`unbroadcast`). For gradients of gradients the body and its rules run once more,
    on Tensors: so they are written in functions that take Tensors too (NumPy's, operators, other ops).
    Where a body must write in place, it says `y = f(x) if isinstance(x, Tensor) else f_of_array(x)`: on
    Tensors the op calls itself, and is recorded. A value that the body closes over is a constant: Tensors
    have to be arguments.

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
            args, kwargs = tensors_by_position(self, args, kwargs)
        tensor = None
        tracked = 0  # how many inputs require grad
        single = True  # whether all Tensors are float32
        arrays, inputs = [], []
        for x in args:
            if isinstance(x, Tensor):
                tensor = x
                tracked += x.requires_grad
                array = x._data
                single = single and array.dtype is FLOAT32
                arrays.append(array)
                inputs.append(x.node or x)
            else:
                arrays.append(x)
                inputs.append(x)
        if tensor is None:  # called with arrays only: returns an array
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
            single = False
        recording, anomaly, segment, _, _ = MODE.get()
        if anomaly:
            where = line_of(*caller_of(sys._getframe(1)))
            check_finite(value, f"the value of {signature(self, arrays)}", where)
        if not (tracked and recording and rules):
            if tracked and (type(value) is tuple or value.base is not None or value is arrays[0]):
                share_views(args, value)
            return to_tensor(value)
        if len(rules) > 1 and len(rules) != tracked:  # a joint rule is for all inputs
            rules = used_rules(self, rules, args)
        if not (single or self.complex):
            refuse_complex(self, value, args)
        out = put_on_tape(self, inputs, kwargs, rules, value, sys._getframe(1))
        if segment is not None:
            segment.record(out[0] if type(out) is tuple else out, args)
        return out

    call.op = self  # type: ignore[attr-defined]
    return call


def show_as(name: str | Callable[[Any], str]) -> Callable[[F], F]:
    """Decorate an op whose own name no user calls: errors, `graph` and `gradcheck` show `name` instead.

    `name` may depend on the number of axes, so that `convolution` is shown as conv1d or conv2d: then it is a
    function of something that has the `shape` of the op's first argument, or of its value."""

    def register(function: F) -> F:
        function.op.shown = name  # type: ignore[attr-defined]
        return function

    return register


def implements(
    *functions: Callable[..., Any],
) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """Let NumPy's `functions` mean this one when they are called with Tensors."""

    def register(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        IMPLEMENTS.update(dict.fromkeys(functions, function))
        return function

    return register


def detach(x: Array) -> Array:
    """`x` as a constant, for the body of an op: in a replay no gradient flows through it."""
    return x.detach() if isinstance(x, Tensor) else x


def in_replay(*xs: Any) -> bool:
    """Whether the body of an op runs on Tensors, as it does when the program is run again for higher orders.

    Some bodies compute their value in a way that cannot be differentiated as it is: NumPy writes in place, or
    the formula has a kink where the function has none. In a replay such a body calls its own op, which is
    recorded as one step with its rule:

        y = erf(x) if in_replay(x) else erf_of_array(x)
    """
    return any(isinstance(x, Tensor) for x in xs)

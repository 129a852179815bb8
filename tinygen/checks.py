"""Checks, and the texts of their errors: the result and the arguments of an op, the graph before
`backward`, and NaNs under `anomaly()`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.arrays import device_of
from tinygen.memory import last_write
from tinygen.node import Node, Op
from tinygen.tensor import Tensor
from tinygen.words import keyword_hint

# -- the result of an op ---------------------------------------------------------------------------


def check_result(op: Op, result: Any, args: Sequence[Any]) -> None:
    """Raise TypeError unless `result` is `value, rule, rule, ...`, as `op` has it."""
    name = op.name_for(args)
    needed = (
        f"`{name}` is an @op: it returns a tuple `value, rule, ...`, for each input one small function "
        "that sends the gradient back (`value,` if there are none)"
    )
    if type(result) is not tuple or not result:
        raise TypeError(f"{needed}. This one returned {kind_of(result)}")
    value, *rules = result
    for y in value if type(value) is tuple else (value,):
        if isinstance(y, Tensor):
            raise TypeError(
                f"{needed}. The value is a Tensor: one that the body closes over must be an argument"
            )
        if not (hasattr(y, "dtype") or isinstance(y, bool | int | float | complex)):
            raise TypeError(f"{needed}. The value is {kind_of(y)}, where an array or a number is needed")
    for i, rule in enumerate(rules):
        if not (rule is None or callable(rule)):
            raise TypeError(f"{needed}. Rule {i} is {kind_of(rule)}: a function is needed, or None")
    parameters = inspect.signature(op.body).parameters.values()
    inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = len(args) if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(inputs)
    if len(rules) > most:
        raise TypeError(f"{needed}. There are {len(rules)} rules for {most} inputs")
    if len(rules) > 1 and any(isinstance(x, Tensor) and x.requires_grad for x in args[len(rules) :]):
        raise TypeError(too_few_rules(op, len(rules), args))
    op.kind = tuple


COMPLEX = {np.dtype(kind) for kind in (np.complex64, np.complex128, np.clongdouble)}


def refuse_complex(op: Op, value: Any, args: Sequence[Any]) -> None:
    """Raise TypeError for complex numbers, in an op whose gradient is not known to be right for them."""
    for x in args:
        if isinstance(x, Tensor) and x._data.dtype in COMPLEX:
            break
    else:
        if (value[-1] if type(value) is tuple else value).dtype not in COMPLEX:
            return
    name = op.name_for(args)
    raise TypeError(
        f"`{name}` has no gradient for complex numbers: take np.abs, np.real or np.imag first, or, if it "
        "is your own op, see docs/arrays.md on complex numbers"
    )


def too_few_rules(op: Op, rules: int, args: Sequence[Any]) -> str:
    wants = [isinstance(x, Tensor) and x.requires_grad for x in args]
    name, missing = op.name_for(args), wants.index(True, rules)
    return (
        f"`{name}` has no gradient for its argument {missing}: it returned {rules} rules. Return one "
        "more, or one joint rule for all inputs; or detach() the argument"
    )


def kind_of(x: Any) -> str:
    """Like "a float64 array of shape (2, 3)", "a function"."""
    if isinstance(x, np.ndarray):
        return f"a {x.dtype} array of shape {x.shape}"
    return "an empty tuple" if x == () else f"a {type(x).__name__}"


# -- the graph -------------------------------------------------------------------------------------


def check_graph(order: Sequence[Node]) -> None:
    """Raise where gradients through the nodes in `order` would be missing or wrong.

    RuntimeError when a node was freed by an earlier backward, or a tensor has been written into since an op
    used it; TypeError when a leaf of integers is to have a gradient."""
    written: dict[Tensor, int] = {}  # leaf or constant -> time of the last write
    for node in order:
        if node.rules is None:
            raise RuntimeError(
                f"backward went through `{node.name}` ({node.where}) before, and that freed the graph. "
                "Compute the value again, or pass retain_graph=True the first time"
            )
        for x in node.inputs:
            if type(x) is Node or not isinstance(x, Tensor):
                continue
            last = written.get(x)
            if last is None:
                last = written[x] = max(x.version, last_write(x._data))
                check_leaf_dtype(x, node)
            if last > node.seq:
                raise RuntimeError(
                    f"an input of `{node.name}` ({node.where}) was written into between forward and "
                    "backward: call backward() before the update, or compute the value again"
                )
        if node.shared and any(memory.written > node.seq for memory in node.shared):
            raise RuntimeError(
                f"the value of `{node.name}` ({node.where}) was written into between forward and "
                "backward, by way of a detached tensor or a view, which share its memory: write into a copy"
            )


def check_leaf_dtype(x: Tensor, node: Node) -> None:
    if x.requires_grad and x.dtype.kind not in "fc":
        raise TypeError(
            f"a leaf of `{node.name}` ({node.where}) is of {x.dtype}, which has no gradient, "
            "but it has requires_grad: make it with dtype=np.float32"
        )


# -- texts of errors -------------------------------------------------------------------------------


def signature(op: Op, arrays: Sequence[Any]) -> str:
    """Like "matmul(float32 (2, 3), float32 (4, 5))"."""

    def describe(x: Any) -> str:
        array = hasattr(x, "dtype") and isinstance(getattr(x, "shape", None), tuple)  # not a dtype
        return f"{x.dtype} {x.shape}" if array else repr(x)[:40]

    return f"{op.name_for(arrays)}({', '.join(describe(x) for x in arrays)})"


def better_error(error: Exception, call: str, arrays: Sequence[Any]) -> tuple[type[Exception], str] | None:
    """The error to raise instead of `error`, which names the call that failed and its shapes; None when
    `error` itself is to be raised, with a note."""
    devices = {device_of(x) for x in arrays if hasattr(x, "__array_function__")}
    if len(devices) > 1 and isinstance(error, TypeError):  # ids in NumPy for an array on a GPU are fine
        return TypeError, (f"{call}: arrays on cpu and on cuda do not mix; move one with .to(device)")
    for x in arrays:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array_function__"):
            kind = f"{type(x).__module__}.{type(x).__qualname__}"
            return TypeError, (f"{call}: NumPy cannot compute with a {kind}; Tensor(x) shares its memory")
    if type(error) in (TypeError, ValueError, IndexError, np.linalg.LinAlgError):
        return type(error), f"{call}: {error}{keyword_hint(str(error))}"
    error.add_note(f"in {call}")
    return None


# -- NaNs ------------------------------------------------------------------------------------------


class AnomalyError(ArithmeticError):
    """A NaN or an infinity, found under `anomaly()` at the op that made it."""


def check_finite(value: Any, what: str, where: str) -> None:
    """Raise AnomalyError, naming `what` and `where`, when `value` has a NaN or an infinity."""
    for array in value if type(value) is tuple else (value,):
        array = array._data if isinstance(array, Tensor) else array
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            kind = "NaN" if np.isnan(array[index]) else "infinity"
            raise AnomalyError(f"{kind} at index {index} in {what}, called at {where}")

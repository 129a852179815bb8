"""NumPy's functions on Tensors: compositions of functions that have gradients, or functions that return
constants."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinygen.arrays import device_of, to_device
from tinygen.tape import with_tensor_dtype
from tinygen.tensor import IMPLEMENTS, Tensor
from tinygen.types import Axis, TensorLike
from tinygen.words import keyword_hint

P = ParamSpec("P")
R = TypeVar("R")


def composition(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`@composition("vstack")`: np.vstack calls the function below for Tensors. It is written in NumPy's
    functions, so it needs no rule.
    Names that this NumPy does not have are skipped. Errors begin with the name that was called."""

    def register(body: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(body)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return body(*args, **kwargs)
            except (TypeError, ValueError, IndexError) as error:
                if type(error) in (TypeError, ValueError, IndexError):
                    text = str(error).removeprefix(f"{body.__name__}() ").removeprefix(f"{body.__name__}: ")
                    named = text if text.startswith(f"np.{names[0]}") else f"np.{names[0]}: {text}"
                    error.args = (named + keyword_hint(named),)
                raise

        IMPLEMENTS.update({getattr(np, name): call for name in names if hasattr(np, name)})
        return call

    return register


# -- constants -------------------------------------------------------------------------------------


def register_constants(*names: str) -> None:
    """Register functions that have no derivative, as np.argsort: for Tensors they return constants."""
    for name in names:
        if hasattr(np, name):
            IMPLEMENTS[getattr(np, name)] = call_on_arrays(getattr(np, name))


def call_on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of the Tensors' arrays; the arrays among its results as Tensors off the tape."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return constants(function(*arrays_in(args), **arrays_in(kwargs)), args)

    return call


def arrays_in(x: TensorLike) -> Any:
    """x with the arrays of the Tensors in it, also in lists, tuples and dicts."""
    if isinstance(x, Tensor):
        return x._data
    if type(x) in (list, tuple):
        return type(x)(map(arrays_in, x))
    return {key: arrays_in(value) for key, value in x.items()} if type(x) is dict else x


def constants(value: Any, args: tuple[Any, ...]) -> Any:
    """`value` with Tensors in place of arrays and NumPy's scalars, in the common dtype of the Tensors in
    `args`."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(constants(v, args) for v in value))
    if type(value) in (list, tuple):
        return type(value)(constants(v, args) for v in value)
    if isinstance(value, (str, bytes, bool, int, float, np.dtype, type(None))) and not isinstance(
        value, np.generic
    ):
        return value
    if not isinstance(value, np.generic) and not hasattr(value, "__array_function__"):
        return value
    return Tensor(with_tensor_dtype(value, args, {}))


# -- arguments -------------------------------------------------------------------------------------


def as_operand(x: TensorLike, like: Any = None) -> Any:
    """`x` as it is if it is an array or a Tensor, else (a number, a list) as an array on the device of the
    Tensor `like`. Tensors in lists are stacked."""
    if hasattr(x, "__array_function__"):
        return x
    if isinstance(x, (list, tuple)) and any(has_tensor(item) for item in x):
        return np.stack([as_operand(item) for item in x])
    return np.asarray(x, like=like._data) if isinstance(like, Tensor) else np.asarray(x)


def operands(*xs: TensorLike) -> list[Any]:
    """All of them as arrays or Tensors, on one device."""
    first = next((x for x in xs if isinstance(x, Tensor)), None)
    return [as_operand(x, first) for x in xs]


def numbers_like(x: TensorLike, values: Any) -> Any:
    """The constants `values` (a NumPy array) on x's device, in x's dtype if it is a floating-point one."""
    dtype = x.dtype if x.dtype.kind in "fc" else None
    return np.asarray(values, dtype=dtype, like=x._data if isinstance(x, Tensor) else None)


def on_device_of(x: TensorLike, values: TensorLike) -> TensorLike:
    """`values` on x's device: arrays of NumPy's are copied to a GPU if x is there."""
    array, like = arrays_in(values), arrays_in(x)
    return values if device_of(array) == device_of(like) else np.asarray(array, like=like)


def to_cpu(x: TensorLike) -> Any:
    """The values of `x` as NumPy's array."""
    x = arrays_in(x)
    return to_device(x, "cpu") if hasattr(x, "__array_function__") else np.asarray(x)


def has_tensor(x: TensorLike) -> bool:
    return isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and any(map(has_tensor, x)))


def constant(x: TensorLike, what: str) -> Any:
    """The array of `x`, an argument without a derivative. Raises TypeError where its graph would be lost."""
    if isinstance(x, Tensor) and x.requires_grad:
        raise TypeError(f"there is no derivative by {what}: pass a constant, as {what}.detach()")
    return arrays_in(x)


def refuse_out(out: Any) -> None:
    if out is not None:
        raise TypeError("out= would write into an array, and the graph would be lost: use what is returned")


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` (None: all axes; an int or a tuple) as indices from 0."""
    if axis is None:
        return tuple(range(ndim))
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)

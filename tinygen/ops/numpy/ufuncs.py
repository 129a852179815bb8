"""The methods of ufuncs: np.add.reduce, np.multiply.accumulate, np.subtract.outer, ... on Tensors.

`reduce` and `accumulate` apply the ufunc from left to right; the common ones have an op of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from tinygen.ops.compose import arrays_in, as_operand, axes_of, refuse_out
from tinygen.ops.reduce import logsumexp
from tinygen.tape import implements
from tinygen.types import Axis, DType, TensorLike

REDUCED: dict[np.ufunc, Callable[..., Any]] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}
ACCUMULATED: dict[np.ufunc, Callable[..., Any]] = {np.add: np.cumsum, np.multiply: np.cumprod}


@implements(np.ufunc)
def prepare_ufunc(*inputs: Any, **kwargs: Any) -> Any:
    """The inputs and keywords of a ufunc's call. `dtype` casts the inputs. where=True is dropped, since it is
    the default; `casting`, `order` and `subok` are dropped, since they change no value."""
    dtype = kwargs.pop("dtype", None)
    rest = {key: value for key, value in kwargs.items() if key not in ("casting", "order", "subok")}
    if rest.get("where") is True:
        del rest["where"]
    return inputs if dtype is None else [as_operand(x).astype(dtype) for x in inputs], rest


@implements(np.ufunc.reduce)
def reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Axis = 0,
    dtype: DType = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> TensorLike:
    refuse_out(out)
    array = array if dtype is None else array.astype(dtype)
    rest = {
        key: value for key, value in {"initial": initial, "where": where}.items() if value not in (None, True)
    }
    if ufunc in REDUCED:
        return REDUCED[ufunc](array, axis=axis, keepdims=bool(keepdims), **rest)
    if ufunc is np.logaddexp and not rest:
        return logsumexp(array, axis, keepdims=bool(keepdims))
    if rest:
        raise TypeError(
            f"np.{ufunc.__name__}.reduce takes no {next(iter(rest))}= here: choose with np.where before"
        )
    y = array
    for i in sorted(axes_of(axis, array.ndim), reverse=True):
        if y.shape[i] == 0:
            raise ValueError(f"np.{ufunc.__name__}.reduce: axis {i} of shape {array.shape} has no entries")
        last = fold_along(ufunc, y, i)[-1]
        y = np.expand_dims(last, i) if keepdims else last
    return y


def fold_along(ufunc: np.ufunc, array: Any, axis: int) -> list[Any]:
    """x0, f(x0, x1), f(f(x0, x1), x2), ... along an axis."""
    rows = np.moveaxis(array, axis, 0)
    results = [rows[0]]
    for i in range(1, len(rows)):
        results.append(ufunc(results[-1], rows[i]))
    return results


@implements(np.ufunc.accumulate)
def accumulate(
    ufunc: np.ufunc, array: Any, axis: int = 0, dtype: DType = None, out: Any = None
) -> TensorLike:
    refuse_out(out)
    array = array if dtype is None else array.astype(dtype)
    if ufunc in ACCUMULATED:
        return ACCUMULATED[ufunc](array, axis=axis)
    if array.shape[axis] == 0:
        return array
    return np.stack(fold_along(ufunc, array, axis), axis=axis)


@implements(np.ufunc.outer)
def outer(ufunc: np.ufunc, a: TensorLike, b: TensorLike, /, **kwargs: Any) -> TensorLike:
    """The ufunc of every entry of a with every entry of b."""
    a, b = as_operand(a), as_operand(b)
    return ufunc(np.reshape(a, a.shape + (1,) * b.ndim), b, **kwargs)


@implements(np.ufunc.reduceat)
def reduceat(
    ufunc: np.ufunc, array: Any, indices: Any, axis: int = 0, dtype: DType = None, out: Any = None
) -> TensorLike:
    """`reduce` of each slice from one index to the next; if the next index is not larger, the entry alone."""
    refuse_out(out)
    array = array if dtype is None else array.astype(dtype)
    starts = np.asarray(arrays_in(indices)).tolist()
    rows = np.moveaxis(array, axis, 0)
    stops = [*starts[1:], len(rows)]
    parts = [rows[a] if b <= a else reduce(ufunc, rows[a:b]) for a, b in zip(starts, stops, strict=True)]
    return np.stack(parts, axis=axis)


@implements(np.ufunc.at)
def ufunc_at(ufunc: np.ufunc, *args: Any) -> NoReturn:
    raise TypeError(
        f"np.{ufunc.__name__}.at writes into an array, and the graph would be lost: "
        "use tinygen.ops.scatter_add, or np.where"
    )

"""Shapes and diagonals: axes flipped, added and moved; diagonals read and written."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.ops.compose import as_operand, axes_of, composition, refuse_out
from tinygen.ops.index import axis_from_0, scatter_add
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import DType, TensorLike, ValueAndRules

# -- axes ------------------------------------------------------------------------------------------


@composition("flipud")
def flipud(m: TensorLike) -> TensorLike:
    return np.flip(m, 0)


@composition("fliplr")
def fliplr(m: TensorLike) -> TensorLike:
    return np.flip(m, 1)


@composition("rot90")
def rot90(m: TensorLike, k: int = 1, axes: Any = (0, 1)) -> TensorLike:
    """By k quarter turns, from the first of the axes towards the second."""
    i, j = axes_of(tuple(axes), m.ndim)
    k = int(k) % 4
    m = np.flip(m, {1: (j,), 2: (i, j), 3: (i,)}[k]) if k else m
    return np.swapaxes(m, i, j) if k % 2 else m


@composition("rollaxis")
def rollaxis(a: Array, axis: int, start: int = 0) -> TensorLike:
    axis = axis_from_0(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    return np.moveaxis(a, axis, start - 1 if start > axis else start)


@composition("matrix_transpose")
def matrix_transpose(x: TensorLike, /) -> TensorLike:
    if x.ndim < 2:
        raise ValueError(f"a matrix is needed, got shape {x.shape}")
    return np.swapaxes(x, -1, -2)


def add_axes(ndim: int, *arys: Any) -> TensorLike | tuple[TensorLike, ...]:
    results = []
    for x in map(as_operand, arys):
        if ndim == 3 and x.ndim in (1, 2):
            results.append(x[None, :, None] if x.ndim == 1 else x[:, :, None])
        else:
            results.append(np.reshape(x, (1,) * (ndim - x.ndim) + x.shape) if x.ndim < ndim else x)
    return results[0] if len(results) == 1 else tuple(results)


@composition("atleast_1d")
def atleast_1d(*arys: Any) -> TensorLike | tuple[TensorLike, ...]:
    return add_axes(1, *arys)


@composition("atleast_2d")
def atleast_2d(*arys: Any) -> TensorLike | tuple[TensorLike, ...]:
    return add_axes(2, *arys)


@composition("atleast_3d")
def atleast_3d(*arys: Any) -> TensorLike | tuple[TensorLike, ...]:
    """(n,) becomes (1, n, 1), (n, m) becomes (n, m, 1)."""
    return add_axes(3, *arys)


@composition("broadcast_arrays")
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[TensorLike, ...]:
    xs = [as_operand(x) for x in args]
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return tuple(np.broadcast_to(x, shape) for x in xs)


@composition("meshgrid")
def meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[TensorLike, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f'indexing must be "xy" or "ij", got {indexing!r}')
    n = len(xi)
    grids = [np.reshape(as_operand(x), (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        grids = [np.swapaxes(x, 0, 1) for x in grids]
    return tuple(grids) if sparse else tuple(np.broadcast_arrays(*grids))


# -- diagonals -------------------------------------------------------------------------------------


@composition("diagonal")
def diagonal(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> TensorLike:
    """The entries [..., i, i + offset] of two axes, as the last axis of the rest."""
    if a.ndim < 2:
        raise ValueError(
            f"an array with two axes is needed, got shape {a.shape}; np.diag makes a matrix of a vector"
        )
    x = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = diagonal_index(x.shape[-2], x.shape[-1], offset)
    return x[..., rows, columns]


def diagonal_index(n: int, m: int, offset: int) -> tuple[Any, Any]:
    i = np.arange(max(min(n + min(offset, 0), m - max(offset, 0)), 0))
    return i - min(offset, 0), i + max(offset, 0)


@composition("trace")
def trace(
    a: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DType = None, out: Any = None
) -> TensorLike:
    """The sum of a diagonal."""
    refuse_out(out)
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@composition("diag")
def diag(v: TensorLike, k: int = 0) -> TensorLike:
    """The k-th diagonal of a matrix; of a vector, the matrix with it on the k-th diagonal."""
    if v.ndim == 1:
        n = len(v) + abs(k)
        return scatter_add(v, diagonal_index(n, n, k), (n, n))
    if v.ndim != 2:
        raise ValueError(f"a vector or a matrix is needed, got shape {v.shape}")
    return np.diagonal(v, k)


@composition("diagflat")
def diagflat(v: TensorLike, k: int = 0) -> TensorLike:
    return diag(np.ravel(v), k)


@composition("vander")
def vander(x: TensorLike, N: int | None = None, increasing: bool = False) -> TensorLike:
    """Columns of powers: x**(N-1), ..., x, 1."""
    if x.ndim != 1:
        raise ValueError(f"a vector is needed, got shape {x.shape}")
    columns = [np.ones_like(x)]
    for _ in range(1, len(x) if N is None else N):
        columns.append(columns[-1] * x)
    columns = columns[: len(x) if N is None else N]
    if not columns:
        return np.zeros_like(x, shape=(len(x), 0))
    return np.stack(columns if increasing else columns[::-1], axis=1)


# -- new arrays ------------------------------------------------------------------------------------


@show_as("copy")
@op
def copy_array(x: Array) -> ValueAndRules:
    return x.copy(), lambda g: g


@composition("copy")
def copy(a: TensorLike, order: str = "K", subok: bool = False) -> TensorLike:
    """The same values in memory of their own, still on the tape."""
    return copy_array(a)


@composition("full_like")
def full_like(
    a: TensorLike,
    fill_value: Any,
    dtype: DType = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> TensorLike:
    """`fill_value` everywhere; a Tensor there gets the sum of the gradient."""
    if not isinstance(fill_value, Tensor):
        return Tensor(
            np.full_like(a._data if isinstance(a, Tensor) else a, fill_value, dtype=dtype, shape=shape)
        )
    filled = np.broadcast_to(fill_value, np.shape(a) if shape is None else shape)
    return filled.astype(a.dtype if dtype is None else dtype)


@composition("astype")
def astype(x: TensorLike, dtype: DType, /, *, copy: bool = True, device: Any = None) -> TensorLike:
    from tinygen.ops.elementwise import astype as cast

    return cast(x, dtype=dtype)

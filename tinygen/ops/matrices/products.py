"""Products of vectors and matrices, and np.linalg's names for what has two."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.tape import implements


def conj(x: Any) -> Any:
    return np.conj(x) if getattr(x, "dtype", np.dtype(float)).kind == "c" else x


@implements(np.vecdot, np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Σ conj(x1) x2 along an axis."""
    return (conj(x1) * x2).sum(axis=axis)


@implements(np.matvec)
def matvec(x1: Any, x2: Any, /) -> Any:
    """(..., m, n) times (..., n): (..., m)."""
    return (x1 @ x2[..., None])[..., 0]


@implements(np.vecmat)
def vecmat(x1: Any, x2: Any, /) -> Any:
    """conj(x1) (..., m) times (..., m, n): (..., n)."""
    return (conj(x1)[..., None, :] @ x2)[..., 0, :]


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    """Σ conj(a) b over all entries."""
    return np.reshape(conj(a), (-1,)) @ np.reshape(b, (-1,))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """The sum over the last axis of both: a.shape[:-1] + b.shape[:-1]."""
    return a * b if 0 in (np.ndim(a), np.ndim(b)) else np.tensordot(a, b, ((-1,), (-1,)))


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    """Every entry of a times all of b, as blocks."""
    n = max(np.ndim(a), np.ndim(b))
    left = (1,) * (n - np.ndim(a)) + np.shape(a)
    right = (1,) * (n - np.ndim(b)) + np.shape(b)
    apart = np.reshape(a, [k for m in left for k in (m, 1)]) * np.reshape(
        b, [k for m in right for k in (1, m)]
    )
    return np.reshape(apart, [i * j for i, j in zip(left, right, strict=True)])


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The vector orthogonal to both, of vectors of 3 entries."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross is for vectors of 3 entries, got {a.shape[-1]} and {b.shape[-1]}")
    turned, back = [1, 2, 0], [2, 0, 1]
    return np.moveaxis(a[..., turned] * b[..., back] - a[..., back] * b[..., turned], -1, axisc)


@implements(np.linalg.cross)
def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return cross(x1, x2, axis=axis)


@implements(np.linalg.outer)
def outer(x1: Any, x2: Any, /) -> Any:
    """Of vectors only: every entry of x1 times every entry of x2."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ValueError(
            f"linalg.outer is for vectors, got shapes {np.shape(x1)} and {np.shape(x2)}; see np.outer"
        )
    return np.outer(x1, x2)


@implements(np.linalg.matmul)
def matmul(x1: Any, x2: Any, /) -> Any:
    return np.matmul(x1, x2)


@implements(np.linalg.tensordot)
def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    return np.tensordot(x1, x2, axes)


@implements(np.linalg.matrix_transpose, np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose needs at least 2 axes, got shape {x.shape}")
    return np.swapaxes(x, -1, -2)


@implements(np.linalg.diagonal)
def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of the matrices in the last two axes."""
    m, n = x.shape[-2:]
    k = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    return x[..., np.arange(k) - min(offset, 0), np.arange(k) + max(offset, 0)]


@implements(np.linalg.trace)
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sums of the diagonals of the matrices in the last two axes."""
    y = diagonal(x, offset=offset).sum(axis=-1)
    return y if dtype is None else y.astype(dtype)

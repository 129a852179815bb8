"""Functions of np.linalg that NumPy has elsewhere too: products, diagonals and transposes of the last two
axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.tape import implements
from tinygen.types import DType, TensorLike


@implements(np.linalg.cross)
def cross(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> Any:
    if np.shape(x1)[axis] != 3 or np.shape(x2)[axis] != 3:
        raise ValueError(
            f"linalg.cross is for vectors of 3 entries, got shapes {np.shape(x1)} and {np.shape(x2)}"
        )
    return np.cross(x1, x2, axis=axis)


@implements(np.linalg.vecdot)
def vecdot(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> Any:
    return np.vecdot(x1, x2, axis=axis)  # type: ignore[call-overload]


@implements(np.linalg.outer)
def outer(x1: TensorLike, x2: TensorLike, /) -> Any:
    """Of vectors only: every entry of x1 times every entry of x2."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        shapes = f"{np.shape(x1)} and {np.shape(x2)}"
        raise ValueError(f"linalg.outer is for vectors, got shapes {shapes}; see np.outer")
    return np.outer(x1, x2)


@implements(np.linalg.matmul)
def matmul(x1: TensorLike, x2: TensorLike, /) -> Any:
    return np.matmul(x1, x2)


@implements(np.linalg.tensordot)
def tensordot(x1: TensorLike, x2: TensorLike, /, *, axes: Any = 2) -> Any:
    return np.tensordot(x1, x2, axes)


@implements(np.linalg.matrix_transpose)
def matrix_transpose(x: TensorLike, /) -> Any:
    return np.matrix_transpose(x)


@implements(np.linalg.diagonal)
def diagonal(x: TensorLike, /, *, offset: int = 0) -> Any:
    return np.diagonal(x, offset, -2, -1)


@implements(np.linalg.trace)
def trace(x: TensorLike, /, *, offset: int = 0, dtype: DType = None) -> Any:
    return np.trace(x, offset, -2, -1, dtype)

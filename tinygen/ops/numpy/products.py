"""Products beside `@`: inner, vdot, kron, cross, and dot of arrays with more than two axes."""

from __future__ import annotations

import numpy as np

from tinygen.ops.compose import as_operand, composition
from tinygen.types import Array, TensorLike


@composition("inner")
def inner(a: TensorLike, b: TensorLike, /) -> TensorLike:
    """The sum over the last axes of both."""
    if 0 in (np.ndim(a), np.ndim(b)):
        return a * b
    a, b = as_operand(a), as_operand(b)
    return np.tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


@composition("vdot")
def vdot(a: TensorLike, b: TensorLike, /) -> TensorLike:
    """The sum of the products of all entries, with the conjugates of a's."""
    a, b = np.ravel(conjugate(a)), np.ravel(as_operand(b))
    if a.shape != b.shape:
        raise ValueError(f"as many entries are needed on both sides, got {a.size} and {b.size}")
    return np.sum(a * b)


def conjugate(x: TensorLike) -> Array:
    x = as_operand(x)
    return np.conj(x) if x.dtype.kind == "c" else x


@composition("kron")
def kron(a: TensorLike, b: TensorLike) -> TensorLike:
    """Every entry of a times the whole b, block by block."""
    a, b = as_operand(a), as_operand(b)
    n = max(a.ndim, b.ndim)
    a = np.reshape(a, (1,) * (n - a.ndim) + a.shape)
    b = np.reshape(b, (1,) * (n - b.ndim) + b.shape)
    pairs = np.reshape(a, [s for i in a.shape for s in (i, 1)]) * np.reshape(
        b, [s for i in b.shape for s in (1, i)]
    )
    return np.reshape(pairs, [i * j for i, j in zip(a.shape, b.shape, strict=True)])


@composition("cross")
def cross(
    a: TensorLike, b: TensorLike, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> TensorLike:
    """The vector product of vectors with 3 entries along an axis; of 2 entries, the third is 0."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_operand(a), axisa, -1), np.moveaxis(as_operand(b), axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"vectors with 2 or 3 entries are needed, got {a.shape[-1]} and {b.shape[-1]}")
    x, y = a[..., 0] * b[..., 1], a[..., 1] * b[..., 0]
    if a.shape[-1] == b.shape[-1] == 2:
        return x - y
    a2, b2 = (v[..., 2] if v.shape[-1] == 3 else v[..., 0] * 0 for v in (a, b))
    parts = [a[..., 1] * b2 - a2 * b[..., 1], a2 * b[..., 0] - a[..., 0] * b2, x - y]
    return np.moveaxis(np.stack(np.broadcast_arrays(*parts), axis=-1), -1, axisc)


@composition("vecdot")
def vecdot(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> TensorLike:
    x1, x2 = np.moveaxis(conjugate(x1), axis, -1), np.moveaxis(as_operand(x2), axis, -1)
    if x1.shape[-1] != x2.shape[-1]:
        raise ValueError(f"vectors of one length are needed, got {x1.shape[-1]} and {x2.shape[-1]}")
    return np.sum(x1 * x2, axis=-1)


@composition("matvec")
def matvec(x1: TensorLike, x2: TensorLike, /) -> TensorLike:
    return np.matmul(as_operand(x1), as_operand(x2)[..., None])[..., 0]


@composition("vecmat")
def vecmat(x1: TensorLike, x2: TensorLike, /) -> TensorLike:
    return np.matmul(conjugate(x1)[..., None, :], as_operand(x2))[..., 0, :]

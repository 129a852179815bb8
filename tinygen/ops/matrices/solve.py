"""Inverses, linear systems, determinants, and least squares."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.arrays import device_of
from tinygen.tape import detach, implements, op
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike, ValueAndRules

# -- the notation of the formulas ------------------------------------------------------------------


def swap_last(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def conj(x: Array) -> Array:
    return np.conj(x) if x.dtype.kind == "c" else x


def H(x: Array) -> Array:
    """The conjugate transpose."""
    return conj(x.swapaxes(-1, -2))


def textbook(formula: Callable[..., Array]) -> Callable[[Any], Array]:
    """The rule for a formula that takes and returns gradients in the form of textbooks, one for each
    output."""

    def rule(g: Any) -> Array:
        return conj(formula(*(conj(each) for each in (g if type(g) is tuple else (g,)))))

    return rule


@functools.cache
def result_of(function: Callable[..., Any]) -> Any:
    """NumPy's named tuple for the results of a function, such as EighResult."""
    return type(function(np.eye(1)))


def column(x: TensorLike) -> Any:
    """(..., n) as (..., n, 1)."""
    return x[..., None]


# -- square matrices -------------------------------------------------------------------------------


@implements(np.linalg.inv)
@op
def inv(a: Array) -> ValueAndRules:
    """d(A⁻¹) = -A⁻¹ dA A⁻¹. Raises LinAlgError for a singular matrix."""
    y = np.linalg.inv(a)
    return y, lambda g: -(swap_last(y) @ g @ swap_last(y))


@implements(np.linalg.solve)
def linalg_solve(a: TensorLike, b: TensorLike) -> Any:
    """The x of a x = b for a (..., n, n) and b (n,) or (..., n, k). Raises LinAlgError for a singular a."""
    return solve(a, column(b))[..., 0] if np.ndim(b) == 1 else solve(a, b)


@op
def solve(a: Array, b: Array) -> ValueAndRules:
    x = np.linalg.solve(a, b)

    def da(g: Array) -> Array:
        return -(np.linalg.solve(swap_last(a), g) @ swap_last(x))

    return x, da, lambda g: np.linalg.solve(swap_last(a), g)


@implements(np.linalg.det)
@op
def det(a: Array) -> ValueAndRules:
    """The determinant. Its gradient is the matrix of cofactors, det(A) A⁻ᵀ. For a singular matrix the
    cofactors are determinants of minors (on a GPU they are NaN: to find out that a matrix is singular would
    synchronize)."""
    y = np.linalg.det(a)

    def da(g: Array) -> Array:
        cofactors = minors(a) if is_singular(y) else y[..., None, None] * swap_last(np.linalg.inv(a))
        return g[..., None, None] * cofactors

    return y, da


def is_singular(determinants: Array) -> bool:
    d = determinants._data if isinstance(determinants, Tensor) else determinants
    return (isinstance(d, np.generic) or device_of(d) == "cpu") and not d.all()


def minors(a: Array) -> Array:
    """(..., n, n) At i, j the determinant of A without row i and column j, with the sign of the cofactor."""
    n = a.shape[-1]
    rest = np.array([[j for j in range(n) if j != i] for i in range(n)], dtype=int).reshape(n, n - 1)
    signs = (-1) ** np.add.outer(np.arange(n), np.arange(n))
    return np.linalg.det(a[..., rest[:, None, :, None], rest[None, :, None, :]]) * signs.astype(a.dtype)


@implements(np.linalg.slogdet)
def linalg_slogdet(a: TensorLike) -> Any:
    """The sign of the determinant and the log of its absolute value: (sign, logabsdet). The gradient raises
    LinAlgError for a singular matrix, whose logarithm is -inf."""
    return result_of(np.linalg.slogdet)(*slogdet(a))


@op
def slogdet(a: Array) -> ValueAndRules:
    """d log|det A| = Re tr(A⁻¹ dA); the sign of a complex determinant turns by Im tr(A⁻¹ dA)."""
    sign, log = np.linalg.slogdet(a)

    def da(gs: Any) -> Array:
        g = gs[1] if sign.dtype.kind != "c" else gs[1] + 1j * np.imag(gs[0] * sign)
        return g[..., None, None] * swap_last(np.linalg.inv(a))

    return (sign, log), da


@implements(np.linalg.tensorinv)
def tensorinv(a: TensorLike, ind: int = 2) -> Any:
    """The inverse of a as a matrix from its last axes to its first `ind`."""
    if ind <= 0:
        raise ValueError(f"tensorinv: ind must be positive, got {ind}")
    rows = int(np.prod(a.shape[:ind]))
    return np.linalg.inv(a.reshape(rows, -1)).reshape(*a.shape[ind:], *a.shape[:ind])


@implements(np.linalg.tensorsolve)
def tensorsolve(a: TensorLike, b: TensorLike, axes: Any = None) -> Any:
    """The x of tensordot(a, x, x.ndim) = b, after the given axes of a have gone to its end."""
    if axes is not None:
        axes = [i % a.ndim for i in axes]
        a = np.transpose(a, [i for i in range(a.ndim) if i not in axes] + axes)
    shape = a.shape[b.ndim - a.ndim :] if b.ndim < a.ndim else ()
    n = int(np.prod(shape))
    if int(np.prod(a.shape)) != n * n or int(np.prod(b.shape)) != n:
        raise np.linalg.LinAlgError(
            f"tensorsolve: a of shape {a.shape} is no square matrix from {shape} to {b.shape}"
        )
    return np.linalg.solve(a.reshape(n, n), np.reshape(b, (n,))).reshape(shape)


@implements(np.linalg.matrix_power)
def matrix_power(a: TensorLike, n: int) -> Any:
    """A multiplied n times by itself, by repeated squaring; of a negative n, the inverse."""
    n = operator.index(n)
    if n < 0:
        return matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return np.zeros_like(a) * a + np.eye(a.shape[-1], dtype=a.dtype, like=a.data)
    if n <= 2:
        return a if n == 1 else a @ a
    half = matrix_power(a, n // 2)
    return half @ half if n % 2 == 0 else half @ half @ a


# -- other matrices --------------------------------------------------------------------------------


def d_pinv(a: Array, p: Array, g: Array) -> Array:
    """By A, for the gradient g of its pseudoinverse P. Golub & Pereyra, *The differentiation of
    pseudo-inverses and nonlinear least squares problems whose variables separate* (1973)."""
    left, right = H(g) - (a @ p) @ H(g), H(g) - H(g) @ (p @ a)
    return left @ (p @ H(p)) + (H(p) @ p) @ right - H(p) @ g @ H(p)


@implements(np.linalg.pinv)
@op
def pinv(a: Array, *rcond: Any, **options: Any) -> ValueAndRules:
    """The pseudoinverse (Moore, Penrose). Its gradient holds where the rank does not change nearby."""
    p = np.linalg.pinv(a, *rcond, **options)
    return p, textbook(lambda g: d_pinv(a, p, g))


@implements(np.linalg.lstsq)
def linalg_lstsq(a: TensorLike, b: TensorLike, rcond: Any = None) -> Any:
    """Least squares, as NumPy: (x, residuals, rank, singular values) for a (m, n) and b (m,) or (m, k). The
    gradient holds where the rank does not change nearby."""
    x = lstsq(a, b, rcond=rcond) if np.ndim(b) == 2 else lstsq(a, column(b), rcond=rcond)[:, 0]
    left, right = (t._data if isinstance(t, Tensor) else t for t in (a, b))
    _, residuals, rank, values = np.linalg.lstsq(left, right, rcond)
    if residuals.size:  # else there is none, since the rank or m is too small
        residuals = np.square(np.abs(b - a @ x)).sum(axis=0).reshape(residuals.shape)
    return x, residuals, rank, np.linalg.svdvals(a) if isinstance(a, Tensor) else values


@op
def lstsq(a: Array, b: Array, *, rcond: Any) -> ValueAndRules:
    """x = P b for the pseudoinverse P."""
    x = np.linalg.lstsq(a, b, rcond)[0]

    def pseudo() -> Array:
        return np.linalg.pinv(a, np.finfo(a.dtype).eps * max(a.shape) if rcond is None else rcond)

    return (
        x,
        textbook(lambda g: d_pinv(a, pseudo(), g @ H(b))),
        textbook(lambda g: H(pseudo()) @ g),
    )


@implements(np.linalg.matrix_rank)
@op
def matrix_rank(a: Array, *tol: Any, **options: Any) -> ValueAndRules:
    """A plain number; no gradient."""
    return (np.linalg.matrix_rank(detach(a), *tol, **options),)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Any) -> Any:
    """The product of all the matrices in the order that costs least; the first and last may be vectors."""
    if len(arrays) < 2:
        raise ValueError(f"multi_dot needs at least 2 arrays, got {len(arrays)}")
    for i, x in enumerate(arrays):
        if np.ndim(x) != 2 and not (np.ndim(x) == 1 and i in (0, len(arrays) - 1)):
            raise np.linalg.LinAlgError(f"multi_dot: array {i} has shape {np.shape(x)}, matrices are needed")
    first, last = arrays[0], arrays[-1]
    chain = [first[None] if np.ndim(first) == 1 else first, *arrays[1:-1]]
    chain.append(column(last) if np.ndim(last) == 1 else last)
    y = chain_product(
        chain, cheapest_cuts([x.shape[0] for x in chain] + [chain[-1].shape[1]]), 0, len(chain) - 1
    )
    shape = (() if np.ndim(first) == 1 else (first.shape[0],)) + (
        () if np.ndim(last) == 1 else (last.shape[1],)
    )
    return y.reshape(shape)


def cheapest_cuts(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut each stretch i..j of a chain of matrices (sizes[i], sizes[i + 1]), by dynamic programming
    (Cormen et al., *Introduction to Algorithms*, on matrix-chain multiplication)."""
    n = len(sizes) - 1
    cost, cut = {(i, i): 0 for i in range(n)}, {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            prices = {
                k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)
            }
            cut[i, j] = min(prices, key=prices.__getitem__)
            cost[i, j] = prices[cut[i, j]]
    return cut


def chain_product(chain: list[Any], cut: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return chain[i]
    k = cut[i, j]
    return chain_product(chain, cut, i, k) @ chain_product(chain, cut, k + 1, j)

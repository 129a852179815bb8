"""Polynomials by their coefficients, the highest power first: np.polyval and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.ops.compose import arrays_in, as_operand, composition, constant, numbers_like, to_cpu
from tinygen.types import TensorLike


def coefficients(p: TensorLike) -> TensorLike:
    return np.atleast_1d(as_operand(p))


@composition("polyval")
def polyval(p: TensorLike, x: TensorLike) -> TensorLike:
    """By Horner's rule."""
    x = as_operand(x)
    y = np.zeros_like(x)
    for i in range(len(p)):
        y = y * x + p[i]
    return y


def pad_front(a: TensorLike, n: int) -> TensorLike:
    return np.pad(a, ((n - len(a), 0),)) if len(a) < n else a


@composition("polyadd")
def polyadd(a1: Any, a2: Any) -> TensorLike:
    a1, a2 = coefficients(a1), coefficients(a2)
    n = max(len(a1), len(a2))
    return pad_front(a1, n) + pad_front(a2, n)


@composition("polysub")
def polysub(a1: Any, a2: Any) -> TensorLike:
    return polyadd(a1, -coefficients(a2))


@composition("polymul")
def polymul(a1: Any, a2: Any) -> TensorLike:
    return np.convolve(coefficients(a1), coefficients(a2))


@composition("polydiv")
def polydiv(u: TensorLike, v: TensorLike) -> tuple[TensorLike, TensorLike]:
    """The quotient and the remainder, by long division."""
    u, v = coefficients(u), coefficients(v)
    m, n = len(u) - 1, len(v) - 1
    r, q = u * 1.0, []
    for k in range(m - n + 1):
        q.append(r[k] / v[0])
        r = r - np.pad(q[-1] * v, (k, m - n - k))
    start = 0
    while start < len(r) - 1 and abs(float(arrays_in(r)[start])) <= 1e-14:
        start += 1
    return (np.stack(q) if q else np.zeros_like(u[:1])), r[start:]


@composition("polyder")
def polyder(p: TensorLike, m: int = 1) -> TensorLike:
    p = coefficients(p)
    for _ in range(int(m)):
        p = p[:-1] * numbers_like(p, np.arange(len(p) - 1, 0, -1))
    return p


@composition("polyint")
def polyint(p: TensorLike, m: int = 1, k: TensorLike | None = None) -> TensorLike:
    """m times the antiderivative, with the constants k."""
    p = coefficients(p)
    k = [0] * m if k is None else [k] * m if np.ndim(k) == 0 else k
    for i in range(int(m)):
        p = np.concatenate(
            [p / numbers_like(p, np.arange(len(p), 0, -1)), np.reshape(as_operand(k[i], p) * 1.0, (1,))]
        )
    return p


@composition("poly")
def poly(seq_of_zeros: Any) -> TensorLike:
    """The polynomial with these roots; of a matrix, with its eigenvalues, the characteristic polynomial."""
    roots = coefficients(seq_of_zeros)
    real = roots.dtype.kind != "c"
    if roots.ndim > 1:
        roots = np.linalg.eigvals(roots)
    y = np.ones_like(roots, shape=(1,))
    for i in range(len(roots)):
        y = np.concatenate([y, np.zeros_like(y[:1])]) - np.concatenate([np.zeros_like(y[:1]), y * roots[i]])
    return np.real(y) if real else y


@composition("roots")
def roots(p: TensorLike) -> TensorLike:
    """The zeros: the eigenvalues of the companion matrix. They are smooth where no two are equal."""
    p = coefficients(p)
    if p.ndim != 1:
        raise ValueError(f"a vector of coefficients is needed, got shape {p.shape}")
    there = np.flatnonzero(to_cpu(p))
    if not len(there):
        return np.zeros_like(p, shape=(0,))
    zeros, p = len(p) - 1 - there[-1], p[there[0] : there[-1] + 1]
    n = len(p) - 1
    if n == 0:
        return np.zeros_like(p, shape=(zeros,))
    below = np.eye(n, k=-1)[1:]
    companion = np.concatenate([np.reshape(-p[1:] / p[0], (1, n)), numbers_like(p, below)])
    y = np.linalg.eigvals(companion)
    return np.concatenate([y, np.zeros_like(y, shape=(zeros,))]) if zeros else y


@composition("polyfit")
def polyfit(
    x: TensorLike,
    y: TensorLike,
    deg: int,
    rcond: Any = None,
    full: bool = False,
    w: Any = None,
    cov: bool | str = False,
) -> TensorLike:
    """The least-squares polynomial of degree `deg`: V c = y for the powers V of x, in columns of length 1."""
    if full or cov:
        raise TypeError("full= and cov= are not supported: compute them from the fit")
    x, y = as_operand(x), as_operand(y)
    v = np.vander(x, int(deg) + 1)
    if w is not None:
        w = as_operand(w)
        v, y = v * w[:, None], y * (w if y.ndim == 1 else w[:, None])
    scale = np.sqrt(np.sum(v * v, axis=0))
    c = np.linalg.lstsq(v / scale, y, constant(rcond, "rcond"))[0]
    return c / (scale if y.ndim == 1 else scale[:, None])

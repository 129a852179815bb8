"""Decompositions: Cholesky, QR, eigenvalues and eigenvectors, singular values and vectors.

The sign of an eigenvector or singular vector is arbitrary (its phase, if it is complex; a rotation, where
values are equal). Gradients are right for functions that do not depend on it, such as the projection v vᵀ,
and for LAPACK's phase where it keeps one entry of a vector real.
Where values are equal, the gradient of a single vector is infinite, and the gradient of the values is one of
several valid ones.

`cholesky`, `eigh` and `eigvalsh` read one triangle of a symmetric (Hermitian) matrix, as NumPy's do. The
entries of the other triangle are ignored and have the gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.ops.compose import arrays_in
from tinygen.ops.matrices.solve import H, conj, result_of, textbook
from tinygen.tape import detach, implements, op, show_as
from tinygen.tensor import Array
from tinygen.types import TensorLike, ValueAndRules

# -- symmetric matrices ----------------------------------------------------------------------------


def triangle_gradient(g: Array, triangle: str) -> Array:
    """The gradient by the triangle that was read, from a gradient by all entries: the entries of the other
    triangle are the same numbers (conjugated)."""
    g = (g + H(g)) / 2
    return np.tril(g) + np.tril(g, -1) if triangle == "L" else np.triu(g) + np.triu(g, 1)


@implements(np.linalg.cholesky)
def linalg_cholesky(a: TensorLike, /, *, upper: bool = False) -> Any:
    """The lower triangular L of A = L Lᴴ, or the upper one of A = Uᴴ U. Raises LinAlgError for a matrix
    that is not positive definite."""
    return H(cholesky(H(a))) if upper else cholesky(a)


@op
def cholesky(a: Array) -> ValueAndRules:
    """Murray, *Differentiation of the Cholesky decomposition* (arXiv:1602.07527, 2016), section 3."""
    L = np.linalg.cholesky(a)

    def da(g: Array) -> Array:
        p = H(L) @ np.tril(g)
        p = (np.tril(p) + np.tril(p, -1)) / 2
        return triangle_gradient(H(np.linalg.solve(H(L), H(np.linalg.solve(H(L), p)))), "L")

    return L, textbook(da)


@implements(np.linalg.eigh)
def linalg_eigh(a: TensorLike, UPLO: Any = "L") -> Any:
    """(eigenvalues, eigenvectors) of a symmetric (Hermitian) matrix, of which one triangle is read."""
    return result_of(np.linalg.eigh)(*eigh(a, UPLO=UPLO))


@op
def eigh(a: Array, *, UPLO: Any) -> ValueAndRules:
    """Giles 2008, section 3.1."""
    w, v = np.linalg.eigh(a, UPLO)

    def da(gw: Array, gv: Array) -> Array:
        inner = divide_by_differences(H(v) @ free_phase_gradient(gv, v), w[..., None, :] - w[..., :, None])
        return triangle_gradient(v @ (diagonal_matrices(gw) + inner) @ H(v), UPLO.upper())

    return (w, v), textbook(da)


@implements(np.linalg.eigvalsh)
@op
def eigvalsh(a: Array, UPLO: Any = "L") -> ValueAndRules:
    """dw = vᴴ dA v for each eigenvalue and its eigenvector."""

    def da(gw: Array) -> Array:
        v = np.linalg.eigh(a, UPLO)[1]
        return triangle_gradient((v * gw[..., None, :]) @ H(v), UPLO.upper())

    return np.linalg.eigvalsh(a, UPLO), textbook(da)


def free_phase_gradient(g: Array, v: Array) -> Array:
    """The gradient by vectors (in columns) of free phase, from the gradient by LAPACK's vectors, which keep
    one entry v_k real. So if the entry would rotate by Im dv_k / v_k, the whole vector rotates back by it."""
    if v.dtype.kind != "c":
        return g
    size = np.where(np.imag(detach(v)) == 0, np.abs(detach(v)), 0)
    real = (size > 0) & (size == size.max(axis=-2, keepdims=True))
    turn = np.imag((conj(v) * g).sum(axis=-2, keepdims=True)) / real.sum(axis=-2, keepdims=True).clip(1)
    return g - 1j * np.where(real, turn / np.where(real, np.real(v), 1), 0)


def divide_by_differences(x: Array, differences: Array) -> Array:
    """x divided by the differences of values, off the diagonal; 0 where x is 0."""
    n = x.shape[-1]
    used = (detach(x) != 0) & ~np.eye(n, dtype=bool, like=arrays_in(x))
    return np.where(used, x / np.where(used, differences, 1), 0)


def divide_safely(x: Array, values: Array) -> Array:
    """x divided by values; 0 where x is 0."""
    used = detach(x) != 0
    return np.where(used, x / np.where(used, values, 1), 0)


def diagonal_matrices(x: Array) -> Array:
    """(..., n) on the diagonals of (..., n, n)."""
    return x[..., None] * np.eye(x.shape[-1], dtype=x.dtype, like=arrays_in(x))


# -- square matrices -------------------------------------------------------------------------------


@implements(np.linalg.eig)
def linalg_eig(a: TensorLike) -> Any:
    """(eigenvalues, eigenvectors) of a square matrix: complex, unless all eigenvalues are real."""
    return result_of(np.linalg.eig)(*eig(a))


@op
def eig(a: Array) -> ValueAndRules:
    """Boeddeker et al., *On the computation of complex-valued gradients with application to statistically
    optimum beamforming* (arXiv:1701.00392, 2017), section 4.4; the vectors have the length 1."""
    w, v = np.linalg.eig(a)

    def da(gw: Array, gv: Array) -> Array:
        inner = H(v) @ free_phase_gradient(gv, v)
        along = np.real(np.einsum("...ii->...i", inner))  # a vector does not grow
        inner = inner - (H(v) @ v) * along[..., None, :]
        inner = divide_by_differences(inner, conj(w[..., None, :] - w[..., :, None]))
        return np.linalg.solve(H(v), (diagonal_matrices(gw) + inner) @ H(v))

    return (w, v), textbook(da)


@implements(np.linalg.eigvals)
def eigvals(a: TensorLike) -> Any:
    return eig(a)[0]


# -- all matrices ----------------------------------------------------------------------------------


@implements(np.linalg.qr)
def linalg_qr(a: TensorLike, mode: str = "reduced") -> Any:
    """(Q, R) with Q (..., m, k) and R (..., k, n) for k = min(m, n); `mode="r"` gives R alone. The columns of
    Q beyond that, which `mode="complete"` gives for m > n, are no function of A."""
    if a.ndim < 2:
        raise np.linalg.LinAlgError(f"qr: a matrix is needed, got shape {a.shape}")
    m, n = a.shape[-2:]
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f'qr: mode {mode!r} has no gradient rule, use "reduced" or "r"')
    if mode == "complete" and m > n:
        if a.requires_grad:
            raise ValueError(
                f"qr: of a matrix {a.shape}, the last {m - n} columns of Q are no function of it, so that "
                'they have no gradient: use mode="reduced", or a.detach()'
            )
        return result_of(np.linalg.qr)(*complete_q(a))
    q, r = qr(a)
    return r if mode == "r" else result_of(np.linalg.qr)(q, r)


@show_as("qr")
@op
def complete_q(a: Array) -> ValueAndRules:
    """Every column of Q, of which the last have no gradient."""
    return (tuple(np.linalg.qr(a, "complete")),)


@op
def qr(a: Array) -> ValueAndRules:
    """Walter & Lehmann, *Algorithmic differentiation of linear algebra functions with application in optimum
    experimental design* (arXiv:1001.1654, 2010), for a tall A of full rank. Of a wide one, [X, Y] = Q [U, V],
    U is the R of X, and V = Qᴴ Y."""
    q, r = np.linalg.qr(a)
    m, n = a.shape[-2:]

    def tall(gq: Array, gu: Array) -> Array:
        u = r[..., :m]
        M = u @ H(np.triu(gu)) - H(gq) @ q
        below = np.tril(M, -1)
        symmetric = below + H(below) + diagonal_matrices(np.real(np.einsum("...ii->...i", M)))
        return H(np.linalg.solve(u, H(gq + q @ symmetric)))

    def da(gq: Array, gr: Array) -> Array:
        if m >= n:
            return tall(gq, gr)
        y, gv = a[..., m:], gr[..., m:]
        return np.concatenate([tall(gq + y @ H(gv), gr[..., :m]), q @ gv], -1)

    return (q, r), textbook(da)


@implements(np.linalg.svd)
def linalg_svd(
    a: TensorLike, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """(U, s, Vᴴ) with A = U diag(s) Vᴴ, or s alone. With `full_matrices`, NumPy's default, a matrix that is
    not square has more columns in U or rows in Vᴴ. They are no function of A: their use raises ValueError
    when the gradient is computed."""
    if hermitian:  # one triangle of A is read
        a = np.tril(a) + H(np.tril(a, -1))
    if not compute_uv:
        return np.linalg.svdvals(a)
    return result_of(np.linalg.svd)(*svd(a, full=full_matrices))


@op
def svd(a: Array, *, full: bool) -> ValueAndRules:
    """Townsend, *Differentiating the singular value decomposition* (2016); the phases of complex vectors as
    in Wan & Zhang, *Automatic differentiation for complex valued SVD* (arXiv:1909.02659, 2019)."""
    value = np.linalg.svd(a, full)
    k = min(a.shape[-2:])
    u, s, vh = value[0][..., :k], value[1], value[2][..., :k, :]

    def da(gu: Array, gs: Array, gvh: Array) -> Array:
        check_unused(gu[..., k:], gvh[..., k:, :])
        both = np.concatenate([gu[..., :k], H(gvh[..., :k, :])], -2)  # they turn together
        both = free_phase_gradient(both, np.concatenate([u, H(vh)], -2))
        gu, gv = both[..., : u.shape[-2], :], both[..., u.shape[-2] :, :]
        rows, columns = s[..., :, None], s[..., None, :]
        squares = (columns - rows) * (columns + rows)
        of_u, of_v = H(u) @ gu, vh @ gv
        from_u = divide_by_differences(of_u - H(of_u), squares) * columns
        inner = from_u + rows * divide_by_differences(of_v - H(of_v), squares)
        values = gs
        if a.dtype.kind == "c":
            values = values + divide_safely(1j * np.imag(np.einsum("...ii->...i", of_u)), s)
        d = u @ (inner + diagonal_matrices(values)) @ vh
        if a.shape[-2] > k:
            d = d + divide_safely(gu - u @ of_u, columns) @ vh
        if a.shape[-1] > k:
            d = d + u @ divide_safely(H(gv - H(vh) @ of_v), rows)
        return d

    return tuple(value), textbook(da)


def check_unused(*gradients: Array) -> None:
    for g in gradients:
        if g.size and np.any(arrays_in(g)):
            raise ValueError(
                "svd: columns of U or rows of V beyond the smaller size are no function of the matrix, so "
                "that they have no gradient: pass full_matrices=False"
            )


@implements(np.linalg.svdvals)
@op
def svdvals(a: Array) -> ValueAndRules:
    """ds = Re(uᴴ dA v) for each singular value and its vectors."""

    def da(gs: Array) -> Array:
        u, _, vh = np.linalg.svd(a, full_matrices=False)
        return (u * gs[..., None, :]) @ vh

    return np.linalg.svd(a, compute_uv=False), textbook(da)

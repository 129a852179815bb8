# ruff: noqa: E501 (a case is one line)
"""Cases of np.linalg and of the products that np has beside it.

Eigenvectors have an arbitrary sign or phase; for such results a case is a function that does not depend on
it. torch uses both triangles of a symmetric matrix, NumPy reads one: cases that are compared with torch
make their matrix symmetric."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from optable import normal
from parts import Case, waves

try:
    import torch
except ImportError:
    torch = None

LA = np.linalg


def linalg(name: str, *inputs: np.ndarray, how: str = "", **options: Any) -> Case:
    numpys, torchs = getattr(LA, name), getattr(torch and torch.linalg, name, None)
    theirs = {"dim" if k == "axis" else "keepdim" if k == "keepdims" else k: v for k, v in options.items()}
    case = f"{name}-{'complex ' * (inputs[0].dtype.kind == 'c')}{[x.shape for x in inputs]} {how}"
    return Case(case, lambda *xs: numpys(*xs, **options), inputs, lambda *xs: torchs(*xs, **theirs))


def same(name: str, f: Callable[..., Any], *inputs: np.ndarray) -> Case:
    """For functions of `L`, numpy.linalg or torch.linalg."""
    kind = "complex " * (inputs[0].dtype.kind == "c")
    case = f"{name}-{kind}{[x.shape for x in inputs]}"
    return Case(case, lambda *xs: f(LA, *xs), inputs, lambda *xs: f(torch.linalg, *xs))


def regular(x: np.ndarray) -> np.ndarray:
    return x + 2 * np.eye(x.shape[-2], x.shape[-1])


def t(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def h(x: Any) -> Any:
    """Works for NumPy's arrays, Tensors and torch's."""
    return x.swapaxes(-1, -2).conj()


def definite(x: Any) -> Any:
    return x @ h(x) + (1 + 0 * x[..., :1, :1].real)


def hermitian(x: Any) -> Any:
    return x + h(x)


def projections(v: Any) -> Any:
    """|v_ij|² and v vᴴ of two of the columns: the same whatever the phase of a column."""
    first = v[..., :, :1]
    return (v * v.conj()).real, first @ h(first)


def of_eigh(L: Any, x: Any) -> Any:
    w, v = L.eigh(hermitian(x))
    return (w, *projections(v))


def of_svd(L: Any, x: Any) -> Any:
    u, s, vh = L.svd(x, full_matrices=False)
    return (s, u[..., :, :1] @ vh[..., :1, :], *projections(u), *projections(h(vh)))


def of_eig(L: Any, x: Any) -> Any:
    w, v = L.eig(x)
    return (w, *projections(v))


def of_qr(L: Any, x: Any) -> Any:
    q, r = L.qr(x)
    return q, r


def low(L: Any, x: Any) -> Any:
    return L.cholesky(definite(x))


MATRICES = [
    *[linalg("inv", regular(x)) for x in (normal(2, 2), normal(2, 3, 3), waves(2, 2), normal(0, 2, 2), normal(0, 0))],
    *[linalg("solve", regular(a), b) for a, b in [
        (normal(2, 2), normal(2)), (normal(2, 2), normal(2, 3)), (normal(2, 2, 2), normal(2, 1)), (normal(1, 2, 2), normal(2, 2, 1)),
        (waves(2, 2), waves(2)), (normal(3, 3).T, normal(3, 2)[::-1]), (normal(0, 0), normal(0, 2)),
    ]],
    Case("solve-one vector for a batch", LA.solve, (regular(normal(2, 2, 2)), normal(2)), lambda a, b: torch.linalg.solve(a, b.expand(2, 2))),
    *[linalg("det", x) for x in (normal(2, 2), normal(2, 3, 3), waves(3, 3), normal(1, 1), normal(0, 0))],
    Case("det-singular", LA.det, (np.array([[1.0, 2.0], [2.0, 4.0]]),), lambda x: x[0, 0] * x[1, 1] - x[0, 1] * x[1, 0]),
    Case("det-singular and regular ones", LA.det, (np.array([[[1.0, 0, 2], [0, 0, 0], [3, 1, 1]], np.eye(3) + 0.5]),)),
    Case("det-singular, of rank 1", LA.det, (np.ones((3, 3)),)),
    *[linalg("slogdet", x) for x in (normal(2, 2), normal(2, 3, 3), waves(3, 3))],
    *[same("cholesky", low, x) for x in (normal(2, 2), normal(2, 3, 4), waves(3, 3))],
    Case("cholesky-upper", lambda x: LA.cholesky(definite(x), upper=True), (normal(3, 3),), lambda x: torch.linalg.cholesky(definite(x), upper=True)),
    Case("cholesky-one triangle", LA.cholesky, (np.array([[2.0, np.pi], [0.3, 1.0]]),)),
    Case("cholesky-the other triangle", lambda x: LA.cholesky(x, upper=True), (np.array([[2.0, 0.3], [np.pi, 1.0]]),)),
    *[same("eigh", of_eigh, x) for x in (normal(2, 2), normal(2, 3, 3), waves(3, 3))],
    *[Case(f"eigh-one triangle, {k}", lambda x, k=k: (LA.eigh(x, k)[0], *projections(LA.eigh(x, k)[1])), (x,)) for k in "LU" for x in (normal(3, 3), waves(2, 2))],
    *[same("eigvalsh", lambda L, x: L.eigvalsh(hermitian(x)), x) for x in (normal(2, 2), waves(3, 3))],
    *[Case(f"eigvalsh-one triangle, {k}", lambda x, k=k: LA.eigvalsh(x, k), (normal(2, 3, 3),)) for k in "LU"],
    *[same("svd", of_svd, x) for x in (normal(2, 2), normal(3, 2), normal(2, 2, 3), waves(2, 2), waves(3, 2), waves(2, 3))],
    Case("svd-hermitian", lambda x: LA.svd(x, hermitian=True)[1], (normal(2, 2),)),
    *[linalg("svdvals", x) for x in (normal(2, 3), normal(2, 3, 2), waves(2, 2))],
    Case("svd-values only", lambda x: LA.svd(x, compute_uv=False), (normal(2, 3),), lambda x: torch.linalg.svdvals(x)),
    *[same("qr", of_qr, x) for x in (normal(2, 2), normal(3, 2), normal(2, 2, 3), normal(2, 2, 2), waves(2, 2), waves(3, 2), waves(2, 3))],
    Case("qr-r", lambda x: LA.qr(x, "r"), (normal(3, 2),)),
    *[same("eig", of_eig, x) for x in (waves(2, 2), waves(2, 3, 3), np.array([[1.0, -2.0], [1.5, 0.5]]))],
    # the phase is LAPACK's, which makes one entry of each vector real
    Case("phase-eig", lambda x: LA.eig(x), (np.array([[0.3, -2.0], [1.5, 0.5]]),)),
    Case("phase-eig complex", lambda x: LA.eig(x)[1], (waves(2, 2),)),
    Case("phase-eigh", lambda x: LA.eigh(x)[1], (waves(3, 3),)),
    Case("phase-eigh, the other triangle", lambda x: LA.eigh(x, "U")[1], (waves(2, 2),)),
    Case("phase-svd", lambda x: LA.svd(x), (waves(2, 2),)),
    Case("eig-all real", lambda x: of_eig(LA, x), (np.array([[1.0, 0.5], [0.25, 3.0]]),)),
    Case("eigvals", lambda x: LA.eigvals(x), (np.array([[0.1, -2.0], [1.0, 0.2]]),), lambda x: torch.linalg.eigvals(x)),
    Case("eigvals-the characteristic polynomial", lambda x: np.poly(x), (np.array([[0.1, -2.0], [1.0, 0.2]]),)),
    Case("eigvals-roots", lambda p: np.roots(p), (np.array([1.0, -0.5, 2.0, 0.3]),)),
    *[linalg("pinv", x) for x in (normal(2, 2), normal(3, 2), normal(2, 2, 3), waves(3, 2), waves(2, 3))],
    *[Case(f"lstsq-{b.ndim}", lambda a, b: LA.lstsq(a, b)[:2], (a, b)) for a, b in [(normal(3, 2), normal(3)), (normal(3, 2), normal(3, 2)), (waves(3, 2), waves(3))]],
    Case("lstsq-wide", lambda a, b: (LA.lstsq(a, b)[0], LA.lstsq(a, b)[3]), (normal(2, 3), normal(2))),
    *[linalg("matrix_power", regular(normal(2, 2)), how=str(n), n=n) for n in (0, 1, 2, 3, 5, 6, -1, -3)],
    linalg("matrix_power", waves(2, 2, 2), n=3),
    *[Case(f"multi_dot-{[x.shape for x in xs]}", lambda *xs: LA.multi_dot(xs), xs, lambda *xs: torch.linalg.multi_dot(xs)) for xs in [
        (normal(2, 3), normal(3, 1)), (normal(3), normal(3, 2), normal(2, 4), normal(4)), (normal(2, 4), normal(4, 1), normal(1, 3), normal(3, 2)), (waves(2), waves(2, 2), waves(2, 1)),
    ]],
    Case("tensorinv", lambda a: LA.tensorinv(a, 1), (normal(4, 2, 2),), lambda a: torch.linalg.tensorinv(a, 1)),
    Case("tensorsolve", LA.tensorsolve, (normal(2, 2, 4), normal(2, 2)), lambda a, b: torch.linalg.tensorsolve(a, b)),
    Case("tensorsolve-axes", lambda a, b: LA.tensorsolve(a, b, (0,)), (normal(4, 2, 2), normal(2, 2)), lambda a, b: torch.linalg.tensorsolve(a, b, (0,))),
    # -- norms
    *[linalg("vector_norm", x, how=f"{p} {axis} {keep}", ord=p, axis=axis, keepdims=keep)
      for p in (2, 1, 3, 2.5, 0.5, math.inf, -math.inf, -1) for x, axis, keep in [(normal(3), None, False), (normal(2, 3), (0, 1), True), (waves(2, 2), 1, False)]],
    *[linalg("matrix_norm", x, how=f"{p} {keep}", ord=p, keepdims=keep)
      for p in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf) for x, keep in [(normal(2, 3), False), (waves(2, 3, 2), True)]],
    linalg("norm", normal(3)),
    linalg("norm", normal(2, 1, 3)),
    linalg("norm", waves(2, 2)),
    linalg("norm", normal(0, 3), axis=0),
    linalg("norm", normal(2, 3), how="kept", axis=1, keepdims=True),
    linalg("norm", normal(2, 3), how="of matrices", ord="nuc"),
    linalg("norm", normal(2, 3, 2), how="two axes", axis=(2, 0), ord=1),
    Case("norm-kept", lambda x: LA.norm(x, keepdims=True), (normal(2, 2),), lambda x: torch.linalg.norm(x, keepdim=True)),
    Case("norm-0", lambda x: LA.norm(x, 0) + LA.norm(x), (normal(3),), lambda x: torch.linalg.norm(x, 0) + torch.linalg.norm(x)),
    Case("norm-a vector of zeros", lambda x: LA.norm(x, axis=1) + LA.vector_norm(x, ord=3, axis=1), (np.array([[0.0, 0.0], [3.0, 4.0]])[1:],)),
    *[Case(f"cond-{p}", lambda x, p=p: LA.cond(x, p), (regular(normal(2, 2, 2)),), lambda x, p=p: torch.linalg.cond(x, p)) for p in (None, 2, -2)],
    *[Case(f"cond-{p}", lambda x, p=p: LA.cond(x, p), (regular(normal(2, 2, 2)),)) for p in (1, "fro", -math.inf)],
    Case("solve-a real one", LA.solve, (regular(waves(2, 2)), normal(2, 1)), lambda a, b: torch.linalg.solve(a, b + 0j)),
    # -- products
    *[linalg("vecdot", a, b) for a, b in [(normal(2, 3), normal(3)), (waves(3), waves(2, 3))]],
    Case("vecdot-axis", lambda a, b: np.vecdot(a, b, axis=0), (waves(2, 2), normal(2, 1)), lambda a, b: torch.linalg.vecdot(a, b + 0j, dim=0)),
    Case("matvec", lambda a, b: np.matvec(a, b), (normal(2, 2, 3), normal(3)), lambda a, b: a @ b),
    Case("vecmat", lambda a, b: np.vecmat(a, b), (waves(2, 2), waves(2, 3)), lambda a, b: (a.conj()[:, None] @ b)[:, 0]),
    Case("vdot", np.vdot, (waves(2, 2), waves(4)), lambda a, b: torch.vdot(a.flatten(), b)),
    Case("inner", np.inner, (normal(2, 1, 3), normal(2, 3)), lambda a, b: torch.inner(a, b)),
    Case("inner-number", lambda a: np.inner(a, 2.0), (normal(2),), lambda a: 2 * a),
    Case("kron", np.kron, (normal(2, 3), waves(2, 2)), lambda a, b: torch.kron(a, b)),
    Case("kron-of other ranks", np.kron, (normal(2), normal(2, 1, 3)), lambda a, b: torch.kron(a, b)),
    Case("cross", np.cross, (normal(2, 3), waves(3)), lambda a, b: torch.linalg.cross(a + 0j, b.expand(2, 3))),
    Case("cross-axes", lambda a, b: np.cross(a, b, axisa=0, axisc=0), (normal(3, 2), normal(2, 3)), lambda a, b: torch.linalg.cross(a, b.T, dim=0)),
    linalg("cross", normal(3, 2), normal(3, 2), axis=0),
    Case("linalg.outer", LA.outer, (normal(2), waves(3)), lambda a, b: torch.outer(a + 0j, b)),
    Case("linalg.matmul", LA.matmul, (normal(2, 3), normal(3)), lambda a, b: a @ b),
    Case("linalg.tensordot", lambda a, b: LA.tensordot(a, b, axes=1), (normal(2, 3), normal(3, 2)), lambda a, b: torch.tensordot(a, b, 1)),
    Case("linalg.matrix_transpose", LA.matrix_transpose, (normal(2, 2, 3),), lambda x: x.mT * 1),
    *[Case(f"linalg.diagonal-{k}", lambda x, k=k: LA.diagonal(x, offset=k), (normal(2, 2, 3),), lambda x, k=k: torch.diagonal(x, k, -2, -1)) for k in (0, 1, -1, 2, 5)],
    Case("linalg.trace", lambda x: LA.trace(x, offset=-1), (normal(2, 3, 3),), lambda x: torch.diagonal(x, -1, -2, -1).sum(-1)),
]  # fmt: skip

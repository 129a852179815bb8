# ruff: noqa: E501 (a case is one line)
"""Cases of the products."""

import numpy as np
from optable import Case, normal

from tinygen import ops

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

# -- products --------------------------------------------------------------------------------------

MATMUL = [
    ((2, 3), (3, 2)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 2, 3), (3,)),
    ((3,), (2, 3, 2)),
    ((2, 2, 3), (3, 2)),
    ((2, 3), (2, 3, 1)),
    ((2, 1, 2, 1), (3, 1, 2)),
    ((1, 2, 2), (2, 2, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
    ((2, 2, 0), (0, 3)),
    ((2, 2, 3), (3, 0)),
    ((0, 2, 3), (3, 2)),
    ((0,), (0,)),
]
EINSUM = [
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("bqd,bkd->bqk", (2, 2, 3), (2, 1, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ijk->ki", (2, 1, 3)),
    ("ij,j", (2, 3), (3,)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("i,j,k->kji", (2,), (1,), (3,)),
    ("ij,kl->il", (2, 2), (2, 3)),
    ("ij,jk,kl->il", (2, 2), (2, 3), (3, 1)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->ji", (2, 3, 2)),
    ("iij,jj->ij", (2, 2, 3), (3, 3)),
    ("iii->", (2, 2, 2)),
    ("ii,i->", (2, 2), (3 - 1,)),
    ("...", (2, 3)),
    ("...->...", ()),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 2)),
    ("...i,...i", (2, 1, 3), (2, 3)),
    ("i...->...", (2, 3, 1)),
    ("...ii->...i", (2, 3, 3)),
    ("b...c,c->c...b", (2, 1, 2, 3), (3,)),
    ("...,...->...", (2, 1), (1, 3)),
    ("i,->i", (3,), ()),
    ("ij,kl->", (2, 2), (2, 3)),
    ("ij,k->k", (2, 3), (2,)),
    ("ii->i", (0, 0)),
]


def products(a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(f"matmul-{a} {b}", lambda a, b: a @ b, (normal(*a), normal(*b)), lambda a, b: a @ b)


LINALG = [
    *[products(a, b) for a, b in MATMUL],
    Case("matmul-strides", np.matmul, (normal(3, 2).T, normal(6, 2)[::-2]), lambda a, b: a @ b),
    Case("matmul-stride 0", np.matmul, (np.broadcast_to(normal(3), (2, 2, 3)), normal(3, 2)), lambda a, b: a @ b),
    Case("matmul-the same twice", lambda a: a @ a, (normal(2, 2, 2),), lambda a: a @ a),
    Case("matmul-with itself transposed", lambda a: a @ a.swapaxes(-1, -2), (normal(2, 2, 3),), lambda a: a @ a.mT),
    Case("dot", np.dot, (normal(2, 3), normal(3)), lambda a, b: a @ b),
    Case("linear", ops.linear, (normal(2, 3), normal(2, 3), normal(2)), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-rank 4", ops.linear, (normal(2, 1, 2, 3), normal(2, 3), normal(2)), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-one row", ops.linear, (normal(3), normal(2, 3), normal(2)), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-without bias", lambda x, w: ops.linear(x, w), (normal(2, 2, 3), normal(2, 3)), lambda x, w: F.linear(x, w)),
    Case("linear-strides", ops.linear, (normal(3, 2, 2).T, normal(3, 2).T, normal(4)[::-2]), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-0 rows", ops.linear, (normal(0, 3), normal(2, 3), normal(2)), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-0 columns", ops.linear, (normal(2, 2, 0), normal(3, 0), normal(3)), lambda x, w, b: F.linear(x, w, b)),
    Case("linear-no outputs", ops.linear, (normal(2, 2, 3), normal(0, 3), normal(0)), lambda x, w, b: F.linear(x, w, b)),
    Case("tensordot", np.tensordot, (normal(2, 3, 2), normal(3, 2, 2)), lambda a, b: torch.tensordot(a, b, 2)),
    Case("tensordot-1", lambda a, b: np.tensordot(a, b, 1), (normal(2, 3), normal(3, 1, 2)), lambda a, b: torch.tensordot(a, b, 1)),
    Case("tensordot-0", lambda a, b: np.tensordot(a, b, 0), (normal(2), normal(3)), lambda a, b: torch.tensordot(a, b, 0)),
    Case("tensordot-axes", lambda a, b: np.tensordot(a, b, ((0, -1), (1, 0))), (normal(2, 2, 3), normal(3, 2)), lambda a, b: torch.tensordot(a, b, ((0, 2), (1, 0)))),
    Case("tensordot-one pair", lambda a, b: np.tensordot(a, b, (0, 1)), (normal(2, 3), normal(1, 2)), lambda a, b: torch.tensordot(a, b, ((0,), (1,)))),
    Case("tensordot-size 0", lambda a, b: np.tensordot(a, b, 1), (normal(2, 0), normal(0, 3)), lambda a, b: torch.tensordot(a, b, 1)),
    Case("outer", np.outer, (normal(2), normal(3)), lambda a, b: torch.outer(a, b)),
    Case("outer-matrices", np.outer, (normal(2, 2), normal(1, 3)), lambda a, b: torch.outer(a.flatten(), b.flatten())),
    *[
        Case(
            f"einsum-{subscripts} {shapes}",
            lambda *xs, s=subscripts: np.einsum(s, *xs),
            tuple(normal(*shape) for shape in shapes),
            lambda *xs, s=subscripts: torch.einsum(s, *xs),
        )
        for subscripts, *shapes in EINSUM
    ],
    Case("einsum-numbers for letters", lambda a, b: np.einsum(a, [0, 0, 5], b, [5, ...], [..., 0]), (normal(2, 2, 3), normal(3, 1, 2)), lambda a, b: torch.einsum("aac,c...->...a", a, b)),
    Case("einsum-the same twice", lambda a: np.einsum("ij,kj", a, a), (normal(2, 3),), lambda a: torch.einsum("ij,kj", a, a)),
    Case("einsum-strides", lambda a: np.einsum("iij->ji", a), (normal(2, 3, 3).T,), lambda a: torch.einsum("iij->ji", a)),
    Case("einsum-size 1 stretched", lambda a, b: np.einsum("ij,ij->i", a, b), (normal(2, 3), normal(2, 1)), lambda a, b: torch.einsum("ij,ij->i", a, b)),
    Case("einsum-size 1 stretched, first", lambda a, b: np.einsum("ij,ij->ij", a, b), (normal(2, 1), normal(2, 3)), lambda a, b: torch.einsum("ij,ij->ij", a, b)),
]  # fmt: skip

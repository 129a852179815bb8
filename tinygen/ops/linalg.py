"""Products: matmul, linear, einsum, tensordot, outer.

The gradient of a product by one factor is the product of the gradient with the other factors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.tape import implements, op
from tinygen.tensor import Array, Tensor


@implements(np.matmul)
@op
def matmul(a: Array, b: Array) -> Any:
    """a @ b: (..., n, k) @ (..., k, m) -> (..., n, m); a vector (k,) counts as a row on the left and as a
    column on the right."""
    y = a @ b
    if a.ndim == b.ndim == 2:
        return y, lambda g: g @ b.T, lambda g: a.T @ g
    row, column = a.ndim == 1, b.ndim == 1
    shared = b.ndim == 2 and not row  # one matrix for all of a's rows

    def full(g: Array) -> Array:  # (..., n, m), with the axes that the vectors dropped
        g = g[..., None, :] if row and not column else g
        return g[..., None] if column and not row else g[..., None, None] if column else g

    def da(g: Array) -> Array:
        d = full(g) @ (b[None, :] if column else b.swapaxes(-1, -2))
        return d[..., 0, :] if row else d

    def db(g: Array) -> Array:
        if shared:  # one large product instead of many that are then summed
            return rows(a).T @ rows(g)
        d = (a[:, None] if row else a.swapaxes(-1, -2)) @ full(g)
        return d[..., 0] if column else d

    return y, da, db


def rows(x: Array) -> Array:
    """(..., n) as one matrix (N, n). A -1 in its shape would be ambiguous when n is 0."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@implements(np.dot)
def dot(a: Any, b: Any) -> Tensor:
    """a @ b of vectors and matrices."""
    if np.ndim(a) > 2 or np.ndim(b) > 2 or 0 in (np.ndim(a), np.ndim(b)):
        raise TypeError("dot is for vectors and matrices: use @ for stacks of matrices, * for numbers")
    return matmul(a, b)


@op
def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    """x Wᵀ + b for x (..., in), weight (out, in), bias (out): (..., out). One GEMM over all rows of x."""
    flat = rows(x)  # (N, in)
    shape, out = x.shape, weight.shape[0]
    y = flat @ weight.T
    if bias is not None:
        y = y + bias
    return (
        y.reshape(*shape[:-1], out),
        lambda g: (rows(g) @ weight).reshape(shape),
        lambda g: rows(g).T @ flat,
        lambda g: rows(g).sum(axis=0),
    )


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """The sum over pairs of axes: `axes` = n (the last n of a with the first n of b), or two sequences."""
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    left, right = ([i] if isinstance(i, int) else list(i) for i in axes)
    left, right = [i % a.ndim for i in left], [i % b.ndim for i in right]
    keep_a = [i for i in range(a.ndim) if i not in left]
    keep_b = [i for i in range(b.ndim) if i not in right]
    rows = tuple(a.shape[i] for i in keep_a)
    columns = tuple(b.shape[i] for i in keep_b)
    summed = int(np.prod([a.shape[i] for i in left]))
    flat_a = np.reshape(np.transpose(a, keep_a + left), (int(np.prod(rows)), summed))
    flat_b = np.reshape(np.transpose(b, right + keep_b), (summed, int(np.prod(columns))))
    return np.reshape(flat_a @ flat_b, rows + columns)


@implements(np.outer)
def outer(a: Any, b: Any) -> Any:
    """Every entry of a times every entry of b: (a.size, b.size)."""
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any, optimize: bool = True) -> Tensor:
    """Einstein's summation, as `np.einsum` with subscripts: "bqd,bkd->bqk". No letter twice in one
    operand and no `...`: use diagonals and named axes. `optimize` may be passed, and is always on."""
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "->" not in subscripts:
        letters = inputs.replace(",", "")
        output = "".join(c for c in sorted(set(letters)) if letters.count(c) == 1)
    if "." in subscripts or any(len(set(t)) != len(t) for t in terms):
        raise ValueError(f"einsum {subscripts!r}: no '...' and no letter twice in one operand, please")
    if len(terms) != len(operands):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    return contract(*operands, terms=tuple(terms), output=output)


@op
def contract(*xs: Array, terms: tuple[str, ...], output: str) -> Any:
    y = np.einsum(f"{','.join(terms)}->{output}", *xs, optimize=True)
    size: dict[str, int] = {}
    for term, x in zip(terms, xs, strict=True):
        for c, n in zip(term, x.shape, strict=True):
            size[c] = n if size.get(c, 1) == 1 else size[c]  # 1 is stretched to the other factor's size

    def gradient(i: int) -> Any:
        others = [x for j, x in enumerate(xs) if j != i]
        rest = [t for j, t in enumerate(terms) if j != i]
        seen = set(output).union(*rest)
        reach = "".join(c for c in terms[i] if c in seen)  # the letters that only x_i has are summed away:
        full = tuple(size[c] for c in terms[i])  # its gradient is constant along them

        def dx(g: Array) -> Array:
            d = np.einsum(f"{','.join([output, *rest])}->{reach}", g, *others, optimize=True)
            sizes = iter(d.shape)
            return np.broadcast_to(d.reshape([next(sizes) if c in seen else 1 for c in terms[i]]), full)

        return dx

    return y, *[gradient(i) for i in range(len(xs))]

# ruff: noqa: E501 (a case is one line)
"""Cases of complex numbers: each op that takes them, called with complex and with real numbers beside them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from optable import normal
from parts import Case, waves

from tinygen import ops

try:
    import torch
except ImportError:
    torch = None


def same(name: str, f: Callable[..., Any], *inputs: np.ndarray) -> Case:
    """For functions that run on torch's tensors as they are."""
    return Case(name, f, inputs, f)


def unary(name: str, f: Any = None) -> Case:
    return Case(name, f or getattr(np, name), (waves(2, 2),), lambda z: getattr(torch, name)(z))


COMPLEX = [
    same("add", lambda a, b: a + b, waves(2, 2), normal(2)),
    same("subtract", lambda a, b: a - b, normal(2, 1), waves(2, 2)),
    same("multiply", lambda a, b: a * b, waves(2, 2), waves(2, 1)),
    same("multiply-a real one", lambda a, b: a * b, normal(2, 1), waves(2)),
    same("divide", lambda a, b: a / b, waves(2, 2), waves(2)),
    same("divide-by a real one", lambda a, b: a / b, waves(2), np.array([0.5, -2.0])),
    same("a number", lambda x: (2 + 1j) * x - 1j / (x + 2j), normal(3)),
    same("negative", lambda z: -z, waves(2)),
    *[same(f"power {p}", lambda z, p=p: z**p, waves(3)) for p in (2, 3, -1, 0)],
    same("power-both", lambda z, p: z**p, waves(3), waves(3)),
    same("power-of a real one", lambda z, p: z**p, normal(3), waves(3)),
    *map(unary, ("exp", "expm1", "log", "log1p", "sqrt", "square", "reciprocal", "tanh", "sin", "cos", "positive")),
    *map(unary, ("log2", "log10", "exp2", "tan", "sinh", "cosh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh")),
    Case("prod", lambda z: np.prod(z, 1), (waves(2, 3),), lambda z: torch.prod(z, 1)),
    Case("cumprod", lambda z: np.cumprod(z, 0).copy(), (waves(3, 2),), lambda z: torch.cumprod(z, 0)),
    Case("convolve", lambda a, v: (np.convolve(a, v), np.correlate(a, v, "full"), np.correlate(v, a)), (waves(3), waves(2))),
    Case("geomspace", lambda a, b: (np.geomspace(a, b, 3), np.geomspace(1.5, b, 4, axis=1)), (waves(2), waves(2))),
    Case("sort", lambda z: np.sort(z), (waves(4),)),
    Case("rsqrt", lambda z: ops.rsqrt(z), (waves(3),), lambda z: torch.rsqrt(z)),
    unary("absolute", np.abs),
    unary("angle", np.angle),
    Case("conjugate", np.conj, (waves(3),), lambda z: torch.conj(z) * 1),
    unary("real"),
    unary("imag"),
    Case("sign", np.sign, (waves(3),), lambda z: torch.sgn(z)),
    Case("parts of real ones", lambda x: (np.real(x), np.conj(x), np.imag(x) * x, x.imag), (normal(3),)),
    Case("sum", lambda z: z.sum(axis=0), (waves(2, 3),), lambda z: z.sum(0)),
    Case("mean", lambda z: z.mean(axis=1), (waves(2, 3),), lambda z: z.mean(1)),
    Case("var", lambda z: np.var(z, axis=1, ddof=1), (waves(2, 3),), lambda z: torch.var(z, 1)),
    Case("std", lambda z: np.std(z), (waves(3),), lambda z: torch.std(z, correction=0)),
    Case("cumsum", lambda z: np.cumsum(z, 0), (waves(2, 2),), lambda z: torch.cumsum(z, 0)),
    same("matmul", lambda a, b: a @ b, waves(2, 3), waves(3, 2)),
    Case("matmul-a real one", lambda a, b: a @ b, (normal(2, 3), waves(3)), lambda a, b: (a + 0j) @ b),
    Case("matmul-a shared one", lambda a, b: a @ b, (waves(2, 2, 2), normal(2, 2)), lambda a, b: a @ (b + 0j)),
    Case("linear", ops.linear, (waves(2, 3), waves(2, 3), normal(2)), lambda x, w, b: x @ w.T + b),
    Case("einsum", lambda a, b: np.einsum("ij,j->i", a, b), (waves(2, 2), normal(2)), lambda a, b: a @ (b + 0j)),
    Case("where", lambda a, b: np.where(np.real(b) > 0, a, b), (normal(3), waves(3)), lambda a, b: torch.where(b.real > 0, a + 0j, b)),
    Case("astype", lambda x: x.astype(np.result_type(x.dtype, np.complex64)) * 1j, (normal(2),), lambda x: x.to(torch.complex128) * 1j),
    Case("moving", lambda z: np.moveaxis(np.flip(np.roll(z.reshape(2, 1, 3), 1, 2).transpose(0, 2, 1).swapaxes(0, 1)), 0, 1), (waves(6),)),
    Case("more of them", lambda z: np.pad(np.tile(np.repeat(np.broadcast_to(z, (2, 2)), 2, 0), 2), 1), (waves(2),)),
    Case("cutting", lambda z: (*np.split(np.tril(z) + np.triu(z, 1), 2), np.concatenate([z, z[:, ::-1]]), np.take(z, [0, 0], 1)), (waves(2, 2),)),
    Case("scatter_add", lambda z: ops.scatter_add(z, [0, 1, 0], (2,)), (waves(3),)),
    Case("of size 0", lambda z: np.abs(z).sum() + np.real(z).sum(), (waves(0, 2),)),
]  # fmt: skip

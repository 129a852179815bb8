# ruff: noqa: E501 (a case is one line)
"""Cases of the elementwise ops and the reductions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from optable import Case, distinct, normal, off_zero, positive, rng, unary

from tinygen import ops

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

# -- elementwise -----------------------------------------------------------------------------------

PAIRS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((), (2, 2)),
    ((2, 1, 3), (2, 1)),
    ((1, 2, 1, 2), (2, 3, 1)),
    ((1,), (2, 2)),
    ((0, 3), (1, 3)),
    ((2, 1), (2, 0)),
]


def binary(name: str, f: Any, reference: Callable[..., Any], left: Any, right: Any) -> list[Case]:
    cases = [Case(f"{name}-{a} {b}", f, (left(normal(*a)), right(normal(*b))), reference) for a, b in PAIRS]
    a, b = left(normal(3, 2)).T, right(normal(4, 3))[::-2]
    repeated = np.broadcast_to(left(normal(3)), (2, 3))
    return [
        *cases,
        Case(f"{name}-strides", f, (a, b), reference),
        Case(f"{name}-stride 0", f, (repeated, b), reference),
        Case(f"{name}-number on the right", lambda x: f(x, 1.5), (a,), lambda x: reference(x, 1.5)),
        Case(
            f"{name}-number on the left",
            lambda x: f(1.5, x),
            (right(normal(2, 2)),),
            lambda x: reference(torch.tensor(1.5, dtype=x.dtype), x),
        ),
    ]


ELEMENTWISE = [
    *binary("add", lambda a, b: a + b, lambda a, b: a + b, np.asarray, np.asarray),
    *binary("subtract", lambda a, b: a - b, lambda a, b: a - b, np.asarray, np.asarray),
    *binary("multiply", lambda a, b: a * b, lambda a, b: a * b, np.asarray, np.asarray),
    *binary("divide", lambda a, b: a / b, lambda a, b: a / b, np.asarray, off_zero),
    *binary("power", lambda a, b: a**b, lambda a, b: a**b, positive, np.asarray),
    *binary("maximum", np.maximum, lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)), np.asarray, np.asarray),
    *binary("minimum", np.minimum, lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)), np.asarray, np.asarray),
    Case("add-the same tensor twice", lambda x: x + x, (normal(2, 3),), lambda x: x + x),
    Case("multiply-the same tensor twice", lambda x: x * x, (normal(2, 3),), lambda x: x * x),
    Case("divide-the same tensor twice", lambda x: x / x, (off_zero(normal(2, 3)),), lambda x: x / x),
    Case("power-the same tensor twice", lambda x: x**x, (positive(normal(2, 3)),), lambda x: x**x),
    *[
        Case(f"power-{p!r}", lambda x, p=p: x**p, (off_zero(normal(2, 1, 3)),), lambda x, p=p: x**p)
        for p in (0, 1, 2, 3, 4, 5, 7, -1, -2, -3)
    ],
    *[
        Case(f"power-{p!r}", lambda x, p=p: x**p, (positive(normal(2, 3)),), lambda x, p=p: x**p)
        for p in (0.5, -1.5, 2.0, 0.0)
    ],
    Case("power-base 2", lambda x: 2**x, (normal(2, 3),), lambda x: 2**x),
    *unary("negative", lambda x: -x, "neg"),
    *unary("positive", np.positive, "positive"),
    *unary("square", np.square, "square"),
    *unary("reciprocal", np.reciprocal, "reciprocal", off_zero),
    *unary("exp", np.exp, "exp"),
    *unary("expm1", np.expm1, "expm1"),
    *unary("log", np.log, "log", positive),
    *unary("log1p", np.log1p, "log1p", positive),
    *unary("sqrt", np.sqrt, "sqrt", positive),
    *unary("rsqrt", ops.rsqrt, "rsqrt", positive),
    *unary("tanh", np.tanh, "tanh"),
    *unary("sigmoid", ops.sigmoid, "sigmoid"),
    *unary("erf", ops.erf, "erf"),
    *unary("sin", np.sin, "sin"),
    *unary("cos", np.cos, "cos"),
    *unary("absolute", np.abs, "abs", off_zero),
    *unary("sign", np.sign, "sign", off_zero),
    *unary("real", np.real, lambda x: x * 1),
    *unary("imag", np.imag, lambda x: x * 0),
    *unary("angle", np.angle, lambda x: torch.angle(x) + 0 * x, off_zero),
    *unary("conjugate", np.conj, lambda x: x * 1),
    *unary("clip", lambda x: np.clip(x, -0.5, 0.8), lambda x: torch.clip(x, -0.5, 0.8), lambda z: z + 0.0017),
    Case("clip-low", lambda x: np.clip(x, -0.2, None), (normal(2, 3),), lambda x: x.clip(min=-0.2)),
    Case("clip-high", lambda x: np.clip(x, None, 0.2), (normal(2, 3),), lambda x: x.clip(max=0.2)),
    Case(
        "where-broadcast",
        np.where,
        (np.array([True, False, True]), normal(2, 3), normal(2, 1)),
        lambda c, a, b: torch.where(c, a, b),
    ),
    Case(
        "where-rank 4",
        np.where,
        (rng.random((2, 1, 1, 3)) < 0.5, normal(2, 1, 1), normal(1, 1, 3)),
        lambda c, a, b: torch.where(c, a, b),
    ),
    Case("where-number", lambda x: np.where(x > 0, x, 0.25), (normal(2, 3),), lambda x: torch.where(x > 0, x, 0.25)),
    Case("where-size 0", np.where, (np.zeros((0, 1), bool), normal(3), normal(1)), lambda c, a, b: torch.where(c, a, b)),
    Case("astype", lambda x: x.astype(x.dtype) * 2, (normal(2, 3),), lambda x: x * 2),
]  # fmt: skip

# -- reductions ------------------------------------------------------------------------------------

AXES: list[tuple[tuple[int, ...], Any]] = [
    ((3,), None),
    ((2, 3), None),
    ((2, 3), 0),
    ((2, 2, 3), -1),
    ((2, 2, 3), (0, 2)),
    ((2, 1, 3), 1),
    ((2, 1, 2, 2), (-1, 1)),
]


def reduction(name: str, f: Any, reference: Callable[..., Any], inputs: Any, empty: bool) -> list[Case]:
    def case(what: str, x: np.ndarray, axis: Any, keep: bool) -> Case:
        axes = tuple(range(x.ndim)) if axis is None else axis
        return Case(
            f"{name}-{what}",
            lambda x: f(x, axis=axis, keepdims=keep),
            (x,),
            lambda x: reference(x, dim=axes, keepdim=keep),
        )

    cases = [
        case(f"{shape} {axis} {'kept' * keep}", inputs(*shape), axis, keep)
        for shape, axis in AXES
        for keep in (False, True)
    ]
    odd = [
        case("transposed", inputs(2, 3, 2).T, 1, False),
        case("reversed", inputs(2, 3)[:, ::-1], -1, False),
    ]
    none = [case("size 0", inputs(2, 0), 1, False), case("0 rows", inputs(0, 3), 0, True)] if empty else []
    return [*cases, *odd, *none, case("no rows left", inputs(0, 3), 1, False)]


REDUCE = [
    *reduction("sum", np.sum, lambda x, **k: x.sum(**k), normal, True),
    *reduction("mean", np.mean, lambda x, **k: x.mean(**k), normal, False),
    *reduction("var", np.var, lambda x, **k: x.var(correction=0, **k), normal, False)[:-1],
    *reduction("max", np.max, lambda x, **k: x.amax(**k), distinct, False),
    *reduction("min", np.min, lambda x, **k: x.amin(**k), distinct, False),
    *reduction("logsumexp", ops.logsumexp, lambda x, **k: x.logsumexp(**k), normal, False),
    Case("sum-rank 0", np.sum, (np.asarray(0.7),), lambda x: x.sum()),
    Case("mean-rank 0", np.mean, (np.asarray(0.7),), lambda x: x.mean()),
    Case("max-rank 0", np.max, (np.asarray(0.7),), lambda x: x.max()),
    Case("logsumexp-rank 0", ops.logsumexp, (np.asarray(0.7),), lambda x: x.logsumexp(())),
    Case("sum-stride 0", lambda x: x.sum(axis=0), (np.broadcast_to(normal(3), (2, 3)),), lambda x: x.sum(0)),
    Case("var-ddof 1", lambda x: np.var(x, axis=1, ddof=1), (normal(2, 3, 2),), lambda x: x.var(1)),
    Case("std", lambda x: np.std(x, axis=(0, 1)), (normal(2, 3, 2),), lambda x: x.std((0, 1), correction=0)),
    Case("std-ddof 1", lambda x: ops.std(x, -1, 1, True), (normal(2, 3),), lambda x: x.std(-1, keepdim=True)),
    Case("cumsum-axis 1", lambda x: np.cumsum(x, 1), (normal(2, 3, 2),), lambda x: x.cumsum(1)),
    Case("cumsum-axis -1", lambda x: x.cumsum(-1), (normal(2, 3),), lambda x: x.cumsum(-1)),
    Case("cumsum-flat", lambda x: np.cumsum(x), (normal(3, 2).T,), lambda x: x.flatten().cumsum(0)),
    Case("cumsum-size 0", lambda x: np.cumsum(x, 0), (normal(0, 2),), lambda x: x.cumsum(0)),
]  # fmt: skip

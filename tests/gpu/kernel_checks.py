"""Every kernel beside the definition of its op: the same checks in the simulator, at tiny sizes, and on a
GPU.

The reference is the definition in float64 on NumPy arrays. A check returns the error of the value and of
the gradients: the largest difference, relative to the largest entry, or to 1 if all entries are smaller.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygen import ops
from tinygen.backward import unbroadcast
from tinygen.kernels.registry import op_of
from tinygen.ops.activation import apply_dropout
from tinygen.ops.conv import convolution, correlation, transposed_convolution
from tinygen.ops.loss import token_losses
from tinygen.ops.random import Seed, normal, uniform
from tinygen.ops.window import Geometry, fold, unfold
from tinygen.optim.fused import ADAM
from tinygen.tensor import Array, Tensor

Put = Callable[[np.ndarray[Any, Any]], Array]
"""Puts a NumPy array where the kernels run: `cupy.asarray`, or nothing to do in the simulator."""


class Result(NamedTuple):
    what: str
    shape: tuple[int, ...]
    error: float  # inf when an entry is not finite, or shape and dtype are wrong


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """New float arrays hold NaN, so that an entry that no thread has written is seen."""
    original = np.empty_like

    def empty_like(x: Any, **kwargs: Any) -> Any:
        y = original(x, **kwargs)
        if y.dtype.kind == "f":
            y[...] = math.nan
        return y

    np.empty_like = empty_like  # type: ignore[assignment]
    try:
        yield
    finally:
        np.empty_like = original


def on_cpu(x: Any) -> Any:
    return x.get() if hasattr(x, "get") else x


def in_float32(x: Any, put: Put) -> Any:
    """An argument for the kernel, of one for the definition."""
    if not isinstance(x, np.ndarray):
        return x
    return put(x.astype(np.float32) if x.dtype.kind == "f" else x)


def distance(what: str, ours: Any, reference: Any) -> Result:
    ours, shape = on_cpu(ours), np.shape(reference)
    if ours.dtype != np.float32 or ours.shape != shape or not np.isfinite(ours).all():
        return Result(what, shape, math.inf)
    largest = np.abs(reference).max(initial=1)
    return Result(what, shape, float(np.abs(ours - reference).max(initial=0) / largest))


def spread(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Numbers of which no row is almost constant: norms would divide rounding errors by almost nothing."""
    return rng.standard_normal(shape) + 4 * (np.arange(shape[-1]) % 2)


def gradients(rules: Any, g: Array) -> tuple[Any, ...]:
    """The gradients by an op's rules, which are one function for all inputs, or one function for each
    input."""
    if len(rules) > 1:
        return tuple(rule and rule(g) for rule in rules)
    together = rules[0](g)
    return together if isinstance(together, tuple) else (together,)


def compare(
    kernel: Callable[..., Any],
    op: Callable[..., Any],
    *args: Any,
    put: Put,
    rng: np.random.Generator,
    **kwargs: Any,
) -> list[Result]:
    """The kernel beside the definition of `op`: its value, and its gradient by each argument that is a float
    array."""
    with poisoned():
        found = kernel(*(in_float32(x, put) for x in args), **kwargs)
        if found is NotImplemented:
            return [Result("taken", (), math.inf)]
        value, *rules = found
        expected, *expected_rules = op_of(op).body(*args, **kwargs)
        g = rng.standard_normal(expected.shape)
        ours, theirs = gradients(rules, in_float32(g, put)), gradients(expected_rules, g)
    results = [distance("value", value, expected)]
    for i, x in enumerate(args):
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            results.append(distance(f"gradient {i}", ours[i], unbroadcast(theirs[i], Tensor(x))))
    return results


# -- one check a kernel: sizes in, results out -----------------------------------------------------

Check = Callable[..., list[Result]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


@check
def reduce(kernels: Any, put: Put, rng: np.random.Generator, n: int, channels: int) -> list[Result]:
    """The sums and the maxima of rows."""
    x = rng.standard_normal((n, channels))
    on_device, of = in_float32(x, put), kernels.reduce
    with poisoned():
        return [
            distance("sums", of.sum_rows(on_device), x.sum(axis=1)),
            distance("maxima", of.max_rows(on_device), x.max(axis=1)),
        ]


@check
def softmax(kernels: Any, put: Put, rng: np.random.Generator, n: int, channels: int) -> list[Result]:
    x = 3 * rng.standard_normal((n, channels))
    return compare(kernels.softmax.softmax, ops.softmax, x, put=put, rng=rng)


@check
def layer_norm(kernels: Any, put: Put, rng: np.random.Generator, n: int, channels: int) -> list[Result]:
    x, (weight, bias) = spread(rng, n, channels), rng.standard_normal((2, channels))
    body = ops.layer_norm
    return compare(kernels.layer_norm.layer_norm, body, x, weight, bias, put=put, rng=rng)


@check
def group_norm(
    kernels: Any, put: Put, rng: np.random.Generator, n: int, groups: int, per_group: int, size: int
) -> list[Result]:
    channels = groups * per_group
    x, (weight, bias) = spread(rng, n, channels, size), rng.standard_normal((2, channels))
    body = ops.group_norm
    return compare(kernels.group_norm.group_norm, body, x, groups, weight, bias, put=put, rng=rng)


@check
def gelu(kernels: Any, put: Put, rng: np.random.Generator, n: int) -> list[Result]:
    x, body = 3 * rng.standard_normal(n), ops.gelu
    results = [
        compare(kernels.gelu.gelu, body, x, approximate=kind, put=put, rng=rng) for kind in ("none", "tanh")
    ]
    return results[0] + results[1]


@check
def cross_entropy(kernels: Any, put: Put, rng: np.random.Generator, n: int, classes: int) -> list[Result]:
    logits, targets = 3 * rng.standard_normal((n, classes)), rng.integers(classes, size=n)
    targets[: n // 4] = -100
    kernel, body = kernels.cross_entropy.token_losses, token_losses
    return compare(kernel, body, logits, targets, -100, 0.0, put=put, rng=rng)


@check
def embedding(
    kernels: Any, put: Put, rng: np.random.Generator, n: int, channels: int, rows: int
) -> list[Result]:
    x, ids = rng.standard_normal((n, channels)), rng.integers(rows, size=n)
    kernel, body = kernels.embedding.scatter_add, ops.scatter_add
    return compare(kernel, body, x, ids, (rows, channels), put=put, rng=rng)


@check
def columns(
    kernels: Any,
    put: Put,
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    geometry: Geometry,
) -> list[Result]:
    """`unfold` and `fold`."""
    x = rng.standard_normal(shape)
    unfolded = unfold(x, kernel, geometry)
    c = rng.standard_normal(unfolded.shape)
    with poisoned():
        ours = kernels.im2col.unfold(in_float32(x, put), kernel, geometry)
        back = kernels.im2col.fold(in_float32(c, put), shape[0], shape[2:], kernel, geometry)
    folded = fold(c, shape[0], shape[2:], kernel, geometry)
    return [distance("unfold", ours, unfolded), distance("fold", back, folded)]


@check
def convolutions(
    kernels: Any,
    put: Put,
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    out: int,
    kernel: tuple[int, int],
    geometry: Geometry,
) -> list[Result]:
    """The three ops of a convolution, each of which is the gradient of another."""
    size, of = shape[2:], kernels.im2col
    x, weight = rng.standard_normal(shape), rng.standard_normal((out, shape[1] // geometry.groups, *kernel))
    y = rng.standard_normal((shape[0], out, *geometry.positions(size, kernel)))
    beside: Any = {"put": put, "rng": rng}
    return [
        *compare(of.convolution, convolution, x, weight, rng.standard_normal(out), geometry, **beside),
        *compare(
            of.transposed_convolution,
            *(transposed_convolution, y, weight, rng.standard_normal(shape[1]), size, geometry),
            **beside,
        ),
        *compare(of.correlation, correlation, x, y, kernel, geometry, **beside),
    ]


@check
def adam(kernels: Any, put: Put, rng: np.random.Generator, n: int) -> list[Result]:
    p, g, m = rng.standard_normal((3, n))
    four = p, g, m, rng.random(n)
    numbers = {"rates": [0.01], "epsilons": [1e-6], "keep": 0.99, "decay": 0.1, "betas": (0.9, 0.999)}
    ours = [in_float32(x, put) for x in four]
    if kernels.adam.adam(*ours, **numbers) is NotImplemented:
        return [Result("taken", (), math.inf)]
    ADAM.body(*four, **numbers)
    return [distance(name, a, b) for name, a, b in zip("pgmv", ours, four, strict=True)]


@check
def philox(kernels: Any, put: Put, rng: np.random.Generator, n: int) -> list[Result]:
    """Uniform and normal numbers, and dropout with its gradient, by one seed."""
    x, seed, of = rng.standard_normal(n), Seed(rng.integers(2**63)), kernels.philox
    like = in_float32(x, put)
    with poisoned():
        ours = of.uniform(like, (n,), seed) + of.normal(like, (n,), seed)
    return [
        *map(distance, ("uniform", "normal"), ours, (*uniform(x, (n,), seed), *normal(x, (n,), seed))),
        *compare(of.apply_dropout, apply_dropout, x, 0.3, seed, put=put, rng=rng),
    ]


@check
def attention(
    kernels: Any,
    put: Put,
    rng: np.random.Generator,
    heads: int,
    queries: int,
    keys: int,
    width: int,
    causal: bool,
) -> list[Result]:
    """By products, also with dropout, and tile by tile."""
    q, (k, v) = rng.standard_normal((heads, queries, width)), rng.standard_normal((2, heads, keys, width))
    body = ops.attention
    by_products, seed = kernels.attention.attention, Seed(rng.integers(2**63))
    by_tiles = lambda *qkv, causal: kernels.flash.flash(*qkv, causal)
    return [
        *compare(by_products, body, q, k, v, causal=causal, put=put, rng=rng),
        *compare(by_products, body, q, k, v, causal=causal, dropout=0.3, seed=seed, put=put, rng=rng),
        *compare(by_tiles, body, q, k, v, causal=causal, put=put, rng=rng),
    ]

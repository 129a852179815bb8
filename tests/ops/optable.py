"""A case is one way to call one op; this file makes inputs for cases and runs them.

The cases themselves are in `cases_*.py`; `test_every_op.py` runs them all through the same checks, and
`on_gpu.py` compares a GPU with the CPU. Inputs that are float64 arrays are differentiated; others (ints,
bools) are passed as they are. They cover ranks 0 to 4, axes of size 0 and 1, broadcasting, and arrays that
are transposed, reversed, cut out or repeated with stride 0; they stay away from kinks and from the ends of
domains.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygen import Tensor

try:
    import torch
except ImportError:  # the counterparts are called only where torch is there
    torch = None


class Case(NamedTuple):
    name: str  # "op-what is special about it"
    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    torch: Callable[..., Any] | None = None


# -- inputs ----------------------------------------------------------------------------------------

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def positive(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(z) + 0.3)


def off_zero(z: np.ndarray) -> np.ndarray:
    return np.asarray(z + np.where(z < 0, -0.1, 0.1))


def distinct(*shape: int) -> np.ndarray:
    """No two entries closer than 0.1: for max, min and the like."""
    return rng.permutation(np.prod(shape, dtype=int)).reshape(shape) * 0.1 - 0.35


def layouts(domain: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for shape in [(), (3,), (2, 1, 3), (2, 1, 2, 2), (0,), (2, 0, 3)]:
        yield str(shape), np.asarray(domain(normal(*shape)))
    yield "transposed", domain(normal(3, 2)).T
    yield "reversed", domain(normal(2, 3))[::-1, ::-1]
    yield "cut out", domain(normal(3, 4))[1:, ::2]
    yield "stride 0", np.broadcast_to(domain(normal(3)), (2, 3))


def unary(name: str, f: Any, reference: str | Callable[..., Any], domain: Any = lambda z: z) -> list[Case]:
    def in_torch(x: Any) -> Any:
        return getattr(torch, reference)(x) if isinstance(reference, str) else reference(x)

    return [Case(f"{name}-{what}", f, (x,), in_torch) for what, x in layouts(domain)]


# -- calling a case --------------------------------------------------------------------------------


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def in_dtype(x: Any, dtype: Any) -> Any:
    """Floating-point arrays in `dtype`, in their own strides and read-only; others as they are."""
    if not is_float(x):
        return x
    y = x if x.dtype == dtype else strided_like(x, x.astype(dtype))
    y = y.view()
    y.flags.writeable = False
    return y


def strided_like(x: np.ndarray, values: Any) -> Any:
    """A copy of `values`, which may be on a GPU, that steps through memory as x does: in x's order of axes,
    backwards or on the spot (stride 0) where x does; twice as far where x is a cut-out."""
    if x.size == 0 or x.flags.c_contiguous:
        return values.copy(order="C").reshape(x.shape)
    order = np.argsort([-abs(s) for s in x.strides], kind="stable")
    moving = tuple(1 if x.strides[i] == 0 else 2 * x.shape[i] for i in order)
    buffer = np.zeros_like(values, shape=moving).transpose(*np.argsort(order).tolist())
    steps = tuple(slice(None, None, -2) if s < 0 else slice(None, None, 2) for s in x.strides)
    view = buffer[steps]
    view[...] = values[tuple(slice(0, 1) if s == 0 else slice(None) for s in x.strides)]
    return np.broadcast_to(view, x.shape)


def tensors(inputs: tuple[Any, ...], dtype: Any) -> list[Any]:
    return [Tensor(in_dtype(x, dtype), requires_grad=is_float(x)) for x in inputs]


def outputs(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def total(values: list[Any], weights: list[Any]) -> Any:
    """Σ <value, weight>: one number, through which every output gets its own gradient."""
    products = [(v * w).sum() for v, w in zip(values, weights, strict=True)]
    return sum(products[1:], start=products[0])

"""Golden values: expected results of a network, computed once by the library that it follows.

Weights, inputs and cotangents are sines, so that only results need to be stored: for each output a few of
its entries and its product with a sine, for each gradient its product with a sine. `make.py`, which needs
the libraries, writes them to `values.json`; `test_golden.py` needs no library."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygen import Tensor, nn


def wave(*shape: int, k: int = 0, scale: float = 1.0) -> np.ndarray:
    """Numbers (float64) within ±scale that look like none of the others, for k = 0, 1, 2, ..."""
    size = int(np.prod(shape, dtype=int))
    waves = scale * np.sin(0.4 + 1.3 * k + (2.1 + 0.17 * (k % 13)) * np.arange(size))
    return waves.reshape(shape)


def filled(module: nn.Module, scale: float = 0.5) -> nn.Module:
    """The module in float64, its parameters and buffers the waves 1, 2, 3, ...; variances are positive."""
    module.astype(np.float64)
    for k, (name, p) in enumerate([*module.named_parameters(), *module.named_buffers()], 1):
        values = wave(*p.shape, k=k, scale=scale)
        p.data = np.abs(values) + scale if name.endswith("running_var") else values
    return module


class Case(NamedTuple):
    """A module with its inputs, or (`make` is None) a function of the inputs. `call(module, *inputs)` returns
    an output or several. Inputs in float64 are differentiated."""

    make: Callable[[], nn.Module] | None
    inputs: tuple[Any, ...]
    call: Callable[..., Any] = lambda module, *inputs: module(*inputs)
    tolerance: float = 1e-9


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def outputs(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple | list) else [y]


def digest(y: np.ndarray) -> list[float]:
    """An output in at most nine numbers."""
    flat = np.asarray(y, np.float64).ravel()
    if flat.size <= 8:
        return flat.tolist()
    return [float(flat @ wave(flat.size)), *flat[:: -(-flat.size // 8)].tolist()]


def found(case: Case) -> dict[str, list[Any]]:
    """The results of tinygen for a case, in the form of `values.json`."""
    module = filled(case.make()) if case.make else None
    inputs = [Tensor(x, requires_grad=True) if is_float(x) else x for x in case.inputs]
    ys = outputs(case.call(*([module] if module else []), *inputs))
    live = [(k, y) for k, y in enumerate(ys) if isinstance(y, Tensor) and y.requires_grad]
    if live:
        sum((y * wave(*y.shape, k=50 + k)).sum() for k, y in live).backward()
    weights = [p for _, p in module.named_parameters()] if module else []
    product = lambda p: None if p.grad is None else float((p.grad * wave(*p.shape, k=7)).sum())
    return {
        "outputs": [digest(y.numpy() if isinstance(y, Tensor) else y) for y in ys],
        "inputs": [product(x) for x in inputs if isinstance(x, Tensor)],
        "weights": [product(p) for p in weights],
    }

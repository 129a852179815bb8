"""linear with its bias added in place, and the bias's gradient as a product with ones (BLAS)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import are_float32, kernels
from tinygen.ops.linalg import as_matrix
from tinygen.tensor import Array


@kernels.register(ops.linear)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    if not are_float32(weight, bias):
        return NotImplemented
    flat, shape = as_matrix(x), x.shape
    y = flat @ weight.T
    if bias is not None:
        y += bias
    return (
        y.reshape(*shape[:-1], len(weight)),
        lambda g: (as_matrix(g) @ weight).reshape(shape),
        lambda g: as_matrix(g).T @ flat,
        lambda g: np.ones(len(flat), np.float32) @ as_matrix(g),
    )

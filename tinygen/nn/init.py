"""Initial weights: float32 arrays of a given shape, drawn from a generator.

Glorot & Bengio 2010, *Understanding the difficulty of training deep feedforward neural networks*;
He et al. 2015, *Delving deep into rectifiers* (arXiv:1502.01852); Saxe et al. 2013, *Exact solutions to
the nonlinear dynamics of learning in deep linear neural networks* (arXiv:1312.6120).

`fan_in` is the number of inputs that are summed into one output, `fan_out` the number of outputs that one
input contributes to. Each scheme chooses the variance so that the size of signals, or of gradients, stays
the same from layer to layer. To initialize again: `layer.weight.data = init.normal(layer.weight.shape,
std=0.02, rng=rng)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinygen.ops.random import RNGLike, as_generator
from tinygen.types import Float32s, Shape


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel): a Linear's or a convolution's."""
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out need a weight of shape (out, in, ...), got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


SKIPPED: ContextVar[bool] = ContextVar("tinygen_init_skipped", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """`with init.skipped():` nothing is drawn, and every new Parameter is zeros that take no memory and
    cannot be written into. For a model whose arrays are then read from a file."""
    token = SKIPPED.set(True)
    try:
        yield
    finally:
        SKIPPED.reset(token)


def uniform(shape: Shape, bound: float, *, rng: RNGLike) -> Float32s:
    """Uniform on [-bound, bound)."""
    if SKIPPED.get():
        return np.broadcast_to(np.float32(0), shape)
    drawn = as_generator(rng).random(shape, dtype=np.float32)
    drawn *= np.float32(2 * bound)
    drawn -= np.float32(bound)
    return drawn


def normal(shape: Shape, std: float = 1.0, *, rng: RNGLike) -> Float32s:
    """Normal with mean 0 and this standard deviation."""
    if SKIPPED.get():
        return np.broadcast_to(np.float32(0), shape)
    drawn = as_generator(rng).standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(std)
    return drawn


def fan_in_uniform(shape: Shape, fan_in: int, *, rng: RNGLike) -> Float32s:
    """Uniform in ±1/sqrt(fan_in); the variance is 1/(3 fan_in). The initialization of weight and bias in
    Linear, Conv1d and Conv2d, in PyTorch and here."""
    return uniform(shape, 1 / math.sqrt(fan_in) if fan_in else 0.0, rng=rng)


def xavier_uniform(shape: Shape, gain: float = 1.0, *, rng: RNGLike) -> Float32s:
    """Uniform within ±gain·sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Eq.: W ~ U(-a, a),  a = gain √(6 / (fan_in + fan_out))  (Glorot & Bengio 2010, eq. 16)
    Held by: tests/nn/test_init.py::test_uniform_draws_have_their_range_and_variance
    """
    return uniform(shape, gain * math.sqrt(6 / sum(fans(shape))), rng=rng)


def xavier_normal(shape: Shape, gain: float = 1.0, *, rng: RNGLike) -> Float32s:
    """Normal with variance gain²·2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 12)."""
    return normal(shape, gain * math.sqrt(2 / sum(fans(shape))), rng=rng)


def kaiming_uniform(shape: Shape, *, rng: RNGLike) -> Float32s:
    """Uniform within ±sqrt(6 / fan_in): the variance 2 / fan_in of He et al. 2015, eq. 10, for ReLU."""
    return uniform(shape, math.sqrt(6 / fans(shape)[0]), rng=rng)


def kaiming_normal(shape: Shape, mode: str = "fan_in", *, rng: RNGLike) -> Float32s:
    """Normal with variance 2 / fan_in, which keeps signals through ReLUs (He et al. 2015, eq. 10), or
    2 / fan_out with `mode="fan_out"`, which keeps gradients (eq. 14).

    Eq.: W ~ N(0, 2 / fan_in)  (He et al. 2015, eq. 10)
    Held by: tests/nn/test_init.py::test_normal_draws_have_their_variance,
        tests/nn/test_init.py::test_kaiming_keeps_the_signal_through_relu_layers
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'kaiming_normal: mode must be "fan_in" or "fan_out", got {mode!r}')
    fan_in, fan_out = fans(shape)
    return normal(shape, math.sqrt(2 / (fan_in if mode == "fan_in" else fan_out)), rng=rng)


def orthogonal(shape: Shape, gain: float = 1.0, *, rng: RNGLike) -> Float32s:
    """gain times a random matrix with orthonormal rows, or with orthonormal columns if it has fewer columns
    than rows. The axes after the first are flattened into one (Saxe et al. 2013, section 3). The matrix is
    uniform over all such matrices: it is Q of the QR decomposition of a normal matrix, with the signs of R's
    diagonal moved into Q (Mezzadri 2007, arXiv:math-ph/0609050)."""
    if len(shape) < 2:
        raise ValueError(f"orthogonal needs a weight of shape (out, in, ...), got {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    draws = as_generator(rng).standard_normal((max(rows, columns), min(rows, columns)), dtype=np.float32)
    q: Any
    q, r = np.linalg.qr(draws)
    q = q * np.sign(np.diagonal(r))
    q = (q if rows >= columns else q.T) * np.float32(gain)
    return np.ascontiguousarray(q.reshape(shape))


def zeros(shape: Shape) -> Float32s:
    if SKIPPED.get():
        return np.broadcast_to(np.float32(0), shape)
    return np.zeros(shape, dtype=np.float32)


def ones(shape: Shape) -> Float32s:
    return np.ones(shape, dtype=np.float32)

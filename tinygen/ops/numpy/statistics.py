"""Averages, covariances, counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.ops.compose import arrays_in, as_operand, axes_of, composition, constant, numbers_like, to_cpu
from tinygen.ops.index import scatter_add
from tinygen.tensor import Tensor
from tinygen.types import Axis, DType, TensorLike


@composition("average")
def average(
    a: TensorLike, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> TensorLike:
    """Σ w a / Σ w; with `returned`, Σ w as well. 1-D weights count along `axis`."""
    a = as_operand(a)
    if weights is None:
        y = np.mean(a, axis=axis, keepdims=keepdims)
        total = np.full_like(y, a.size / math.prod(y.shape) if y.size else 0)
    else:
        w = as_operand(weights)
        if w.shape != a.shape:
            if axis is None:
                raise TypeError("weights of another shape than a need axis=")
            axes = axes_of(axis, a.ndim)
            if w.shape != tuple(a.shape[i] for i in axes):
                raise ValueError(f"weights of shape {w.shape} do not fit axis {axis} of shape {a.shape}")
            order = sorted(range(len(axes)), key=axes.__getitem__)
            w = np.reshape(
                np.transpose(w, order), tuple(n if i in axes else 1 for i, n in enumerate(a.shape))
            )
            w = np.broadcast_to(w, a.shape)
        total = np.sum(w, axis=axis, keepdims=keepdims)
        y = np.sum(a * w, axis=axis, keepdims=keepdims) / total
    return (y, total) if returned else y


@composition("cov")
def cov(
    m: TensorLike,
    y: TensorLike | None = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: DType = None,
) -> TensorLike:
    """The covariance matrix of variables in rows (in columns with rowvar=False)."""

    def as_rows(x: TensorLike) -> TensorLike:
        x = np.atleast_2d(as_operand(x))
        return x if rowvar or x.shape[0] == 1 else x.T

    x = as_rows(m) if y is None else np.concatenate([as_rows(m), as_rows(y)])
    x = x if dtype is None else x.astype(dtype)
    ddof = (0 if bias else 1) if ddof is None else ddof
    counts = constant(fweights, "fweights")
    w = None if counts is None else numbers_like(x, to_cpu(counts))
    if aweights is not None:
        w = as_operand(aweights) if w is None else w * as_operand(aweights)
    if w is None:
        centered, n = x - np.mean(x, axis=1, keepdims=True), x.shape[1] - ddof
        return np.squeeze(centered @ np.conj(np.swapaxes(centered, 0, 1)) / n)
    total = np.sum(w)
    centered = x - np.sum(x * w, axis=1, keepdims=True) / total
    n = (
        total - ddof
        if ddof == 0 or aweights is None
        else total - ddof * np.sum(w * as_operand(aweights)) / total
    )
    return np.squeeze((centered * w) @ np.conj(np.swapaxes(centered, 0, 1)) / n)


@composition("corrcoef")
def corrcoef(
    x: TensorLike, y: TensorLike | None = None, rowvar: bool = True, *, dtype: DType = None
) -> TensorLike:
    """The covariances over both standard deviations."""
    c = np.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    s = np.sqrt(np.real(np.diagonal(c)))
    r = c / s[:, None] / s
    return r if c.dtype.kind == "c" else np.clip(r, -1, 1)


@composition("bincount")
def bincount(x: TensorLike, /, weights: Any = None, minlength: int = 0) -> TensorLike:
    """How often each integer comes; with weights, the sum of theirs, which has a gradient."""
    index = arrays_in(x)
    if weights is None:
        return Tensor(np.bincount(index, minlength=minlength))
    size = int(np.max(index)) + 1 if len(index) else 0
    return scatter_add(as_operand(weights), np.asarray(index), (size if size > minlength else minlength,))

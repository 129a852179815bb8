"""Normalisation layers: modules that hold the parameters, and the running statistics of batch norm, for the
ops in `ops/norm.py`."""

from __future__ import annotations

import math

import numpy as np

from tinygen import ops
from tinygen.nn import init
from tinygen.nn.module import Module, Parameter, cast, widen
from tinygen.rows import ROWS, batch_mean
from tinygen.tape import detach
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axis, then weight and bias: (..., C) -> (..., C)
    (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, channels: int, bias: bool = True, eps: float = 1e-5) -> None:
        self.weight = Parameter(init.ones((channels,)))
        self.bias = Parameter(init.zeros((channels,))) if bias else None
        self.eps = eps

    def forward(self, x: TensorLike) -> Tensor:
        return ops.layer_norm(cast(x, self.weight), widen(self.weight), widen(self.bias), self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.size}" + (", bias=False" if self.bias is None else "")


class RMSNorm(Module):
    """Mean square 1 over the last axis, then the weight: (..., C) -> (..., C)
    (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        self.weight = Parameter(init.ones((channels,)))
        self.eps = eps

    def forward(self, x: TensorLike) -> Tensor:
        return ops.rms_norm(cast(x, self.weight), widen(self.weight), self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.size}"


class GroupNorm(Module):
    """Mean 0 and variance 1 over each of `groups` groups of channels and all positions, then weight and
    bias per channel: (N, C, ...) -> (N, C, ...) (Wu & He 2018, arXiv:1803.08494).

    Raises ValueError when the channels cannot be split into equal groups."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        if groups < 1 or channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels cannot be split into {groups} equal groups")
        self.weight = Parameter(init.ones((channels,)))
        self.bias = Parameter(init.zeros((channels,)))
        self.groups = groups
        self.eps = eps

    def forward(self, x: TensorLike) -> Tensor:
        weight, bias = widen(self.weight), widen(self.bias)
        return ops.group_norm(cast(x, self.weight), self.groups, weight, bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.weight.size}"


class BatchNorm(Module):
    """Mean 0 and variance 1 per channel over the batch and all positions, then weight and bias:
    (N, C, ...) -> (N, C, ...) (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Training normalizes by the batch's statistics and updates the running ones, in PyTorch's convention:
    running = (1 - momentum)·running + momentum·batch, with the unbiased variance. Evaluation normalizes by
    the running ones (Algorithm 2).

    Raises ValueError in training when there is only one value per channel: its variance is 0.

    Eq.: running ← (1 - momentum) running + momentum · batch
        (Ioffe & Szegedy 2015, algorithm 2, as PyTorch counts momentum)
    Held by: tests/nn/test_layers.py::test_batch_norm_keeps_unbiased_running_statistics_by_torch_s_momentum
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.weight = Parameter(init.ones((channels,)))
        self.bias = Parameter(init.zeros((channels,)))
        self.register_buffer("running_mean", init.zeros((channels,)))
        self.register_buffer("running_var", init.ones((channels,)))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: TensorLike) -> Tensor:
        x = cast(x, self.weight)
        if self.training:
            self.record(detach(x))
            return ops.batch_norm(x, widen(self.weight), widen(self.bias), self.eps)
        scale = widen(self.weight) * ops.rsqrt(widen(self.running_var) + self.eps)
        shift = self.bias - self.running_mean * scale
        per_channel = (len(scale),) + (1,) * (x.ndim - 2)
        return x * scale.reshape(per_channel) + shift.reshape(per_channel)

    def record(self, x: Tensor | Array) -> None:
        """Update the running statistics with this batch. A batch that contains NaN or infinity is skipped,
        because a running mean would keep it forever."""
        array = x.data if isinstance(x, Tensor) else x
        over = (0, *range(2, array.ndim))
        rows = ROWS.get()
        whole = len(array) if rows is None else rows.whole
        count = whole * math.prod(array.shape[i] for i in over[1:])
        if count < 2:
            raise ValueError(
                f"BatchNorm: input of shape {array.shape} has {count} value(s) per channel, and training "
                "needs two or more: use larger batches, another norm, or eval()"
            )
        mean_of = batch_mean()
        mean = mean_of(array, axis=over)
        if rows is None:
            variance = array.var(axis=over, ddof=1)
        else:
            from_mean = array - mean.reshape(-1, *(1,) * (array.ndim - 2))
            variance = mean_of(from_mean**2, axis=over) * (count / (count - 1))
        usable = np.isfinite(variance).all()  # then the mean is finite, too
        for running, batch in ((self.running_mean, mean), (self.running_var, variance)):
            step = self.momentum * (batch - running.data)
            running.data += np.where(usable, step, np.zeros_like(step))

    def extra_repr(self) -> str:
        return f"{self.weight.size}"

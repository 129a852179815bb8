"""Denoiser: a perceptron that says what is in a noisy point, for diffusion in a few dimensions.

A perceptron of plain coordinates learns smooth functions first, and what it should say near the data is not
smooth: it turns within one std of the data. Sines and cosines of the coordinates at rising frequencies bring
the fine scales within reach (Tancik et al. 2020, "Fourier features", arXiv:2006.10739).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.nn.timesteps import timestep_embedding
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import TensorLike

TIME_CHANNELS = 64


class Denoiser(nn.Module):
    """Points x (B, D) at steps t (B,) -> a prediction (B, D), by `depth` hidden layers.

    `waves` is the number of frequencies 1, 2, 4, ... (radians per unit) at which it sees each coordinate,
    besides the coordinate itself. The step enters the first layer."""

    def __init__(
        self, dim: int = 2, width: int = 128, depth: int = 3, waves: int = 4, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        if depth < 1:
            raise ValueError(f"depth must be at least 1 hidden layer, got {depth}")
        self.frequencies = 2.0 ** np.arange(waves)
        self.point = nn.Linear(dim * (1 + 2 * waves), width, rng=rng)
        self.time = nn.Linear(TIME_CHANNELS, width, bias=False, rng=rng)
        self.hidden = nn.ModuleList([nn.Linear(width, width, rng=rng) for _ in range(depth - 1)])
        self.out = nn.Linear(width, dim, rng=rng)

    def features(self, x: TensorLike) -> Any:
        """x (B, D) with its sines and cosines, (B, D·(1 + 2·waves)), in the dtype of the weights."""
        angles = (x[:, :, None] * on_device_of(x, self.frequencies)).reshape(len(x), -1)  # (B, D·waves)
        return np.concatenate([x, np.sin(angles), np.cos(angles)], axis=1).astype(self.point.weight.dtype)

    def forward(self, x: TensorLike, t: Any) -> Tensor:
        """Points x (B, 2) at time steps t (B,) -> the prediction (B, 2)."""
        time = self.time(on_device_of(self.time.weight, timestep_embedding(t, TIME_CHANNELS)))
        h = ops.silu(self.point(self.features(x)) + time)  # (B, W)
        for layer in self.hidden:
            h = ops.silu(layer(h))
        return self.out(h)

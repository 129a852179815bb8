"""Denoiser: a perceptron that predicts the noise in noisy points, for diffusion in a few dimensions.

A perceptron of plain coordinates learns smooth functions first. But near the data the best prediction changes
within one standard deviation of the data. Sines and cosines of the coordinates at rising frequencies make
such fine scales easy to learn (Tancik et al. 2020, "Fourier features", arXiv:2006.10739)."""

from __future__ import annotations

import numpy as np

from tinygen import nn, ops
from tinygen.nn.timesteps import timestep_embedding
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import IdsLike, TensorLike

TIME_CHANNELS = 64


class Denoiser(nn.Module):
    """Points x (B, D) at steps t (B,) -> a prediction (B, D), by `layers` hidden layers of width `channels`.

    Besides each coordinate it sees its sines and cosines at `waves` frequencies 1, 2, 4, ... (radians per
    unit). The timestep embedding is added in the first layer. Raises ValueError for less than one layer."""

    def __init__(
        self, dim: int = 2, channels: int = 128, layers: int = 3, waves: int = 4, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        if layers < 1:
            raise ValueError(f"layers must be at least 1 hidden layer, got {layers}")
        self.frequencies = 2.0 ** np.arange(waves)
        self.point = nn.Linear(dim * (1 + 2 * waves), channels, rng=rng)
        self.time = nn.Linear(TIME_CHANNELS, channels, bias=False, rng=rng)
        self.hidden = nn.ModuleList([nn.Linear(channels, channels, rng=rng) for _ in range(layers - 1)])
        self.out = nn.Linear(channels, dim, rng=rng)

    def features(self, x: TensorLike) -> TensorLike:
        """x (B, D) with its sines and cosines, (B, D·(1 + 2·waves)), in the dtype of the weights."""
        angles = (x[:, :, None] * on_device_of(x, self.frequencies)).reshape(len(x), -1)  # (B, D·waves)
        return np.concatenate([x, np.sin(angles), np.cos(angles)], axis=1).astype(self.point.weight.dtype)

    def forward(self, x: TensorLike, t: IdsLike) -> Tensor:
        """Points x (B, D) and the numbers of their steps t (B,) -> the prediction (B, D)."""
        time = self.time(on_device_of(self.time.weight, timestep_embedding(t, TIME_CHANNELS)))
        h = ops.silu(self.point(self.features(x)) + time)  # (B, C)
        for layer in self.hidden:
            h = ops.silu(layer(h))
        return self.out(h)

"""Sinusoidal embeddings of timesteps: a vector for the number of a diffusion step."""

from __future__ import annotations

import math

import numpy as np

from tinygen.ops.compose import as_operand, on_device_of
from tinygen.types import IdsLike, TensorLike


def timestep_embedding(t: IdsLike, channels: int, max_period: float = 10000.0) -> TensorLike:
    """Cosines and sines of t (B,) at frequencies max_period^(-i/half), i = 0 ... half - 1, where half =
    channels / 2: (B, channels), float32, on the device of t, the cosines first. t need not be a whole number.
    Raises ValueError for an odd number of channels.

    The idea comes from the Transformer (Vaswani et al. 2017, section 3.5). Three layouts are in use, and
    weights that were trained with one are useless with another:
    - cos before sin, exponents i/half: here, and in Improved DDPM and latent diffusion. diffusers calls it
      `flip_sin_to_cos=True, freq_shift=0`;
    - sin before cos, exponents i/(half - 1): DDPM's own code. In diffusers `False, 1`;
    - sin and cos alternating, exponents i/half: the Transformer's paper.
    """
    half, odd = divmod(channels, 2)
    if odd:
        raise ValueError(f"half of the channels are cosines, half are sines: {channels} is odd")
    frequencies = np.exp(-math.log(max_period) * np.arange(half) / half)
    t = as_operand(t)
    angles = t.astype(np.float64)[:, None] * on_device_of(t, frequencies)  # (B, half)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

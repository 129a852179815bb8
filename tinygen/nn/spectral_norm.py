"""SpectralNorm: a layer whose weight is divided by its largest singular value σ (Miyato et al. 2018,
*Spectral normalization for generative adversarial networks*, arXiv:1802.05957).

A linear map lengthens no vector by more than σ. So a discriminator whose layers are divided by their σ, with
activations of slope at most 1, is not steeper than 1 anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.nn import init
from tinygen.nn.conv import Conv
from tinygen.nn.linear import Embedding, Linear
from tinygen.nn.module import Module, Parameter
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike

WARM_UP = 15
"""Steps of the power iteration when the layer is made, as in PyTorch."""


class SpectralNorm(Module):
    """`layer`, a Linear, an Embedding or a convolution, with the weight W/σ in place of W; the bias stays as
    it is. The weight of a convolution counts as a matrix (out, in·kernel).

    σ = uᵀWv, where the power iteration approximates the singular vectors u and v. Both are buffers, so that
    each forward pass in training needs only one step: the weight changes little from pass to pass. In
    evaluation mode they do not change. No gradient flows through u and v. The gradient of σ is still right
    if they are the singular vectors: ∂σ/∂W = uvᵀ.

    Raises TypeError for another kind of layer.

    Eq.: v ← Wᵀu / |Wᵀu|,  u ← Wv / |Wv|,  σ = uᵀWv  (Miyato et al. 2018, algorithm 1)
    Held by: tests/nn/test_spectral_norm.py::test_sigma_is_the_largest_singular_value,
        tests/nn/test_spectral_norm.py::test_parity_with_torch
    """

    u: Tensor
    v: Tensor

    def __init__(self, layer: Linear | Embedding | Conv, *, rng: RNGLike) -> None:
        if not isinstance(layer, Linear | Embedding | Conv):
            raise TypeError(f"SpectralNorm takes a layer with a weight, got {type(layer).__name__}")
        self.layer = layer
        self.bias: Parameter | None = getattr(layer, "bias", None)
        if self.bias is not None:
            layer.bias = None  # without it, the layer's output is linear in its weight
        rows, columns = self.matrix().shape
        rng = as_generator(rng)
        self.register_buffer("u", unit_vector(init.normal((rows,), rng=rng)))
        self.register_buffer("v", unit_vector(init.normal((columns,), rng=rng)))
        for _ in range(WARM_UP):
            self.iterate()

    def matrix(self) -> Any:
        """The weight as a matrix W (out, in·kernel); of an Embedding (ids, dim)."""
        weight: Any = self.layer.weight
        if getattr(self.layer, "transposed", False):
            weight = weight.swapaxes(0, 1)
        return weight.reshape(len(weight), -1)

    def iterate(self) -> None:
        """One step of the power iteration. The arrays are new ones, because the tape keeps the old ones."""
        w = self.matrix().data
        self.v.data = unit_vector(w.T @ self.u.data)
        self.u.data = unit_vector(w @ self.v.data)

    def sigma(self) -> Tensor:
        """uᵀWv, differentiable in the weight: of shape ()."""
        sigma: Tensor = self.u.data @ self.matrix() @ self.v.data
        return sigma

    def forward(self, x: TensorLike) -> Tensor:
        if self.training:
            self.iterate()
        y = self.layer(x) / self.sigma()
        if self.bias is None:
            return y
        axes = (1,) * self.layer.axes if isinstance(self.layer, Conv) else ()
        return y + self.bias.reshape(len(self.bias), *axes)  # a bias for each channel


def unit_vector(x: Array) -> Array:
    """The vector x, divided by its length."""
    return x / np.maximum(np.linalg.norm(x), np.finfo(x.dtype).tiny)

"""Generators and discriminators of adversarial networks, for points and for pictures (Goodfellow et al. 2014,
arXiv:1406.2661; their losses are in `gan_losses.py`).

A generator makes points or pictures from noise z ~ N(0, 1). A discriminator gives each a number, the logit of
its probability to be real. `DenseGenerator` and `DenseDiscriminator` are perceptrons; `ConvGenerator` and
`ConvDiscriminator` double or halve the side by convolutions of stride 2, as DCGAN does (Radford et al. 2015,
arXiv:1511.06434). DCGAN's batch norm is left out: with a penalty, networks train without it (Mescheder et al.
2018), and the penalties need a discriminator that looks at each picture alone.

With `classes` the networks also take labels. The generator adds a vector of the class to its first layer, and
the discriminator compares its features with a vector of the class: the projection discriminator (Miyato &
Koyama 2018, *cGANs with projection discriminator*, arXiv:1802.05637).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, TensorLike

SMALLEST = 4
"""The side of the smallest feature maps."""


def check_labels(classes: int, labels: Ids | None) -> None:
    """Raise ValueError for labels that are missing, or that a network without classes gets."""
    if (labels is None) == (classes > 0):
        needed = f"labels in [0, {classes})" if classes else "no labels: it was made without classes"
        raise ValueError(f"this network needs {needed}")


# -- generators --------------------------------------------------------------------------------------


class Generator(nn.Module):
    """The part that generators have in common. `latent` is the number of entries of z; `classes` the number
    of classes, 0 for none."""

    def __init__(self, latent: int, classes: int, width: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.latent = latent
        self.classes = classes
        self.start = nn.Linear(latent, width, rng=rng)
        self.label = nn.Embedding(classes, width, rng=rng) if classes else None

    def first_layer(self, z: TensorLike, labels: Ids | None) -> Tensor:
        """The first layer, of z (B, Z) and labels (B,): (B, width)."""
        check_labels(self.classes, labels)
        h = self.start(z)
        return ops.relu(h if self.label is None else h + self.label(labels))

    @no_grad()
    def sample(self, n: int, labels: Ids | None = None, *, rng: RNGLike) -> Array:
        """n new points (n, dim) or pictures (n, in_channels, S, S), of the classes `labels` (n,) if there
        are classes. An array."""
        z = as_generator(rng).standard_normal((n, self.latent), dtype=np.float32)
        return self(np.asarray(z, like=self.start.weight.data), labels).data


class DenseGenerator(Generator):
    """z (B, latent) -> points (B, dim), by `layers` hidden layers of width `channels`. Raises ValueError for
    less than one layer."""

    def __init__(
        self,
        dim: int = 2,
        channels: int = 128,
        layers: int = 3,
        latent: int = 16,
        classes: int = 0,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        super().__init__(latent, classes, channels, rng=rng)
        self.hidden = hidden_layers(channels, layers, rng=rng)
        self.out = nn.Linear(channels, dim, rng=rng)

    def forward(self, z: TensorLike, labels: Ids | None = None) -> Tensor:
        """z (B, latent), labels (B,) if there are classes -> points (B, dim)."""
        h = self.first_layer(z, labels)  # (B, C)
        for layer in self.hidden:
            h = ops.relu(layer(h))
        return self.out(h)


class ConvGenerator(Generator):
    """z (B, latent) -> pictures (B, in_channels, S, S) in (-1, 1), S = `side` one of 8, 16, 32, ... . The
    feature maps of the last layer but one have `channels` channels; maps of half the side have twice as many.
    Raises ValueError for another side."""

    def __init__(
        self,
        in_channels: int = 1,
        side: int = 8,
        channels: int = 32,
        latent: int = 32,
        classes: int = 0,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        widths = widths_of(side, channels)[::-1]
        self.shape = (widths[0], SMALLEST, SMALLEST)
        super().__init__(latent, classes, math.prod(self.shape), rng=rng)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, rng=rng)
            for a, b in pairwise([*widths, channels])
        )
        self.out = nn.Conv2d(channels, in_channels, 3, padding=1, rng=rng)

    def forward(self, z: TensorLike, labels: Ids | None = None) -> Tensor:
        """z (B, latent), labels (B,) if there are classes -> pictures (B, in_channels, S, S)."""
        h = self.first_layer(z, labels).reshape(len(z), *self.shape)  # (B, C', 4, 4)
        for up in self.ups:
            h = ops.relu(up(h))  # (B, C, 2S', 2S')
        return ops.tanh(self.out(h))


# -- discriminators ----------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """The part that discriminators have in common: the logit of features φ(x) (B, F), and of the class y.
    With `spectral` every layer is divided by its largest singular value.

    Eq.: f(x, y) = yᵀV φ(x) + ψ(φ(x))  (Miyato & Koyama 2018, eq. 3)
    Held by: tests/models/pictures/test_gan.py::test_the_projection
    """

    def __init__(self, features: int, classes: int, spectral: bool, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.classes = classes
        normalize = normalization(spectral, rng=rng)
        self.out = normalize(nn.Linear(features, 1, rng=rng))
        self.label = normalize(nn.Embedding(classes, features, rng=rng)) if classes else None

    def features(self, x: TensorLike) -> TensorLike:
        """φ(x), (B, F)."""
        raise NotImplementedError

    def forward(self, x: TensorLike, labels: Ids | None = None) -> Tensor:
        """Points or pictures x (B, ...), labels (B,) if there are classes -> their logits (B,)."""
        check_labels(self.classes, labels)
        h = self.features(x)  # (B, F)
        logit = self.out(h)[:, 0]  # (B,)
        return logit if self.label is None else logit + (self.label(labels) * h).sum(axis=1)


class DenseDiscriminator(Discriminator):
    """Points (B, dim) -> logits (B,), by `layers` hidden layers of width `channels`. Raises ValueError for
    less than one layer."""

    def __init__(
        self,
        dim: int = 2,
        channels: int = 128,
        layers: int = 3,
        classes: int = 0,
        spectral: bool = False,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        super().__init__(channels, classes, spectral, rng=rng)
        normalize = normalization(spectral, rng=rng)
        first = nn.Linear(dim, channels, rng=rng)
        self.layers = nn.ModuleList(map(normalize, [first, *hidden_layers(channels, layers, rng=rng)]))

    def features(self, x: TensorLike) -> TensorLike:
        for layer in self.layers:
            x = ops.leaky_relu(layer(x), 0.2)  # (B, C)
        return x


class ConvDiscriminator(Discriminator):
    """Pictures (B, in_channels, S, S) -> logits (B,), S = `side` one of 8, 16, 32, ... . The first feature
    maps have half the side and `channels` channels; with half the side again there are twice as many.
    Raises ValueError for another side."""

    def __init__(
        self,
        in_channels: int = 1,
        side: int = 8,
        channels: int = 32,
        classes: int = 0,
        spectral: bool = False,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        widths = widths_of(side, channels)
        super().__init__(widths[-1] * SMALLEST**2, classes, spectral, rng=rng)
        normalize = normalization(spectral, rng=rng)
        self.downs = nn.ModuleList(
            normalize(nn.Conv2d(a, b, 4, stride=2, padding=1, rng=rng))
            for a, b in pairwise([in_channels, *widths])
        )

    def features(self, x: TensorLike) -> TensorLike:
        for down in self.downs:
            x = ops.leaky_relu(down(x), 0.2)  # (B, C, S/2, S/2)
        return x.reshape(len(x), -1)  # (B, 16C)


# -- parts -------------------------------------------------------------------------------------------


def hidden_layers(channels: int, layers: int, *, rng: np.random.Generator) -> nn.ModuleList:
    """The layers of a perceptron between its first hidden layer and its output."""
    if layers < 1:
        raise ValueError(f"layers must be at least 1 hidden layer, got {layers}")
    return nn.ModuleList(nn.Linear(channels, channels, rng=rng) for _ in range(layers - 1))


def widths_of(side: int, channels: int) -> list[int]:
    """The channels of the feature maps with 1/2, 1/4, ... of the side, down to 4."""
    levels = (side // SMALLEST).bit_length() - 1
    if levels < 1 or side != SMALLEST * 2**levels:
        raise ValueError(f"side must be one of 8, 16, 32, ..., as it is halved down to 4, got {side}")
    return [channels * 2**i for i in range(levels)]


def normalization(spectral: bool, *, rng: np.random.Generator) -> Callable[[Any], nn.Module]:
    """`nn.SpectralNorm` with this generator, or a function that leaves a layer as it is."""
    return (lambda layer: nn.SpectralNorm(layer, rng=rng)) if spectral else (lambda layer: layer)

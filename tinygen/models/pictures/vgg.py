"""VGG's convolutional layers, whose activations are features of a picture (Simonyan & Zisserman 2015,
arXiv:1409.1556). VGG-19 is `VGG(VGG19)`; other widths give smaller networks of the same shape.

Stages of 3 × 3 convolutions, each followed by a ReLU; between two stages the side is halved. Layers have the
paper's names: "conv4_2" is the second convolution of the fourth stage, and its features are those after its
ReLU. The classifier that follows in the paper is not here.

`load_torchvision` reads the weights of VGG-19 as torchvision publishes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.nn import init
from tinygen.ops.random import RNGLike, as_generator
from tinygen.storage.files import CheckpointError
from tinygen.storage.torch_files import load_torch
from tinygen.tensor import Tensor
from tinygen.types import TensorLike

VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""The channels of each convolution, stage by stage (Simonyan & Zisserman 2015, table 1, column E)."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]: torchvision's weights are for pixels with this mean and deviation."""

POOLING = {"average": ops.avg_pool2d, "max": ops.max_pool2d}

RARE = 0.1
"""Part of a layer's mean feature below which `equalize` does not enlarge a filter any more."""


class VGG(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> the features of the last layer, (B, C, H', W').

    `widths` are the channels of the convolutions, one tuple for each stage. `pooling` halves the side between
    two stages, and rounds it down: "max" as VGG was trained, "average" as Gatys et al. 2016 prefer for making
    pictures. Raises ValueError for another pooling, or a stage without layers."""

    def __init__(self, widths: Sequence[Sequence[int]], pooling: str = "average", *, rng: RNGLike) -> None:
        if pooling not in POOLING:
            raise ValueError(f"pooling must be one of {', '.join(POOLING)}, got {pooling!r}")
        if not widths or not all(widths):
            raise ValueError(f"each stage needs the width of one layer or more, got {widths}")
        rng = as_generator(rng)
        self.pooling = pooling
        self.names = [f"conv{i}_{j}" for i, row in enumerate(widths, 1) for j in range(1, len(row) + 1)]
        channels = [3, *(width for row in widths for width in row)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, rng=rng) for a, b in pairwise(channels))
        for conv in self.convs:
            conv.weight = nn.Parameter(init.kaiming_normal(conv.weight.shape, rng=rng))
            conv.bias = nn.Parameter(init.zeros(conv.bias.shape))

    def forward(self, x: TensorLike) -> Tensor:
        last = self.names[-1]
        return self.features(x, [last])[last]

    def features(self, x: TensorLike, layers: Iterable[str]) -> dict[str, Tensor]:
        """The features of `layers` by name, each (B, C, H', W') and nowhere negative, for x (B, 3, H, W) in
        [-1, 1]. Later layers are not computed. Raises ValueError for a name that no layer has, and for
        pictures too small to be halved as often."""
        wanted = set(layers)
        if unknown := wanted - set(self.names):
            raise ValueError(
                f"no layer is called {', '.join(sorted(unknown))}; there are {', '.join(self.names)}"
            )
        found: dict[str, Tensor] = {}
        h = standardized(x)
        for name, conv in self.layers():
            if len(found) == len(wanted):
                break
            h = ops.relu(conv(self.pool(name, h)))  # (B, C, H', W')
            if name in wanted:
                found[name] = h
        return found

    def layers(self) -> Iterator[tuple[str, Any]]:
        """The convolutions in order, with their names."""
        return zip(self.names, self.convs, strict=True)

    def pool(self, name: str, h: TensorLike) -> TensorLike:
        """The input (B, C, H', W') of a layer, of the features before it: halved where a stage begins."""
        if name.endswith("_1") and name != "conv1_1":
            return POOLING[self.pooling](h, 2)
        return h

    # -- scales of the filters -----------------------------------------------------------------------

    @no_grad()
    def initialize(self, pictures: TensorLike) -> None:
        """Scale and shift random filters so that before its ReLU each has mean 0 and variance 1, over
        `pictures` (B, 3, H, W) and all places (Salimans & Kingma 2016, arXiv:1602.07868, eq. 5 and 6).
        Without that, in deep layers most filters are always on or always off."""
        h = standardized(pictures)
        for name, conv in self.layers():
            h = self.pool(name, h)
            z = conv(h).data  # (B, C, H', W')
            mean, std = z.mean(axis=(0, 2, 3)), z.std(axis=(0, 2, 3))
            conv.weight.data /= std[:, None, None, None]
            conv.bias.data -= mean
            conv.bias.data /= std
            h = ops.relu(conv(h))

    @no_grad()
    def equalize(self, pictures: TensorLike) -> None:
        """Scale the filters so that the mean of each one's features is 1, over `pictures` (B, 3, H, W) and
        all places: then none outweighs the others in a sum of squares. The next layer is scaled back, so the
        features stay the same up to these factors (Gatys et al. 2016, section 2). A filter that is almost
        never on would get a huge factor; it gets at most ten times that of its layer."""
        h, scale = standardized(pictures), None
        for name, conv in self.layers():
            if scale is not None:
                conv.weight.data *= scale[:, None, None]
            h = self.pool(name, h)
            mean = ops.relu(conv(h)).data.mean(axis=(0, 2, 3))  # one for each filter
            scale = np.maximum(mean, RARE * mean.mean())
            conv.weight.data /= scale[:, None, None, None]
            conv.bias.data /= scale
            h = ops.relu(conv(h))


def standardized(x: TensorLike) -> TensorLike:
    """Pixels in [-1, 1] as the first layer takes them, with ImageNet's mean and deviation: (B, 3, H, W)."""
    like = x.data if isinstance(x, Tensor) else x
    mean, std = (np.asarray(values, x.dtype, like=like) for values in (MEAN, STD))
    return ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None]  # (B, 3, H, W)


def load_torchvision(path: str | Path, pooling: str) -> VGG:
    """VGG-19 with the weights of torchvision's file, such as vgg19-dcbb9e9d.pth. Only the convolutions are
    read, not the classifier. Raises CheckpointError for a file of another network, and those that
    `load_torch` refuses."""
    model = VGG(VGG19, pooling, rng=0)
    given = load_torch(path, prefix="features.")
    state = dict(zip(torchvision_names(), model.named_parameters(), strict=True))
    if given.keys() != state.keys():
        odd = sorted(given.keys() ^ state.keys())
        raise CheckpointError(path, "not VGG-19 of torchvision", f"{len(state)} arrays", f"{odd[:3]} differ")
    for name, (_, parameter) in state.items():
        if given[name].shape != parameter.shape:
            raise CheckpointError(path, "not VGG-19 of torchvision", parameter.shape, given[name].shape, name)
        parameter.data[...] = given[name]
    return model


def torchvision_names() -> Iterator[str]:
    """The names of the parameters there, in order. They count the ReLUs and the pooling layers, too."""
    place = 0
    for row in VGG19:
        for _ in row:
            yield f"features.{place}.weight"
            yield f"features.{place}.bias"
            place += 2
        place += 1

"""Smaller maps and larger ones without weights: pooling and nearest-neighbour upsampling.

Average pooling is a convolution of each channel with a kernel of ones (LeCun et al. 1998, *Gradient-based
learning applied to document recognition*, its subsampling layers); max pooling reads one entry of each window
(Ranzato et al. 2007, *Unsupervised learning of invariant feature hierarchies*).
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.ops.compose import arrays_in
from tinygen.ops.conv import convolution
from tinygen.ops.index import scatter_add
from tinygen.ops.window import Geometry, Sizes, check_fit, geometry_of, sizes_of_axes, windows
from tinygen.tape import op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Size, TensorLike, ValueAndRules

__all__ = ["avg_pool2d", "max_pool1d", "max_pool2d", "upsample_nearest"]


def avg_pool2d(x: TensorLike, kernel: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The mean of each window: x (N, C, H, W) -> (N, C, H', W'), H' = (H + 2·padding - kh) // stride + 1.

    `kernel`, `stride` (the kernel's size when it is None) and `padding` are one number, or one for each axis.
    The padding is zeros, which count in the mean. Raises ValueError when shapes and numbers do not fit."""
    kernel, geometry = pooling("avg_pool2d", 2, x, kernel, stride, padding)
    n, channels, *size = x.shape
    ones = np.ones_like(x, shape=(1, 1, *kernel))
    y = convolution(x.reshape(n * channels, 1, *size), ones, None, geometry) / math.prod(kernel)
    return y.reshape(n, channels, *y.shape[2:])


def max_pool1d(x: TensorLike, kernel: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """x (N, C, L) -> (N, C, L'): `max_pool2d` along one axis."""
    kernel, geometry = pooling("max_pool1d", 1, x, kernel, stride, padding)
    return max_pool(x, kernel, geometry)


def max_pool2d(x: TensorLike, kernel: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The largest entry of each window, arguments and shapes as in `avg_pool2d`. The padding never wins.

    The gradient goes to the entry that was read: of equals the first, row by row."""
    kernel, geometry = pooling("max_pool2d", 2, x, kernel, stride, padding)
    return max_pool(x, kernel, geometry)


@show_as(lambda x: f"max_pool{len(x.shape) - 2}d")
@op
def max_pool(x: Array, kernel: Sizes, geometry: Geometry) -> ValueAndRules:
    """x (N, C, *size) -> (N, C, *positions)."""
    shape, flat = x.shape, (math.prod(x.shape),)
    winners = first_maxima(arrays_in(x), kernel, geometry)
    return x.reshape(flat)[winners], lambda g: scatter_add(g, winners, flat).reshape(shape)


def first_maxima(x: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """Where the largest entry of each window is among all entries of x: (N, C, *positions)."""
    n, channels, *size = x.shape
    seen = windows(x, kernel, geometry, outside=-math.inf)
    positions = seen.shape[2 : x.ndim]
    taps = seen.reshape(n, channels, *positions, math.prod(kernel)).argmax(axis=-1)
    index = np.arange(n * channels, like=x).reshape(n, channels, *[1] * len(size))
    for axis in range(len(size)):
        offset = taps // math.prod(kernel[axis + 1 :]) % kernel[axis]
        corner = np.arange(positions[axis], like=x) * geometry.stride[axis] - geometry.padding[axis]
        place = corner.reshape(-1, *[1] * (len(size) - axis - 1)) + offset
        # If all entries are -inf, argmax may point into the padding before the map: take the first entry.
        index = index * size[axis] + np.maximum(place, 0)
    return index


def pooling(
    name: str, axes: int, x: TensorLike, kernel: Size, stride: Size | None, padding: Size
) -> tuple[Sizes, Geometry]:
    """The kernel and the geometry of a pooling; raises ValueError unless they fit x."""
    kernel = sizes_of_axes(name, "kernel", kernel, axes, 1)
    geometry = geometry_of(name, axes, kernel if stride is None else stride, padding)
    shapes = f"{name}: x has shape {x.shape}, kernel {kernel}"
    if x.ndim != axes + 2 or 0 in x.shape[2:]:
        raise ValueError(
            f"{shapes}: x needs {axes + 2} axes, (N, C, *size) with a size above 0; x[None] is a batch of one"
        )
    if any(2 * p > k for p, k in zip(geometry.padding, kernel, strict=True)):
        raise ValueError(
            f"{shapes}: a padding of {geometry.padding} is more than half of the kernel: use less"
        )
    check_fit(shapes, x.shape[2:], kernel, geometry)
    return kernel, geometry


@op
def upsample_nearest(x: Array, scale: int) -> ValueAndRules:
    """Each entry is repeated in a block of scale by scale entries:
    x (N, C, H, W) -> (N, C, scale·H, scale·W)."""
    if x.ndim != 4 or scale < 1:
        raise ValueError(
            f"upsample_nearest takes x (N, C, H, W) and a scale of at least 1, got {x.shape} and {scale}"
        )

    def dx(g: Array) -> Array:  # the sum of each block; faster than a sum over two short axes
        return sum(g[:, :, i::scale, j::scale] for i in range(scale) for j in range(scale))

    return np.repeat(np.repeat(x, scale, axis=2), scale, axis=3), dx

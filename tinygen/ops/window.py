"""The windows of a map: the positions of a kernel, and the entries that it reads there.

Dumoulin & Visin 2016, *A guide to convolution arithmetic for deep learning* (arXiv:1603.07285).

`unfold` copies every patch that a kernel reads into a column, so that a convolution becomes one matrix
product: Chellapilla et al. 2006, *High performance convolutional neural networks for document processing*,
who call it unrolling; known as im2col. `fold` is its transpose.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinygen.tensor import Array
from tinygen.types import Size

Sizes = tuple[int, ...]


class Geometry(NamedTuple):
    """How a kernel lies on a map: one number for each axis of the map, and the groups of channels."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    def span(self, kernel: Sizes) -> Sizes:
        """From the kernel's first tap to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(kernel, self.dilation, strict=True))

    def positions(self, size: Sizes, kernel: Sizes) -> Sizes:
        """How often the kernel fits on a map of `size`: the size of the output."""
        axes = zip(size, self.span(kernel), self.stride, self.padding, strict=True)
        return tuple((n + 2 * p - span) // s + 1 for n, span, s, p in axes)

    def size(self, positions: Sizes, kernel: Sizes, extra: Sizes) -> Sizes:
        """The smallest input size at which the kernel fits `positions` times, plus `extra`."""
        axes = zip(positions, self.span(kernel), self.stride, self.padding, extra, strict=True)
        return tuple((m - 1) * s + span - 2 * p + e for m, span, s, p, e in axes)


def windows(x: Array, kernel: Sizes, geometry: Geometry, outside: float = 0.0) -> Array:
    """A view of the entries that the kernel reads at each position:
    x (N, C, *size) -> (N, C, *positions, *kernel)."""
    if any(geometry.padding):
        widths = ((0, 0), (0, 0), *((p, p) for p in geometry.padding))
        x = np.pad(x, widths, constant_values=outside)
    axes = tuple(range(2, x.ndim))
    seen = np.lib.stride_tricks.sliding_window_view(x, geometry.span(kernel), axes)
    steps = [slice(None, None, step) for step in (*geometry.stride, *geometry.dilation)]
    return seen[:, :, *steps]


def unfold(x: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """The patches as columns: x (N, C, *size) -> (groups, C/groups · taps, N · positions)."""
    seen = windows(x, kernel, geometry)
    axes = len(kernel)
    columns = seen.transpose(1, *range(2 + axes, 2 + 2 * axes), 0, *range(2, 2 + axes))
    groups, rows = geometry.groups, x.shape[1] // geometry.groups * math.prod(kernel)
    return columns.reshape(groups, rows, x.shape[0] * math.prod(seen.shape[2 : 2 + axes]))


def fold(columns: Array, batch: int, size: Sizes, kernel: Sizes, geometry: Geometry) -> Array:
    """The transpose of `unfold`: each entry of a patch is added where `unfold` read it: -> (N, C, *size)."""
    stride, padding, dilation, groups = geometry
    channels = groups * columns.shape[1] // math.prod(kernel)
    positions = geometry.positions(size, kernel)
    patches = columns.reshape(channels, *kernel, batch, *positions)
    padded = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    x = np.zeros_like(columns, shape=(channels, batch, *padded))
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilation, strict=True)]
        steps = zip(starts, positions, stride, strict=True)
        x[:, :, *[slice(a, a + s * (m - 1) + 1, s) for a, m, s in steps]] += patches[:, *tap]
    inside = [slice(p, p + n) for n, p in zip(size, padding, strict=True)]
    return x[:, :, *inside].swapaxes(0, 1).copy()


# -- checks of the arguments -----------------------------------------------------------------------


def geometry_of(
    name: str, axes: int, stride: Size, padding: Size, dilation: Size = 1, groups: int = 1
) -> Geometry:
    if groups < 1:
        raise ValueError(f"{name}: groups must be at least 1, got {groups}")
    return Geometry(
        sizes_of_axes(name, "stride", stride, axes, 1),
        sizes_of_axes(name, "padding", padding, axes, 0),
        sizes_of_axes(name, "dilation", dilation, axes, 1),
        groups,
    )


def sizes_of_axes(name: str, what: str, value: Size, axes: int, least: int) -> Sizes:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) != axes or not all(isinstance(v, (int, np.integer)) and v >= least for v in values):
        wanted = f"an int of at least {least}" + (f", or {axes} of them" if axes > 1 else "")
        raise ValueError(f"{name}: {what} must be {wanted}, got {value!r}")
    return values


def check_fit(what: str, size: Sizes, kernel: Sizes, geometry: Geometry) -> None:
    """Raise ValueError when the kernel fits nowhere on the padded map."""
    if min(kernel) < 1 or min(geometry.positions(size, kernel)) < 1:
        padded = tuple(n + 2 * p for n, p in zip(size, geometry.padding, strict=True))
        raise ValueError(
            f"{what}: the kernel reaches over {geometry.span(kernel)} entries, the map with its padding has "
            f"{padded}: use a smaller kernel, less dilation or more padding"
        )

"""Max pooling and upsampling: a loop over the planes of all images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.kernels.compiled.compile import as_contiguous, parallel
from tinygen.kernels.compiled.math import ZERO
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array


@parallel
def largest_entries(p, x, tall, wide, down, right, top, left, y, winners):
    """y (planes, h, w) = the largest entry of x (planes, H, W) in each window, and its position in the
    plane. Of equal entries, the first."""
    _, height, width = x.shape
    plane = x[p].reshape(-1)
    for i in range(y.shape[1]):
        row = i * down - top
        for j in range(y.shape[2]):
            column = j * right - left
            start = max(column, 0)
            winner = max(row, 0) * width + start
            best = plane[winner]
            for r in range(max(row, 0), min(row + tall, height)):
                for at in range(r * width + start, r * width + min(column + wide, width)):
                    seen = plane[at]
                    if seen > best or (seen != seen and best == best):  # the first NaN wins
                        best, winner = seen, at
            y[p, i, j], winners[p, i, j] = best, winner


@parallel
def add_to_largest(p, g, winners, dx):
    """dx (planes, entries) += g (planes, positions), at the entries that were the largest."""
    plane, gs, at = dx[p], g[p], winners[p]
    for i in range(plane.size):
        plane[i] = ZERO
    for i in range(gs.size):
        plane[at[i]] += gs[i]


def max_pool(x: Array, kernel: Sizes, geometry: Geometry) -> Any:
    positions, shape = geometry.positions(x.shape[2:], kernel), x.shape
    if min(positions) < 1 or any(2 * p > k for p, k in zip(geometry.padding, kernel, strict=True)):
        return NotImplemented
    planes = math.prod(shape[:2])
    x = as_contiguous(x).reshape(planes, *(1, *shape[2:])[-2:])
    y = np.empty((planes, *(1, *positions)[-2:]), np.float32)
    winners = np.empty(y.shape, np.int32)
    (tall, wide), (down, right), (top, left) = (
        (fill, *values)[-2:] for fill, values in ((1, kernel), (1, geometry.stride), (0, geometry.padding))
    )
    largest_entries(planes, x, tall, wide, down, right, top, left, y, winners)

    def dx(g: Array) -> Array:
        d = np.empty(shape, np.float32)
        add_to_largest(
            planes, as_contiguous(g).reshape(planes, -1), winners.reshape(planes, -1), d.reshape(planes, -1)
        )
        return d

    return y.reshape(*shape[:2], *positions), dx


@parallel
def repeat_entries(p, x, scale, y):
    """y (planes, scale · H, scale · W): each entry of x (planes, H, W) becomes a block of equal entries."""
    for i in range(x.shape[1]):
        line, first = x[p, i], y[p, i * scale]
        for j in range(line.size):
            for k in range(scale):
                first[j * scale + k] = line[j]
        for k in range(1, scale):
            copy = y[p, i * scale + k]
            for j in range(copy.size):
                copy[j] = first[j]


@parallel
def block_sums(p, g, scale, dx):
    """dx (planes, H, W): the sums of the blocks of g (planes, scale · H, scale · W)."""
    for i in range(dx.shape[1]):
        line = dx[p, i]
        for j in range(line.size):
            line[j] = ZERO
        for k in range(scale):
            row = g[p, i * scale + k]
            for b in range(scale):
                shifted = row[b:]
                for j in range(line.size):
                    line[j] += shifted[j * scale]


def upsample_nearest(x: Array, scale: int) -> Any:
    if x.ndim != 4 or scale < 1:
        return NotImplemented
    n, channels, height, width = shape = x.shape
    planes = as_contiguous(x).reshape(n * channels, height, width)
    y = np.empty((n * channels, scale * height, scale * width), np.float32)
    repeat_entries(len(planes), planes, scale, y)

    def dx(g: Array) -> Array:
        d = np.empty(shape, np.float32)
        block_sums(len(y), as_contiguous(g).reshape(y.shape), scale, d.reshape(planes.shape))
        return d

    return y.reshape(n, channels, *y.shape[1:]), dx

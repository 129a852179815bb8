"""Divides the work of a convolution into jobs, which the threads share.

A product reads the whole weight, so more positions per product make it faster: for small maps, several
images are computed at a time. Columns are written for as many positions as fit into the cache. If there are
fewer images than threads, each thread has some lines of the positions, or some of the channels, whichever
are more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygen.kernels.compiled.compile import PARTS
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

COLUMNS = 2**18  # floats of columns that a thread writes at a time,
POSITIONS = 256  # but at least for this many positions: with fewer, a product reads too much weight
CHANNELS = 16  # the least number of channels of the map into which a transposed convolution adds at a time


class Cut(NamedTuple):
    """The numbers of images, lines of positions and channels in a job; for a convolution, the number of
    shares into which its channels are divided. `direct`: the columns are the map itself, one image at a
    time."""

    images: int
    lines: int
    channels: int
    direct: bool


def is_direct(kernel: Sizes, geometry: Geometry) -> bool:
    """Whether the columns of x are x itself."""
    return max(kernel) == 1 and max(geometry.stride) == 1 and max(geometry.padding) == 0


def images_at_once(images: int, positions: int, most: int) -> int:
    """The number of images that are computed at a time, so that they have at most the given number of
    positions."""
    return max(1, min(most // positions, images // PARTS))


def cut_convolution(y: Array, rows: int, groups: int, direct: bool) -> Cut:
    """The cut for y (N, out, h, w), and columns with this number of rows. Each thread gets a job."""
    images, out, height, width = y.shape
    most = max(COLUMNS // rows, POSITIONS)
    spare, lines, shares = -(-PARTS // images), max(1, most // width), 1  # spare: threads for each image
    if images * height * width >= out // groups:
        lines = min(lines, -(-height // spare))
    else:
        shares = min(spare, out // groups)
    some = 1 if direct or lines < height else images_at_once(images, height * width, most)
    return Cut(some, min(lines, height), shares, direct)


def cut_transpose(y: Array, enter: int, taps: int, groups: int, direct: bool) -> Cut:
    """The cut for y (N, out, h, w), and `enter` channels of x per group."""
    images, _, height, width = y.shape
    lines = min(height, max(1, COLUMNS // (min(enter, CHANNELS) * taps * width)))
    some = 1 if direct or lines < height else images_at_once(images, height * width, POSITIONS)
    chunk = min(-(-enter // -(-PARTS // (images * groups))), max(1, COLUMNS // (taps * some * lines * width)))
    return Cut(some, lines, chunk, direct)


def rows_of_a_thread(rows: int, groups: int) -> int:
    """The largest number of a group's rows of the weight's gradient that one thread computes."""
    return min(rows, -(-groups * rows // PARTS))


def cut_correlation(y: Array, rows: int, direct: bool) -> Cut:
    """The cut for y (N, out, h, w), and this number of rows of the columns for each thread."""
    images, _, height, width = y.shape
    most = max(COLUMNS // rows, POSITIONS)
    lines = min(height, max(1, most // width))
    some = 1 if direct or lines < height else max(1, min(most // (height * width), images))
    return Cut(some, lines, 1, direct)


def scratch(cut: Cut, rows: int, channels: int, width: int) -> tuple[Array, Array]:
    """Memory for each part: columns with this number of rows, and a product with this number of channels,
    if they are needed."""
    positions = cut.images * cut.lines * width
    floats = 0 if cut.direct else rows * positions, channels * positions if cut.images > 1 else 0
    return np.empty((PARTS, floats[0]), np.float32), np.empty((PARTS, floats[1]), np.float32)

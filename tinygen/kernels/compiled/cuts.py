"""How the work of a convolution is cut into jobs, which the threads share.

A product reads all of the weight, so it is the faster the more positions it has: small maps are worked on
several images at a time. Columns are written for as many positions as stay in the cache. Where there are
fewer images than threads, each thread has some lines of the positions, or some of the channels, whichever
there are more of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygen.kernels.compiled.compile import PARTS
from tinygen.ops.window import Geometry, Sizes
from tinygen.tensor import Array

COLUMNS = 2**18  # floats of columns that a thread writes at a time,
POSITIONS = 256  # or as many as this many positions have: with fewer, a product reads too much weight
CHANNELS = 16  # of the map that a transposed convolution adds into at a time, or more


class Cut(NamedTuple):
    """How many images, lines of positions and channels make a job; of a convolution, into how many shares its
    channels are cut. `direct`: the columns are the map itself, one image at a time."""

    images: int
    lines: int
    channels: int
    direct: bool


def is_direct(kernel: Sizes, geometry: Geometry) -> bool:
    """Whether the columns of x are x itself."""
    return max(kernel) == 1 and max(geometry.stride) == 1 and max(geometry.padding) == 0


def images_at_once(images: int, positions: int, most: int) -> int:
    """How many images are worked on at a time, so that they have at most so many positions."""
    return max(1, min(most // positions, images // PARTS))


def cut_convolution(y: Array, rows: int, groups: int, direct: bool) -> Cut:
    """For y (N, out, h, w), and columns of so many rows. Each thread gets a job."""
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
    """For y (N, out, h, w), and a group's `enter` channels of x."""
    images, _, height, width = y.shape
    lines = min(height, max(1, COLUMNS // (min(enter, CHANNELS) * taps * width)))
    some = 1 if direct or lines < height else images_at_once(images, height * width, POSITIONS)
    chunk = min(-(-enter // -(-PARTS // (images * groups))), max(1, COLUMNS // (taps * some * lines * width)))
    return Cut(some, lines, chunk, direct)


def rows_of_a_thread(rows: int, groups: int) -> int:
    """How many of a group's rows of the weight's gradient a thread computes at most."""
    return min(rows, -(-groups * rows // PARTS))


def cut_correlation(y: Array, rows: int, direct: bool) -> Cut:
    """For y (N, out, h, w), and as many rows of the columns for each thread."""
    images, _, height, width = y.shape
    most = max(COLUMNS // rows, POSITIONS)
    lines = min(height, max(1, most // width))
    some = 1 if direct or lines < height else max(1, min(most // (height * width), images))
    return Cut(some, lines, 1, direct)


def scratch(cut: Cut, rows: int, channels: int, width: int) -> tuple[Array, Array]:
    """For each part, columns of so many rows, and a product of so many channels, where they are needed."""
    positions = cut.images * cut.lines * width
    floats = 0 if cut.direct else rows * positions, channels * positions if cut.images > 1 else 0
    return np.empty((PARTS, floats[0]), np.float32), np.empty((PARTS, floats[1]), np.float32)

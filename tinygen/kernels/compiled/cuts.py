"""Divides the work of a convolution into blocks: some images and some lines of their positions.

The columns of a block should fit into the cache. But each product reads the whole weight, so a block has at
least POSITIONS positions, if there are as many.
"""

from __future__ import annotations

from collections.abc import Iterator

COLUMNS = 2**19  # floats of columns in a block,
POSITIONS = 512  # but at least for this many positions


def blocks(shape: tuple[int, ...], rows: int) -> Iterator[tuple[slice, int, int]]:
    """The images, the first line and the number of lines of each block, for positions of this shape
    (N, C, h, w), and columns with this number of rows. A block with several images has all their lines."""
    images, _, height, width = shape
    most = max(COLUMNS // rows, POSITIONS)
    some, lines = max(most // (height * width), 1), min(max(most // width, 1), height)
    some = some if some < 8 else some // 8 * 8  # images are innermost in the columns: whole vectors
    for n in range(0, images, some):
        for first in range(0, height, lines):
            yield slice(n, min(n + some, images)), first, min(lines, height - first)

"""split, whose backward copies nothing if the gradients of the pieces are neighboring views of one array:
then this array is the gradient. Attention's kernel returns the gradients of q, k and v as such views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import kernels
from tinygen.tensor import Array


@kernels.register(ops.split)
def split(x: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    sections = indices_or_sections
    if not isinstance(sections, int) or x.shape[axis] % sections:
        return NotImplemented
    size, before = x.shape[axis] // sections, (slice(None),) * (axis % x.ndim)
    pieces = tuple([x[(*before, slice(i * size, (i + 1) * size))] for i in range(sections)])
    return pieces, lambda gs: join_pieces(gs, axis)


def join_pieces(pieces: Sequence[Array], axis: int) -> Array:
    """np.concatenate(pieces, axis), or, if the pieces are neighboring views of one array, a view of it."""
    first = pieces[0]
    base, strides, start = first.base, first.strides, address(first)
    if type(base) is not np.ndarray or not base.flags.c_contiguous:
        return np.concatenate(pieces, axis)
    at, shape = start, list(first.shape)
    shape[axis] = 0
    for piece in pieces:
        if piece.base is not base or piece.strides != strides or address(piece) != at:
            return np.concatenate(pieces, axis)
        at += piece.shape[axis] * strides[axis]
        shape[axis] += piece.shape[axis]
    return np.ndarray(shape, first.dtype, base, start - address(base), strides)


def address(x: Array) -> int:
    return x.__array_interface__["data"][0]

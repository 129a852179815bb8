"""The types that signatures name, each defined once. They are for the reader and for mypy: nothing is checked
when the program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from tinygen.tensor import Tensor

# -- arrays of any library, and Tensors ------------------------------------------------------------

Array: TypeAlias = Any
"""The arrays in the body of an op: `np.ndarray`; on a GPU `cupy.ndarray`; in a replay of the tape `Tensor`.
No static type covers all three, so mypy sees Any."""

TensorLike: TypeAlias = Union["Tensor", Array]
"""The input of a layer, a loss or an op: a Tensor, or an array, which counts as a constant."""

ValueAndRules: TypeAlias = tuple[Any, ...]
"""The result of the body of an op: `value, rule, rule, ...`, one rule for each positional argument. A rule
takes the gradient of the value and returns the gradient of its argument; see `tinygen.op`."""

NumpyArray: TypeAlias = np.ndarray[Any, Any]
"""An array of NumPy's, of any dtype."""

# -- arrays of NumPy, by their contents ------------------------------------------------------------

Floats: TypeAlias = NDArray[np.float64]
"""Probabilities, statistics, schedules: numbers off the tape, in double precision."""

Float32s: TypeAlias = NDArray[np.float32]
"""Weights and data, in the precision of training."""

Pictures: TypeAlias = NDArray[np.float32]
"""Pictures (N, C, H, W)."""

Ids: TypeAlias = NDArray[np.integer[Any]]
"""Numbers of tokens, classes or time steps."""

IdsLike: TypeAlias = int | Sequence[Any] | Ids | Array
"""Such numbers as arguments: also a list, one number for all, or an array on a GPU."""

Mask: TypeAlias = NDArray[np.bool_]
"""True where an entry counts."""

# -- shapes ----------------------------------------------------------------------------------------

Shape: TypeAlias = tuple[int, ...]

Size: TypeAlias = int | tuple[int, ...]
"""One number for every axis, or one for each: a kernel's size, a stride, a padding."""

DType: TypeAlias = DTypeLike | None
"""A dtype or its name; None is the dtype that NumPy or the arguments give."""

Axis: TypeAlias = int | tuple[int, ...] | None
"""The axes of a reduction; None is all of them."""

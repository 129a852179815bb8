"""Plain values: functions that have no derivative, since their result does not change when the argument moves
a little (whole numbers, truth values, indices, counts). They return constants and raise no error."""

from __future__ import annotations

import numpy as np

from tinygen.ops.compose import arrays_in, composition, register_constants
from tinygen.tensor import IMPLEMENTS
from tinygen.types import Axis, TensorLike

STEPS = "floor ceil trunc rint floor_divide"
TESTS = """isinf isposinf isneginf signbit isclose allclose array_equal array_equiv all any iscomplex isreal
iscomplexobj isrealobj isin in1d logical_xor isnat shares_memory may_share_memory"""
BITS = """bitwise_and bitwise_or bitwise_xor invert left_shift right_shift bitwise_count packbits unpackbits
gcd lcm"""
PLACES = """argsort argpartition lexsort searchsorted digitize nonzero flatnonzero argwhere count_nonzero
nanargmax nanargmin unravel_index ravel_multi_index diag_indices_from tril_indices_from triu_indices_from ix_
histogram_bin_edges"""
FLOATS = "nextafter spacing"
TEXTS = "array2string array_repr array_str save savez savez_compressed savetxt"
for names in (STEPS, TESTS, BITS, PLACES, FLOATS, TEXTS):
    register_constants(*names.split())


@composition("size")
def size(a: TensorLike, axis: Axis = None) -> int:
    if axis is None:
        return int(a.size)
    return int(np.prod([a.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))]))


@composition("real_if_close")
def real_if_close(a: TensorLike, tol: float = 100) -> TensorLike:
    """The real part where the imaginary one is rounding error, else a itself."""
    near = np.isrealobj(np.real_if_close(arrays_in(a), tol))
    return np.real(a) if near else a


def define_dtype_function(name: str) -> None:
    """Functions of dtypes: a Tensor counts as its array."""
    function = getattr(np, name)
    IMPLEMENTS[function] = lambda *args, **kwargs: function(*arrays_in(args), **arrays_in(kwargs))


for name in ("result_type", "can_cast", "common_type", "min_scalar_type"):
    define_dtype_function(name)

"""The rotation of pairs of entries: the op of rotary positions, whose angles are in `nn/rope.py`."""

from __future__ import annotations

import numpy as np

from tinygen.tape import op, show_as
from tinygen.tensor import Array
from tinygen.types import ValueAndRules


@show_as("rotary")
@op
def rotate_pairs(x: Array, cos: Array, sin: Array) -> ValueAndRules:
    """Each pair (x_i, x_{i + d/2}) of x (..., T, d) rotated by the angle at its position, whose cosine and
    sine are in cos and sin (T, d/2). The gradient of a rotation is the rotation back.

    Eq.: (a, b) → (a cos θ - b sin θ, a sin θ + b cos θ)  (Su et al. 2021, arXiv:2104.09864, eq. 34)
    Held by: tests/nn/test_attention.py::test_rotary_turns_pair_i_by_t_times_base_to_the_minus_2i_over_d
    """
    a, b = np.split(x, 2, axis=-1)
    y = np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return y, lambda g: rotate_pairs(g, cos, -sin)

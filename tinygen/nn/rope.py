"""Rotary position embedding, RoPE (Su et al. 2021, arXiv:2104.09864, section 3.2).

Each pair of entries of a query or key is rotated by an angle proportional to its position. The inner product
of query and key does not change if both are rotated by the same angle, so attention depends on relative
positions only.

Entry i of the first half of the vector is paired with entry i of the second half: (x_i, x_{i + d/2}), as in
GPT-NeoX and in LLaMA's published weights for `transformers`. The paper pairs neighbours, (x_2i, x_2i+1). The
two differ by a permutation of the entries, which the trained projection before them can absorb.
"""

from __future__ import annotations

import numpy as np

from tinygen.tape import op, shown_as
from tinygen.tensor import Array, Tensor
from tinygen.types import ValueAndRules


def rotary(x: Tensor, start: int = 0, base: float = 10_000.0) -> Tensor:
    """x (..., T, d), d even, at positions start, start + 1, ...: pair i at position t is rotated by the
    angle t·base^(-2i/d) (eq. 34, with eq. 15 for the angles).

    Eq.: (x_{2i}, x_{2i+1}) is turned by the angle t · base^(-2i/d)  (Su et al. 2021, eq. 34 and 15)
    Held by: tests/nn/test_attention.py::test_rotary_turns_pair_i_by_t_times_base_to_the_minus_2i_over_d,
        tests/nn/test_attention.py::test_rotary_products_depend_on_the_distance_only
    """
    t, d = x.shape[-2:]
    if d % 2:
        raise ValueError(f"rotary positions turn pairs of entries: an even head size is needed, got {d}")
    frequencies = base ** (-np.arange(0, d, 2) / d)  # (d/2,)
    angles = np.arange(start, start + t)[:, None] * frequencies  # (T, d/2), in float64: t may be large
    cos, sin = (np.asarray(f(angles).astype(x.dtype), like=x.data) for f in (np.cos, np.sin))
    return rotate_pairs(x, cos, sin)


@shown_as("rotary")
@op
def rotate_pairs(x: Array, cos: Array, sin: Array) -> ValueAndRules:
    """Each pair rotated by its angle. The gradient of a rotation is the rotation back."""
    a, b = np.split(x, 2, axis=-1)
    y = np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return y, lambda g: rotate_pairs(g, cos, -sin)

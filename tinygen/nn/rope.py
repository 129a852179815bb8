"""Rotary position embedding, RoPE (Su et al. 2021, arXiv:2104.09864, section 3.2).

Each pair of entries of a query or key is rotated by an angle proportional to its position. The inner product
of query and key does not change if both are rotated by the same angle, so attention depends on relative
positions only.

Entry i of the first half of the vector is paired with entry i of the second half: (x_i, x_{i + d/2}), as in
GPT-NeoX and in LLaMA's published weights for `transformers`. The paper pairs neighbours, (x_2i, x_2i+1). The
two differ by a permutation of the entries, which the trained projection before them can absorb.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tinygen.ops.rotary import rotate_pairs
from tinygen.tensor import Tensor
from tinygen.types import NumpyArray


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's change of the rotations, by which a model trained on `original_length` positions can read
    more (Grattafiori et al. 2024, arXiv:2407.21783, section 3.4.1; the formula is in Meta's published
    code).

    A pair that makes fewer than `low` full turns within original_length rotates `factor` times more slowly.
    A pair that makes more than `high` turns is not changed, since it distinguishes neighbouring positions.
    Between the two, the speed is interpolated. Raises ValueError unless 0 < low < high, factor >= 1,
    original_length >= 1."""

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and self.factor >= 1 and self.original_length >= 1):
            raise ValueError(f"0 < low < high, factor >= 1 and original_length >= 1 are needed, got {self}")

    def slow_down(self, frequencies: NumpyArray) -> NumpyArray:
        """The changed frequencies, in radians per position: (n,) -> (n,).

        Eq.: f ← (1 - s) f / factor + s f,  s = clip((length · f / 2π - low) / (high - low), 0, 1)
            (Meta's llama-models, models/llama3/model.py, apply_scaling)
        Held by: tests/nn/test_rope_scaling.py::test_each_range_by_hand
        """
        rounds = self.original_length * frequencies / (2 * np.pi)
        kept = np.clip((rounds - self.low) / (self.high - self.low), 0, 1)
        return frequencies * (kept + (1 - kept) / self.factor)


def rotary(x: Tensor, start: int = 0, base: float = 10_000.0, scaling: RopeScaling | None = None) -> Tensor:
    """x (..., T, d), d even, at positions start, start + 1, ...: pair i at position t is rotated by the
    angle t·base^(-2i/d) (eq. 34, with eq. 15 for the angles); with `scaling`, by t times the frequency that
    `slow_down` makes of base^(-2i/d).

    Eq.: (x_{2i}, x_{2i+1}) is turned by the angle t · base^(-2i/d)  (Su et al. 2021, eq. 34 and 15)
    Held by: tests/nn/test_attention.py::test_rotary_turns_pair_i_by_t_times_base_to_the_minus_2i_over_d,
        tests/nn/test_attention.py::test_rotary_products_depend_on_the_distance_only
    """
    t, d = x.shape[-2:]
    if d % 2:
        raise ValueError(f"rotary positions turn pairs of entries: an even head size is needed, got {d}")
    cos, sin = (np.asarray(table, like=x.data) for table in cos_and_sin(start, t, d, base, scaling, x.dtype))
    return rotate_pairs(x, cos, sin)


@lru_cache(maxsize=4)  # all layers of a model need the same values
def cos_and_sin(
    start: int, t: int, d: int, base: float, scaling: RopeScaling | None, dtype: np.dtype
) -> tuple[NumpyArray, NumpyArray]:
    """The cosines and sines of the angles of t positions from `start` on, (T, d/2) each."""
    frequencies = base ** (-np.arange(0, d, 2) / d)  # (d/2,)
    if scaling is not None:
        frequencies = scaling.slow_down(frequencies)
    angles = np.arange(start, start + t)[:, None] * frequencies  # (T, d/2), in float64: t may be large
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)

"""Inputs of checks: arrays of fixed numbers that look random."""

from __future__ import annotations

import numpy as np

from tinygen.types import Floats


def numbers(*shape: int, seed: int = 0) -> Floats:
    """Standard normal numbers, the same in every run; arrays with other seeds have others."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape)

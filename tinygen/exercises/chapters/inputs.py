"""Inputs of checks: arrays of fixed numbers that look random, and a diffusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.diffusion.process import Process
from tinygen.diffusion.schedule import cosine_schedule
from tinygen.types import Floats


def numbers(*shape: int, seed: int = 0) -> Floats:
    """Standard normal numbers, the same in every run; arrays with other seeds have others."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def diffusion_process(predicts: Any = "eps") -> Process:
    """A diffusion of ten steps."""
    return Process(cosine_schedule(10, largest=0.9), predicts)


def noise_model(x: Any, t: Any) -> Any:
    """A prediction that depends on x and t."""
    return 0.4 * x + 0.1 * t.reshape(-1, *[1] * (x.ndim - 1))


def sine_model(x: Any, t: Any) -> Any:
    """A velocity or score that depends on x and t."""
    return np.sin(x) + t.reshape(-1, *[1] * (x.ndim - 1))

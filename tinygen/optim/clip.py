"""Clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tinygen.optim import fused
from tinygen.tensor import Array, Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float | Tensor:
    """Scale all gradients, in place, by max_norm / (norm + 1e-6) if that is below 1, where `norm` is the norm
    of all gradients as one vector (Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1).

    Returns the norm before clipping. If it is NaN or infinite, the gradients are not changed: the caller
    should check it and skip the step. On a GPU the norm is a Tensor on the GPU, so that nothing waits for
    it before float(norm).

    Eq.: g ← g · max_norm / |g| where |g| > max_norm  (Pascanu et al. 2013, algorithm 1)
    Held by: tests/optim/test_optim.py::test_clipping_scales_all_gradients_by_the_same_factor
    """
    params = [p for p in params if p.grad is not None]
    if fused.are_on_gpu([p.grad for p in params]):
        return fused.clip_on_gpu(params, max_norm)
    grads: list[Array] = [p.grad for p in params]
    norm = joint_norm(grads)
    scale = max_norm / (norm + 1e-6)
    if math.isfinite(norm) and scale < 1:
        for g in grads:
            g *= scale
    return norm


def joint_norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of the arrays as one vector."""
    norm = math.sqrt(sum(float(np.vdot(a, a)) for a in arrays))
    if math.isinf(norm):  # from 2e19 on, a square is beyond float32's range, but not beyond float64's
        norm = math.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in arrays))
    return norm

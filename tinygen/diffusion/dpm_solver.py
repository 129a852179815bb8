"""DPM-Solver++(2M): good samples in 10 to 20 steps (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

Sampling without new noise follows a differential equation, the probability flow. In λ = ln(α/σ), half the
logarithm of the signal-to-noise ratio, its solution from step t to t - 1 is an integral over the model's x_0,
which changes slowly:

    x_{t-1} = σ_{t-1}/σ_t x_t + σ_{t-1} ∫ exp(λ) x_0(λ) dλ,    λ from λ_t to λ_{t-1}

DDIM takes x_0 at λ_t for all of it: steps of half the length make half the error. This solver takes the line
through the last two x_0 (2M: second order, multistep): steps of half the length make a quarter of the error,
with no more calls of the model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import Model, predict
from tinygen.tensor import Array


def dpm_solver(process: Process, model: Model, x: Array, *, clip: float | None = None) -> Iterator[Array]:
    """Yields x_{T-1}, ..., x_0 (B, ...) from noise x = x_T; a function of x, as `ddim` with eta = 0.

    The first step has no x_0 before it and the last one ends at λ = ∞: both are steps of DDIM. The model and
    `clip` are as in `ddim`.

    Eq.: x_{t-1} = σ_{t-1}/σ_t x_t - α_{t-1} (exp(-h_t) - 1) ((1 + 1/(2 r_t)) x_0^(t) - 1/(2 r_t) x_0^(t+1)),
        h_t = λ_{t-1} - λ_t, r_t = h_{t+1}/h_t    (Lu et al. 2022, algorithm 2)
    Held by: tests/diffusion/test_dpm_solver.py::test_the_order_of_convergence_is_2,
        tests/diffusion/test_dpm_solver.py::test_against_diffusers
    """
    s = process.schedule
    with np.errstate(divide="ignore"):
        lam = np.log(s.alpha) - np.log(s.sigma)  # (T + 1,), λ_0 = ∞
    before = None
    for t in range(len(s), 0, -1):
        x0, _, _ = predict(process, model, x, t, clip)
        h, line = lam[t - 1] - lam[t], x0
        if before is not None and t > 1:
            r = (lam[t] - lam[t + 1]) / h
            line = x0 + (x0 - before) * float(0.5 / r)
        x = x * float(s.sigma[t - 1] / s.sigma[t]) - line * float(s.alpha[t - 1] * np.expm1(-h))
        before = x0
        yield x

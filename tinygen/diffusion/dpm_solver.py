"""DPM-Solver++: good samples in 10 to 20 steps (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

Sampling without new noise follows a differential equation, the probability flow. In λ = ln(α/σ), half the
logarithm of the signal-to-noise ratio, its solution from step t to t - 1 is an integral over the model's x_0,
which changes slowly:

    x_{t-1} = σ_{t-1}/σ_t x_t + σ_{t-1} ∫ exp(λ) x_0(λ) dλ,    λ from λ_t to λ_{t-1}

DDIM takes x_0 at λ_t for all of it: steps of half the length make half the error. This solver takes the line
through the last two x_0 (2M: second order, multistep): steps of half the length make a quarter of the error,
with no more calls of the model. 3M takes the last three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import Model, predict
from tinygen.tensor import Array
from tinygen.types import Floats


def integral(x0s: Sequence[Array], lam: Floats, heun: bool = False) -> Array:
    """∫ exp(λ - λ_{t-1}) x_0(λ) dλ over the step from λ_t to λ_{t-1}, (B, ...).

    `x0s` are the last 1, 2 or 3 predictions of x_0 (B, ...), at λ_t, λ_{t+1} and λ_{t+2}, which are lam[1],
    lam[2] and lam[3]; lam[0] is λ_{t-1}. Of one, x_0 is a constant; of two, a line, whose value in the middle
    of the step stands for all of it, or with `heun` its exact integral. Of three it is D_0 + D_1 u +
    D_2 u²/2, where u goes from 0 to 1. D_2 is the second divided difference, as in the authors' code. That is
    half of the parabola's second derivative, so 3M, too, is of the second order.

    Eq.: φ_1 D_0 + φ_1 D_1/2 (2M),  φ_1 D_0 + φ_2 D_1 (heun),  φ_1 D_0 + φ_2 D_1 + φ_3 D_2 (3M),
        φ_1 = 1 - exp(-h),  φ_2 = 1 - φ_1/h,  φ_3 = 1/2 - φ_2/h  (Lu et al. 2022, eq. 9 and algorithm 2)
    Held by: tests/diffusion/test_dpm_solver.py::test_the_integral_of_a_constant_and_a_line,
        tests/diffusion/test_dpm_solver.py::test_against_diffusers
    """
    h, now = lam[0] - lam[1], x0s[0]
    whole = float(-np.expm1(-h))
    if len(x0s) == 1:
        return now * whole
    r = (lam[1] - lam[2]) / h
    slope = (now - x0s[1]) * float(1 / r)
    if len(x0s) == 2:
        return now * whole + slope * (1 - whole / float(h) if heun else 0.5 * whole)
    r_before = (lam[2] - lam[3]) / h
    bend = (slope - (x0s[1] - x0s[2]) * float(1 / r_before)) * float(1 / (r + r_before))
    line = 1 - whole / float(h)
    return now * whole + (slope + bend * float(r)) * line + bend * (0.5 - line / float(h))


def dpm_solver(
    process: Process,
    model: Model,
    x: Array,
    *,
    clip: float | None = None,
    order: int = 2,
    heun: bool = False,
    lower_order_final: bool = False,
) -> Iterator[Array]:
    """Yields x_{T-1}, ..., x_0 (B, ...) from noise x = x_T; a function of x, as `ddim` with eta = 0.

    `order` is how many x_0 a step takes: 1 (DDIM), 2 or 3. The first step has no x_0 before it and the last
    one ends at λ = ∞: both are steps of DDIM. With `lower_order_final` the last step has order 1 also where
    it ends with some noise left (`Schedule`), and the one before it 2 at most: safer in few steps. `heun` is
    as in `integral`, the model and `clip` as in `ddim`. Raises ValueError for another order.

    Eq.: x_{t-1} = σ_{t-1}/σ_t x_t - α_{t-1} (exp(-h_t) - 1) ((1 + 1/(2 r_t)) x_0^(t) - 1/(2 r_t) x_0^(t+1)),
        h_t = λ_{t-1} - λ_t, r_t = h_{t+1}/h_t    (Lu et al. 2022, algorithm 2)
    Held by: tests/diffusion/test_dpm_solver.py::test_the_order_of_convergence_is_2,
        tests/diffusion/test_dpm_solver.py::test_against_diffusers
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order}")
    s = process.schedule
    with np.errstate(divide="ignore"):
        lam = np.log(s.alpha) - np.log(s.sigma)  # (T + 1,), λ_0 = ∞
    x0s = list[Array]()
    for t in range(len(s), 0, -1):
        x0, _, _ = predict(process, model, x, t, clip)
        x0s = [x0, *x0s][:order]
        used = x0s[:t] if lower_order_final or lam[t - 1] == np.inf else x0s
        x = x * float(s.sigma[t - 1] / s.sigma[t])
        x = x + integral(used, lam[t - 1 : t + 3], heun) * float(s.alpha[t - 1])
        yield x

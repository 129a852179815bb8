"""How much noise each step of a diffusion adds, and all the coefficients that follow from it.

The data is x_0. Step t = 1 ... T makes x_t from x_{t-1}: it scales it by sqrt(1 - β_t) and adds noise of
variance β_t (Ho, Jain & Abbeel 2020, arXiv:2006.11239, section 2). All steps up to t together are one:

Eq.: x_t = α_t x_0 + σ_t ε,  α_t = √ᾱ_t,  σ_t = √(1 - ᾱ_t),  ᾱ_t = (1 - β_1) … (1 - β_t)
    (Ho et al. 2020, eq. 4)
Held by: tests/diffusion/test_schedule.py::test_what_follows_from_beta,
    tests/diffusion/test_process.py::test_step_by_step_is_one_shot

α_t multiplies the data and σ_t the noise, as in Kingma et al. 2021 (arXiv:2107.00630) and in DPM-Solver. (Ho
et al. write α_t for 1 - β_t, which has no name of its own here.) ᾱ_0 = 1: the data has no noise.

All of tinygen counts time like this: t = 1 ... T are the steps, and x_0 is the data. Only networks count from
0: at step t they receive the number t - 1 (`timesteps`), as in the code of the papers, so that weights that
were trained elsewhere or earlier keep their meaning.

All coefficients are in float64: ᾱ is a product of up to thousands of factors, and 1 - ᾱ near the data is
tiny.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats, Ids

TERMINAL_ALPHA = 0.05
"""A larger α_T calls for a warning: samples start from pure noise, but x_T still shows the data."""


class Schedule:
    """The coefficients that follow from the variances betas (T,), β_1 ... β_T.

    Every attribute is (T + 1,) and float64: entry t belongs to step t, entry 0 to the data; NaN where a
    coefficient has no meaning for the data. `timesteps` (T + 1,) are integers, the number that the network
    receives at each step: t - 1, or after `respace` the number of the original step. They need not be whole
    where levels lie between steps (`sigma_schedule`).

    `noise` is the variance of the noise in x_0: with more than 0, sampling stops at that level, short of the
    data.

    Raises ValueError when there is no β, or one is not within (0, 1). The last one may be 1: then x_T is pure
    noise (zero-terminal SNR). Warns (UserWarning) when α_T > 0.05. With the constants of Stable Diffusion it
    is 0.068."""

    def __init__(self, betas: ArrayLike, timesteps: Ids | Floats | None = None, noise: float = 0.0) -> None:
        steps = np.array(betas, np.float64)
        if steps.ndim != 1 or steps.size == 0:
            raise ValueError(f"betas must be (T,) with T at least 1, got shape {steps.shape}")
        if not (np.all((steps > 0) & (steps <= 1)) and np.all(steps[:-1] < 1)):
            raise ValueError(
                f"betas must be above 0 and below 1, only the last one may be 1, got {steps.min():.3g} .. "
                f"{steps.max():.3g}"
            )
        numbers = np.arange(steps.size) if timesteps is None else timesteps
        self.timesteps: Ids | Floats = np.append(-1, numbers)
        self.beta: Floats = np.append(noise, steps)
        self.alpha_bar: Floats = (1 - self.beta).cumprod()
        self.alpha: Floats = np.sqrt(self.alpha_bar)
        self.sigma: Floats = np.sqrt(1 - self.alpha_bar)
        # q(x_{t-1} | x_t, x_0) is normal with mean from_x0·x_0 + from_x·x_t and this variance (eq. 7). The
        # root in from_x0 is of ᾱ_{t-1}; some slides have ᾱ_t, with which the mean at t = 1 is not x_0.
        beta, before, after = self.beta[1:], self.alpha_bar[:-1], self.alpha_bar[1:]
        noise_ratio = (1 - before) / (1 - after)
        self.posterior_from_x0: Floats = np.append(np.nan, beta * np.sqrt(before) / (1 - after))
        self.posterior_from_x: Floats = np.append(np.nan, noise_ratio * np.sqrt(1 - beta))
        self.posterior_variance: Floats = np.append(np.nan, noise_ratio * beta)
        # The posterior of step 1 has variance 0, which has no logarithm: a model gets the variance of step 2.
        first = self.posterior_variance[2] if beta.size > 1 else beta.item()
        self.log_small: Floats = np.log([np.nan, first, *self.posterior_variance[2:]])
        self.log_large: Floats = np.log([np.nan, first, *beta[1:]])
        if self.alpha[-1] > TERMINAL_ALPHA:
            warnings.warn(
                f"{self.alpha[-1]:.1%} of the data is left in the last step, but samples start from noise "
                "alone: take more steps or larger betas, and keep the last step when respacing",
                stacklevel=2,
            )

    def __len__(self) -> int:
        """T, the number of steps."""
        return self.beta.size - 1

    def respace(self, steps: Sequence[int] | Ids) -> Schedule:
        """The schedule of only these of the steps 1 ... T, in rising order: each also adds the noise of the
        steps left out before it, so that its ᾱ stays the same (Nichol & Dhariwal 2021, arXiv:2102.09672,
        section 4)."""
        ids = np.asarray(steps)
        if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu" or np.any(np.diff(ids) <= 0):
            raise ValueError(f"steps to keep must be whole numbers in rising order, got {steps}")
        if ids[0] < 1 or ids[-1] > len(self):
            raise ValueError(f"steps to keep must be within 1 .. {len(self)}, got {ids[0]} .. {ids[-1]}")
        alpha_bar = self.alpha_bar[ids]
        before = np.append(self.alpha_bar[0], alpha_bar[:-1])
        return Schedule(1 - alpha_bar / before, self.timesteps[ids], float(self.beta[0]))


def evenly_spaced(steps: int, n: int) -> Ids:
    """n of the steps 1 ... `steps` at even distances, the last one among them: for `respace`.

    Raises ValueError unless 1 <= n <= steps."""
    if not 1 <= n <= steps:
        raise ValueError(f"n must be within 1 .. {steps}, the number of steps, got {n}")
    return np.round(np.linspace(0, steps, n + 1)[1:]).astype(np.int64)


def require_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a schedule has at least 1 step, got {steps}")


def scale_to(steps: int, first: float, last: float) -> tuple[float, float]:
    """The first and the last β of a schedule of 1000 steps, scaled to another number of steps."""
    require_steps(steps)
    first, last = 1000 / steps * first, 1000 / steps * last
    if last >= 1:
        raise ValueError(
            f"betas must be above 0 and below 1, got {first:.3g} .. {last:.3g}: take more steps, or "
            "`cosine_schedule`, which works with any number"
        )
    return first, last


def linear_schedule(steps: int, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """β rises evenly from `first` to `last` (Ho et al. 2020, section 4). These are for 1000 steps; with
    another number both are multiplied by 1000/steps, so that about as little of the data is left in the end.
    With 20 steps or fewer the last β would reach 1: ValueError."""
    return Schedule(np.linspace(*scale_to(steps, first, last), steps))


def sqrt_linear_schedule(steps: int, first: float = 0.0015, last: float = 0.0195) -> Schedule:
    """sqrt(β) rises evenly, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752), whose code calls
    that "linear", and diffusers "scaled_linear". The defaults come from its ImageNet models; Stable Diffusion
    has 0.00085 and 0.012. `first` and `last` are rescaled to `steps` as in `linear_schedule`."""
    first, last = scale_to(steps, first, last)
    return Schedule(np.square(np.linspace(math.sqrt(first), math.sqrt(last), steps)))


def cosine_schedule(steps: int, offset: float = 0.008, largest: float = 0.999) -> Schedule:
    """ᾱ falls as a squared cosine, slowly at both ends (Nichol & Dhariwal 2021, eq. 17). `offset` keeps the
    first β from being too small to matter; β is at most `largest`, which the last step would exceed.

    Eq.: ᾱ_t = f(t) / f(0),  f(t) = cos²(π/2 · (t/T + s) / (1 + s))  (Nichol & Dhariwal 2021, eq. 17)
    Held by: tests/diffusion/test_schedule.py::test_cosine_is_the_papers_formula
    """

    def f(time: Any) -> Any:
        return np.square(np.cos((time + offset) / (1 + offset) * (math.pi / 2)))

    require_steps(steps)
    edges = f(np.arange(steps + 1) / steps)  # f(0) cancels in the ratio
    return Schedule(np.minimum(1 - edges[1:] / edges[:-1], largest))


def rescale_zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule with its α shifted and scaled so that α_T = 0 exactly and α_1 stays the same.

    x_T is then pure noise, like the noise from which samples start. It says nothing about the data, so the
    model must predict v or x_0 (`Process` raises ValueError for ε). Raises ValueError for a schedule of 1
    step.

    Eq.: α_t' = (α_t - α_T) α_1/(α_1 - α_T)
        (Lin et al. 2024, arXiv:2305.08891, algorithm 1)
    Held by: tests/diffusion/test_schedule.py::test_rescaled_to_zero_terminal_snr,
        tests/diffusion/test_diffusers.py::test_zero_terminal_snr
    """
    alpha = schedule.alpha[1:]
    if len(alpha) < 2:
        raise ValueError("zero-terminal SNR needs at least 2 steps: with 1 its α would be unchanged and 0")
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    alpha_bar = np.append(1.0, np.square(alpha))
    return Schedule(1 - alpha_bar[1:] / alpha_bar[:-1], schedule.timesteps[1:])

"""How much noise each step of a diffusion adds, and everything that follows from it.

Step t = 0 .. T - 1 makes x_t of x_{t-1}: it keeps the part sqrt(1 - β_t) and adds noise of variance β_t. What
is left of the data x_{-1} after step t is sqrt(ᾱ_t), with ᾱ_t the product of all 1 - β up to t. (Ho, Jain &
Abbeel 2020, arXiv:2006.11239, section 2; there t = 1 .. T, and the data is x_0.)

All is in float64: ᾱ is a product of up to thousands of factors, and 1 - ᾱ near the data is tiny.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats, Ids

TERMINAL_SIGNAL = 0.05
"""More than this part of the data left in the last x_t calls for a warning: samples start from pure noise."""


class Schedule:
    """What the variances β of T steps imply; every attribute but `timesteps` is float64 (T,).

    `timesteps` (T,) are the numbers by which the model knows the steps: 0 .. T - 1, or those of the longer
    schedule from which this one was respaced.

    Raises ValueError when a β is not within (0, 1), or there is none. Warns (UserWarning) when more than 5 %
    of the data is left in the end. The constants of Stable Diffusion do leave more: 6.8 %."""

    def __init__(self, betas: ArrayLike, timesteps: Ids | None = None) -> None:
        self.betas: Floats = np.array(betas, np.float64)
        if self.betas.ndim != 1 or self.betas.size == 0:
            raise ValueError(f"betas must be (T,) with T at least 1, got shape {self.betas.shape}")
        if not np.all((self.betas > 0) & (self.betas < 1)):
            raise ValueError(
                f"betas must be above 0 and below 1, got {self.betas.min():.3g} .. {self.betas.max():.3g}: "
                "take more steps, or `cosine`, which works with any number"
            )
        self.timesteps: Ids = np.arange(self.betas.size) if timesteps is None else timesteps
        self.alphas: Floats = 1 - self.betas
        self.alpha_bars: Floats = np.cumprod(self.alphas, dtype=np.float64)
        self.alpha_bars_prev: Floats = np.append(1.0, self.alpha_bars[:-1])  # the data itself has no noise
        self.signal: Floats = np.sqrt(self.alpha_bars)  # x_t = signal·x0 + noise·ε
        self.noise: Floats = np.sqrt(1 - self.alpha_bars)
        # q(x_{t-1} | x_t, x0) is normal with mean from_x0·x0 + from_x·x_t and this variance (eq. 7). The root
        # in from_x0 is of ᾱ_{t-1}; some slides have ᾱ_t, with which the mean at t = 0 is not x0.
        noise_ratio = (1 - self.alpha_bars_prev) / (1 - self.alpha_bars)
        self.posterior_from_x0: Floats = self.betas * np.sqrt(self.alpha_bars_prev) / (1 - self.alpha_bars)
        self.posterior_from_x: Floats = noise_ratio * np.sqrt(self.alphas)
        self.posterior_variance: Floats = noise_ratio * self.betas
        # The posterior of the first step has no width, and no logarithm: a model gets that of the second.
        first = self.posterior_variance[1] if self.betas.size > 1 else self.betas[0]
        self.log_small: Floats = np.log(np.append(first, self.posterior_variance[1:]))
        self.log_large: Floats = np.log(np.append(first, self.betas[1:]))
        if self.signal[-1] > TERMINAL_SIGNAL:
            warnings.warn(
                f"{self.signal[-1]:.1%} of the data is left in the last step, but samples start from noise "
                "alone: take more steps or larger betas, and keep the last step when respacing",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return self.betas.size

    def respaced(self, kept: Sequence[int] | Ids) -> Schedule:
        """The schedule of only the steps `kept`, in rising order: each adds the noise of those left out
        before it as well, so that ᾱ stays what it was (Nichol & Dhariwal 2021, arXiv:2102.09672,
        section 4)."""
        ids = np.asarray(kept)
        if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu" or np.any(np.diff(ids) <= 0):
            raise ValueError(f"steps to keep must be whole numbers in rising order, got {kept}")
        if ids[0] < 0 or ids[-1] >= len(self):
            raise ValueError(f"steps to keep must be within 0 .. {len(self) - 1}, got {ids[0]} .. {ids[-1]}")
        alpha_bars = self.alpha_bars[ids]
        return Schedule(1 - alpha_bars / np.append(1.0, alpha_bars[:-1]), self.timesteps[ids])


def spread(steps: int, n: int) -> Ids:
    """n of the steps 0 .. steps - 1 at even distances, the last one among them: for `respaced`."""
    if not 1 <= n <= steps:
        raise ValueError(f"n must be within 1 .. {steps}, the number of steps, got {n}")
    return np.round(np.linspace(-1, steps - 1, n + 1)[1:]).astype(np.int64)


def checked(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"a schedule has at least 1 step, got {steps}")
    return steps


def linear(steps: int, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """β rises evenly from `first` to `last` (Ho et al. 2020, section 4). These are for 1000 steps; with
    another number both are multiplied by 1000/steps, so that about as little of the data is left in the end.
    With 20 steps or fewer the last β would reach 1: ValueError."""
    scale = 1000 / checked(steps)
    return Schedule(np.linspace(scale * first, scale * last, steps))


def sqrt_linear(steps: int, first: float = 0.0015, last: float = 0.0195) -> Schedule:
    """sqrt(β) rises evenly, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752), whose code calls
    that "linear", and diffusers "scaled_linear". The defaults are those of its models of ImageNet; Stable
    Diffusion has 0.00085 and 0.012. Both are rescaled to `steps` as in `linear`."""
    scale = 1000 / checked(steps)
    return Schedule(np.square(np.linspace(math.sqrt(scale * first), math.sqrt(scale * last), steps)))


def cosine(steps: int, offset: float = 0.008, largest: float = 0.999) -> Schedule:
    """ᾱ falls as a squared cosine, slowly at both ends (Nichol & Dhariwal 2021, eq. 17). `offset` keeps the
    first β from being too small to matter; β is at most `largest`, which the last step would exceed."""

    def f(time: Any) -> Any:
        return np.square(np.cos((time + offset) / (1 + offset) * (math.pi / 2)))

    edges = f(np.arange(checked(steps) + 1) / steps)  # f(0) cancels in the ratio
    return Schedule(np.minimum(1 - edges[1:] / edges[:-1], largest))

"""What the schedulers of `diffusers` do: at which steps the model is called, and at which levels of noise.
The mathematics is in `tinygen.diffusion`: `plms`, `karras`, `dpm_solver`; `schedulers.py` reads the configs.

In the numbers of the network, which count from 0, n of the T steps of training are

    leading      every (T // n)th, from `offset` on
    trailing     T - 1, and evenly down from there
    linspace     0, T - 1 and n - 2 between them

(Lin et al. 2024, arXiv:2305.08891, table 2).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tinygen.diffusion.dpm_solver import dpm_solver
from tinygen.diffusion.karras import karras_sigmas, sigma_euler, sigma_schedule
from tinygen.diffusion.plms import plms, plms_calls
from tinygen.diffusion.process import Prediction, Process
from tinygen.diffusion.sampling import Model
from tinygen.diffusion.schedule import Schedule
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike
from tinygen.tensor import Array
from tinygen.types import Floats

Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True)
class Scheduler:
    """The schedule of the training with all its T steps, what the network predicts, and which of the steps
    are visited. The subclasses say how."""

    schedule: Schedule
    predicts: Prediction
    spacing: Spacing
    offset: int

    def sample(
        self,
        model: Model,
        noise: Array,
        *,
        steps: int,
        data: Array | None = None,
        strength: float = 1.0,
        mask: Any = None,
        rng: RNGLike | None = None,
    ) -> Iterator[Array]:
        """Yields the state (B, ...) after every call of the model; the last one is the data.

        From noise (B, ...), drawn from N(0, 1), alone; or, image to image, from `data` (B, ...) with noise:
        of `steps` only the share `strength` is made, from the level of noise where they begin. With `mask`
        (bools that broadcast with noise) the data stays where the mask is false, and is made anew where it is
        true; then with strength 1 the start is noise alone. `rng` is for a scheduler that adds noise.

        Raises ValueError for steps outside 1 ... T, a strength outside [0, 1] or of no step, and strength or
        mask without data."""
        if data is None and (strength != 1 or mask is not None):
            raise ValueError("strength and mask are about data: pass data, too")
        if not 1 <= steps <= len(self.schedule):
            raise ValueError(f"steps must be within 1 .. {len(self.schedule)}, got {steps}")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1], got {strength}")
        skipped = steps - int(steps * strength)
        levels = self.levels(steps)[skipped:]
        if skipped == steps or not levels:
            raise ValueError(f"strength={strength} of {steps} steps is no step: take more of either")
        if data is None or (mask is not None and strength == 1):
            x = noise * self.noise_scale(steps)
        else:
            x = mix(levels[0], data, noise)
        if mask is not None:
            mask = on_device_of(noise, np.broadcast_to(mask, noise.shape))
        for i, state in enumerate(self.states(model, x, steps, skipped, rng=rng), 1):
            if mask is not None:  # the sampler goes on from what is written here
                state[...] = np.where(mask, state, mix(levels[i], data, noise) if i < len(levels) else data)
            yield state

    def numbers(self, steps: int) -> Floats:
        """The numbers of the visited steps (steps,), falling, counted from 0; not whole for "linspace"."""
        total = len(self.schedule)
        if self.spacing == "linspace":
            return np.linspace(0, total - 1, steps)[::-1]
        if self.spacing == "trailing":
            return np.round(total - np.arange(steps) * (total / steps)) - 1
        return self.with_offset(np.arange(steps, dtype=np.float64)[::-1] * (total // steps))

    def with_offset(self, numbers: Floats) -> Floats:
        """The numbers moved up by the offset. ValueError where the first one is then beyond the last step."""
        moved, total = numbers + self.offset, len(self.schedule)
        if moved[0] >= total:
            raise ValueError(
                f"{len(numbers)} steps with steps_offset={self.offset} begin at {moved[0]:.0f}, after the "
                f"last of the folder's {total} steps, {total - 1}: take fewer steps"
            )
        return moved

    def levels(self, steps: int) -> list[tuple[float, float]]:
        """At each call of the model, the factors of the data and of the noise in the state."""
        raise NotImplementedError

    def noise_scale(self, steps: int) -> float:
        """The first state from noise alone, divided by the noise."""
        return 1.0

    def states(
        self, model: Model, x: Array, steps: int, skipped: int, *, rng: RNGLike | None
    ) -> Iterator[Array]:
        """The states from x, which is the state at the call after `skipped`."""
        raise NotImplementedError


def mix(level: tuple[float, float], data: Any, noise: Array) -> Array:
    """The data and the noise by their factors."""
    return data * level[0] + noise * level[1]


# -- steps of the training: DDIM, PNDM ------------------------------------------------------------


@dataclass(frozen=True)
class StepScheduler(Scheduler):
    """DDIMScheduler (order 1) and PNDMScheduler (order 4). A step goes T // n numbers down, wherever the next
    one is: with "linspace", and where n does not divide T, the states are then a little off their steps, and
    equal to diffusers'. The last step ends at `last`: 0, the data, or 1, the least noise of the training
    (set_alpha_to_one)."""

    order: int
    last: int

    def calls(self, steps: int) -> list[int]:
        visited = (np.round(self.numbers(steps)).astype(int) + 1).tolist()
        return plms_calls(visited) if self.order > 1 else visited

    def levels(self, steps: int) -> list[tuple[float, float]]:
        s = self.schedule
        return [(float(s.alpha[t]), float(s.sigma[t])) for t in self.calls(steps)]

    def states(
        self, model: Model, x: Array, steps: int, skipped: int, *, rng: RNGLike | None
    ) -> Iterator[Array]:
        process, calls = Process(self.schedule, self.predicts), self.calls(steps)[skipped:]
        stride = len(self.schedule) // steps
        return plms(process, model, x, order=self.order, calls=calls, stride=stride, last=self.last)


# -- levels of noise: Euler, DPM-Solver++ ---------------------------------------------------------


def trained_sigmas(schedule: Schedule) -> Floats:
    """σ_t/α_t of all steps of the training (T,). Where it would be infinite, at zero-terminal SNR, ᾱ_T is
    taken as 2⁻²⁴."""
    alpha_bar = np.where(schedule.alpha_bar == 0, 2.0**-24, schedule.alpha_bar)[1:]
    return np.sqrt((1 - alpha_bar) / alpha_bar)


@dataclass(frozen=True)
class LevelScheduler(Scheduler):
    """A scheduler that chooses levels of noise σ_t/α_t, also between the steps of the training. After the
    last level comes 0, the data, or with `stop` the least noise of the training."""

    karras: bool
    stop: bool

    def chosen(self, steps: int) -> tuple[Floats, Floats, float]:
        """The levels, the network's numbers for them, and where the last step ends."""
        raise NotImplementedError

    def respaced(self, steps: int, skipped: int) -> Process:
        """The process with these levels only."""
        sigmas, numbers, last = self.chosen(steps)
        with quiet():
            schedule = sigma_schedule(sigmas[skipped:], numbers[skipped:], last)
        return Process(schedule, self.predicts)

    def number_of(self, sigmas: Floats) -> Floats:
        """The network's numbers for levels of noise, between those of the training by their logarithms."""
        trained = trained_sigmas(self.schedule)
        return np.interp(np.log(sigmas), np.log(trained), np.arange(len(trained)))


@dataclass(frozen=True)
class EulerScheduler(LevelScheduler):
    """EulerDiscreteScheduler, and with eta = 1 EulerAncestralDiscreteScheduler. The states are y = x_t/α_t,
    as in `sigma_euler`. With `log_linear` the levels are even in ln σ, though the numbers stay."""

    log_linear: bool
    eta: float

    def chosen(self, steps: int) -> tuple[Floats, Floats, float]:
        trained, numbers = trained_sigmas(self.schedule), self.numbers(steps)
        sigmas = np.interp(numbers, np.arange(len(trained)), trained)
        last = trained[0] if self.stop else 0.0
        if self.log_linear:
            *levels, last = np.geomspace(trained[-1], trained[0], steps + 1)
            sigmas = np.array(levels)
        if self.karras:
            ends = (trained[0], trained[-1]) if self.log_linear else (sigmas[-1], sigmas[0])
            sigmas, last = karras_sigmas(steps, *ends), trained[0] if self.stop else 0.0
            numbers = self.number_of(sigmas)
        kept = sigmas > last * (1 + 1e-9)  # a step from a level to itself changes nothing
        return sigmas[kept], numbers[kept], float(last)

    def levels(self, steps: int) -> list[tuple[float, float]]:
        return [(1.0, float(sigma)) for sigma in self.chosen(steps)[0]]

    def noise_scale(self, steps: int) -> float:
        largest = self.chosen(steps)[0][0]
        return float(np.sqrt(largest**2 + 1) if self.spacing == "leading" else largest)

    def states(
        self, model: Model, x: Array, steps: int, skipped: int, *, rng: RNGLike | None
    ) -> Iterator[Array]:
        process = self.respaced(steps, skipped)
        x = x * float(process.schedule.alpha[-1])
        return sigma_euler(process, model, x, eta=self.eta, rng=rng)


@dataclass(frozen=True)
class DPMSolverScheduler(LevelScheduler):
    """DPMSolverMultistepScheduler. Its numbers are those of n + 1 steps without the lowest, and begin where λ
    is at least `smallest_lambda`. `whole` rounds the numbers that belong to Karras et al.'s levels."""

    order: int
    heun: bool
    lower_order_final: bool
    smallest_lambda: float
    whole: bool

    def numbers(self, steps: int) -> Floats:
        total = int(np.sum(-np.log(trained_sigmas(self.schedule)) >= self.smallest_lambda))
        if self.spacing == "trailing":
            numbers = np.round(total - np.arange(steps) * (len(self.schedule) / steps)) - 1
            return numbers[numbers >= 0]
        if total <= steps:
            raise ValueError(f"steps must be below {total}, the steps that are left, got {steps}")
        if self.spacing == "linspace":
            return np.round(np.linspace(0, total - 1, steps + 1))[:0:-1]
        return self.with_offset(np.arange(1.0, steps + 1)[::-1] * (total // (steps + 1)))

    def chosen(self, steps: int) -> tuple[Floats, Floats, float]:
        trained, numbers = trained_sigmas(self.schedule), self.numbers(steps)
        if self.karras:
            sigmas = karras_sigmas(steps, trained[0], trained[-1])
            numbers = self.number_of(sigmas)
            numbers = np.round(numbers) if self.whole else np.floor(numbers)
        else:
            sigmas = np.interp(numbers, np.arange(len(trained)), trained)
        return sigmas, numbers, float(trained[0]) if self.stop else 0.0

    def levels(self, steps: int) -> list[tuple[float, float]]:
        s = self.respaced(steps, 0).schedule
        return list(zip(s.alpha[:0:-1].tolist(), s.sigma[:0:-1].tolist(), strict=True))

    def states(
        self, model: Model, x: Array, steps: int, skipped: int, *, rng: RNGLike | None
    ) -> Iterator[Array]:
        return dpm_solver(
            self.respaced(steps, skipped),
            model,
            x,
            order=self.order,
            heun=self.heun,
            lower_order_final=self.lower_order_final and len(self.chosen(steps)[0]) < 15,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning that the last step shows some of the data: Stable Diffusion's does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

"""The forward process: data is turned into noise, by a rule that nobody has to learn.

One step is q(x_t | x_{t-1}) = N(sqrt(1 - β_t)·x_{t-1}, β_t). All of them together have the closed form
q(x_t | x0) = N(sqrt(ᾱ_t)·x0, 1 - ᾱ_t), and a step back is known where x0 is: the posterior
q(x_{t-1} | x_t, x0) (Ho, Jain & Abbeel 2020, arXiv:2006.11239, eq. 2, 4 and 6). So a model that sees x_t has
only to say what it is made of. With

    x_t = signal·x0 + noise·ε,    signal² + noise² = 1,

it may predict ε, x0, or v = signal·ε - noise·x0 (Salimans & Ho 2022, arXiv:2202.00512, section 4); given x_t
each of them gives the others, since (x_t, v) is (x0, ε) rotated.

Here x are arrays (B, ...), and t is one step for all of them or (B,), one for each.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from tinygen.diffusion.schedule import Schedule
from tinygen.tensor import Array
from tinygen.types import Floats

Prediction = Literal["eps", "x0", "v"]
Variance = Literal["small", "large", "learned"]


class Process:
    """The process of a schedule, and what its model predicts: "eps", "x0" or "v"."""

    def __init__(self, schedule: Schedule, predicts: Prediction = "eps") -> None:
        if predicts not in get_args(Prediction):
            raise ValueError(f'predicts must be "eps", "x0" or "v", got {predicts!r}')
        self.schedule = schedule
        self.predicts = predicts

    def respaced(self, kept: Any) -> Process:
        """The same with only the steps `kept`: what a sampler takes to go in fewer steps."""
        return Process(self.schedule.respaced(kept), self.predicts)

    # -- into noise --------------------------------------------------------------------------------

    def step(self, x: Array, t: Any, noise: Array) -> Array:
        """x_t of x_{t-1}, with the noise N(0, 1) (B, ...) of this step; x_{-1} is the data."""
        betas = self.schedule.betas
        return at(np.sqrt(1 - betas), t, x) * x + at(np.sqrt(betas), t, x) * noise

    def diffuse(self, x0: Array, t: Any, noise: Array) -> Array:
        """x_t of the data at once, with the sum of the noise of all steps up to t, as N(0, 1) (B, ...):
        sqrt(ᾱ_t)·x0 + sqrt(1 - ᾱ_t)·ε. Both factors are roots: some slides have one without, and then the
        variance of x_t is not 1 where that of x0 is."""
        return at(self.schedule.signal, t, x0) * x0 + at(self.schedule.noise, t, x0) * noise

    # -- and back ----------------------------------------------------------------------------------

    def posterior(self, x0: Array, x: Array, t: Any) -> tuple[Array, Array]:
        """Mean (B, ...) and variance, which broadcasts with it, of x_{t-1} given x = x_t and the data."""
        s = self.schedule
        mean = at(s.posterior_from_x0, t, x) * x0 + at(s.posterior_from_x, t, x) * x
        return mean, at(s.posterior_variance, t, x)

    def eps(self, x0: Array, x: Array, t: Any) -> Array:
        """The noise in x = x_t, of which x0 is the data."""
        return (x - at(self.schedule.signal, t, x) * x0) / at(self.schedule.noise, t, x)

    def target(self, x0: Array, noise: Array, t: Any) -> Array:
        """What the model should say about x_t = signal·x0 + noise·ε."""
        if self.predicts == "eps":
            return noise
        if self.predicts == "x0":
            return x0
        return at(self.schedule.signal, t, x0) * noise - at(self.schedule.noise, t, x0) * x0

    def split(self, prediction: Array, x: Array, t: Any) -> tuple[Array, Array]:
        """The data x0 and the noise ε that the model's prediction says are in x = x_t.

        Toward the last steps, x0 of a predicted ε is divided by a small signal, and errors with it."""
        if self.predicts == "x0":
            return prediction, self.eps(prediction, x, t)
        signal, noise = at(self.schedule.signal, t, x), at(self.schedule.noise, t, x)
        if self.predicts == "eps":
            return (x - noise * prediction) / signal, prediction
        return signal * x - noise * prediction, noise * x + signal * prediction

    # -- the width of a model's step back ----------------------------------------------------------

    def log_variance(self, variance: Variance, x: Array, t: Any, between: Any = None) -> Any:
        """The logarithm of the variance of a model's step back from x = x_t; it broadcasts with x.

        It is the posterior's ("small") or β ("large"): the first is right for data that is one point, the
        second for N(0, 1), and what is right for other data of variance 1 at most lies between (Ho et al.,
        section 3.2). So "learned" is where the model says, by numbers `between` them (B, ...): -1 is the
        posterior's, 1 is β, and evenly in the logarithm (Nichol & Dhariwal 2021, arXiv:2102.09672, section
        3.1). At t = 0, where the posterior has no width, "small" and "large" are that of t = 1."""
        small = at(self.schedule.log_small, t, x)
        if variance == "small":
            return small
        if variance == "large":
            return at(self.schedule.log_large, t, x)
        if variance == "learned":
            return small + (0.5 * between + 0.5) * (at(np.log(self.schedule.betas), t, x) - small)
        raise ValueError(f'variance must be "small", "large" or "learned", got {variance!r}')


def halves(prediction: Any, x: Array, variance: Variance) -> tuple[Any, Any]:
    """What a model predicts of x (B, C, ...), and what it says of the variance: None, unless that is
    "learned"; then the model makes 2C channels, the second half for that, and both are (B, C, ...).

    Raises ValueError when the prediction has another shape."""
    c = x.shape[1]
    learned = variance == "learned"
    if prediction.shape != (len(x), 2 * c if learned else c, *x.shape[2:]):
        must = "make twice the channels, to learn the variance too" if learned else "keep the shape"
        raise ValueError(f"the model made {prediction.shape} of x {x.shape}: it must {must}")
    return (prediction[:, :c], prediction[:, c:]) if learned else (prediction, None)


def at(values: Floats, t: Any, x: Array) -> Array:
    """values[t] in the dtype of x (B, ...), in a shape that broadcasts with it: () or (B, 1, ...).

    Raises TypeError unless x is of floats, IndexError for t outside 0 .. T - 1, ValueError for t of another
    shape than () and (B,)."""
    if x.dtype.kind != "f":
        raise TypeError(f"a diffusion is of floats, got {x.dtype}: scale the data, for pictures to [-1, 1]")
    t = np.asarray(t)
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be one step, or one for each of x {x.shape}, got shape {t.shape}")
    if t.size and not 0 <= t.min() <= t.max() < len(values):  # -1 would be taken for the last step
        raise IndexError(f"t must be within 0 .. {len(values) - 1}, got {t.min()} .. {t.max()}")
    chosen = values[t].reshape(t.shape + (1,) * (x.ndim - 1) * t.ndim)
    return np.asarray(chosen, dtype=x.dtype, like=x)

"""The forward process: data is turned into noise by a fixed rule, without learning.

One step is q(x_t | x_{t-1}) = N(sqrt(1 - β_t) x_{t-1}, β_t), where N(mean, variance). All steps up to t
together have the closed form q(x_t | x_0) = N(α_t x_0, σ_t²), and one step back is known where x_0 is: the
posterior q(x_{t-1} | x_t, x_0) (Ho, Jain & Abbeel 2020, arXiv:2006.11239, eq. 2, 4 and 6). So it is enough
that a model sees x_t and predicts the data and the noise in it. With

    x_t = α_t x_0 + σ_t ε,    α_t² + σ_t² = 1,

it may predict ε, x_0, or v = α_t ε - σ_t x_0 (Salimans & Ho 2022, arXiv:2202.00512, section 4). Given x_t
each of them determines the others: (x_t, v) is (x_0, ε) rotated.

Here x are arrays (B, ...), and t = 1 ... T is one step for all of them or (B,), one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from tinygen.diffusion.schedule import Schedule
from tinygen.tensor import Array
from tinygen.types import Floats, Ids, IdsLike

Prediction = Literal["eps", "x0", "v"]
Variance = Literal["small", "large", "learned"]


class Process:
    """The forward process of a schedule, and what its model predicts: "eps", "x0" or "v".

    Raises ValueError for another word, and for "eps" where α_T = 0: x_T is then ε itself, which says
    nothing about x_0."""

    def __init__(self, schedule: Schedule, predicts: Prediction = "eps") -> None:
        if predicts not in get_args(Prediction):
            raise ValueError(f'predicts must be "eps", "x0" or "v", got {predicts!r}')
        if predicts == "eps" and schedule.alpha[-1] == 0:
            raise ValueError(
                'the schedule has zero-terminal SNR (α_T = 0), and predicts is "eps": ε at step T does '
                'not determine x_0, so let the model predict "v" (or "x0")'
            )
        self.schedule = schedule
        self.predicts = predicts

    def respace(self, steps: Sequence[int] | Ids) -> Process:
        """The same process with only these of the steps 1 ... T: for sampling in fewer steps."""
        return Process(self.schedule.respace(steps), self.predicts)

    # -- into noise --------------------------------------------------------------------------------

    def step(self, x: Array, t: IdsLike, eps: Array) -> Array:
        """x_t from x = x_{t-1}, with the standard normal noise eps (B, ...) of this step.

        Eq.: q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t)  (Ho et al. 2020, eq. 2)
        Held by: tests/diffusion/test_process.py::test_one_step_of_hand
        """
        beta = self.schedule.beta
        return coefficient(np.sqrt(1 - beta), t, x) * x + coefficient(np.sqrt(beta), t, x) * eps

    def diffuse(self, x0: Array, t: IdsLike, eps: Array) -> Array:
        """A sample of q(x_t | x_0) in one step: α_t x_0 + σ_t ε. `eps` (B, ...) is standard normal, the
        combined noise of steps 1 ... t. Both factors are roots of ᾱ_t and 1 - ᾱ_t; some slides have one
        without the root, and then the variance of x_t is not 1 where the variance of x_0 is.

        Eq.: q(x_t | x_0) = N(√ᾱ_t x_0, 1 - ᾱ_t)  (Ho et al. 2020, eq. 4)
        Held by: tests/diffusion/test_process.py::test_step_by_step_is_one_shot
        """
        s = self.schedule
        return coefficient(s.alpha, t, x0) * x0 + coefficient(s.sigma, t, x0) * eps

    # -- and back ----------------------------------------------------------------------------------

    def posterior(self, x0: Array, x: Array, t: IdsLike) -> tuple[Array, Array]:
        """Mean (B, ...) and variance, which broadcasts with it, of x_{t-1} given x = x_t and x_0.

        Eq.: q(x_{t-1} | x_t, x_0) = N(√ᾱ_{t-1} β_t/(1-ᾱ_t) x_0 + √(1-β_t) (1-ᾱ_{t-1})/(1-ᾱ_t) x_t,
            (1-ᾱ_{t-1})/(1-ᾱ_t) β_t)  (Ho et al. 2020, eq. 6 and 7)
        Held by: tests/diffusion/test_process.py::test_posterior_is_gaussian_conditioning,
            tests/diffusion/test_process.py::test_posterior_is_bayes_rule
        """
        s = self.schedule
        mean = coefficient(s.posterior_from_x0, t, x) * x0 + coefficient(s.posterior_from_x, t, x) * x
        return mean, coefficient(s.posterior_variance, t, x)

    def eps_of(self, x0: Array, x: Array, t: IdsLike) -> Array:
        """The noise ε in x = x_t whose data is x_0."""
        return (x - coefficient(self.schedule.alpha, t, x) * x0) / coefficient(self.schedule.sigma, t, x)

    def target(self, x0: Array, eps: Array, t: IdsLike) -> Array:
        """The quantity that the model should predict for x_t = α_t x_0 + σ_t ε.

        Eq.: v = α_t ε - σ_t x_0  (Salimans & Ho 2022, section 4)
        Held by: tests/diffusion/test_process.py::test_v_is_a_rotation,
            tests/diffusion/test_process.py::test_x0_and_eps_undo_target
        """
        if self.predicts == "eps":
            return eps
        if self.predicts == "x0":
            return x0
        return coefficient(self.schedule.alpha, t, x0) * eps - coefficient(self.schedule.sigma, t, x0) * x0

    def x0_and_eps(self, prediction: Array, x: Array, t: IdsLike) -> tuple[Array, Array]:
        """The data x_0 and the noise ε in x = x_t by the model's prediction.

        Toward the last steps α_t is small: x_0 from a predicted ε is divided by it, and so are the errors."""
        if self.predicts == "x0":
            return prediction, self.eps_of(prediction, x, t)
        alpha, sigma = coefficient(self.schedule.alpha, t, x), coefficient(self.schedule.sigma, t, x)
        if self.predicts == "eps":
            return (x - sigma * prediction) / alpha, prediction
        return alpha * x - sigma * prediction, sigma * x + alpha * prediction

    # -- the variance of a model's step back -------------------------------------------------------

    def log_variance(self, variance: Variance, x: Array, t: IdsLike, fraction: Any = None) -> Array:
        """The logarithm of the variance of the model's step from x = x_t back to x_{t-1}; it broadcasts with
        x.

        "small" is the variance of the posterior, right for data that is one point; "large" is β_t, right for
        data N(0, 1). For other data of variance at most 1 the right one lies between (Ho et al., section
        3.2). So with "learned" the model interpolates between the two logarithms by `fraction` (B, ...): -1
        is the posterior's, 1 is β_t (Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1). At t = 1, where
        the posterior has variance 0, "small" and "large" are the posterior's at t = 2.

        Eq.: ln Σ = f ln β_t + (1 - f) ln β̃_t,  f = (fraction + 1) / 2  (Nichol & Dhariwal 2021, eq. 15)
        Held by: tests/diffusion/test_bound.py::test_learned_lies_between
        """
        small = coefficient(self.schedule.log_small, t, x)
        if variance == "small":
            return small
        if variance == "large":
            return coefficient(self.schedule.log_large, t, x)
        if variance == "learned":
            log_beta = np.append(np.nan, np.log(self.schedule.beta[1:]))
            return small + (0.5 * fraction + 0.5) * (coefficient(log_beta, t, x) - small)
        raise ValueError(f'variance must be "small", "large" or "learned", got {variance!r}')


def split_variance(prediction: Any, x: Array, variance: Variance) -> tuple[Any, Any]:
    """The model's prediction and its `fraction` for `log_variance`, both in the shape of x (B, C, ...).

    A model that learns its variance makes 2C channels, the second half for the fraction; otherwise the
    fraction is None. Raises ValueError when the prediction has another shape."""
    c = x.shape[1]
    learned = variance == "learned"
    if prediction.shape != (len(x), 2 * c if learned else c, *x.shape[2:]):
        must = "make twice the channels, to learn the variance too" if learned else "keep the shape"
        raise ValueError(f"the model made {prediction.shape} of x {x.shape}: it must {must}")
    return (prediction[:, :c], prediction[:, c:]) if learned else (prediction, None)


def coefficient(values: Floats, t: IdsLike, x: Array) -> Array:
    """values[t], of values (T + 1,), in the dtype of x (B, ...) and a shape that broadcasts with it: () or
    (B, 1, ...).

    Raises TypeError unless x is of floats, IndexError for t outside 1 ... T, ValueError for t of a shape
    other than () and (B,)."""
    if x.dtype.kind != "f":
        raise TypeError(f"a diffusion needs floats, got {x.dtype}: scale the data, for pictures to [-1, 1]")
    t = np.asarray(t)
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be one step, or one for each of x {x.shape}, got shape {t.shape}")
    if t.size and not 1 <= t.min() <= t.max() < len(values):  # -1 would be taken for the last step
        raise IndexError(f"t must be within 1 .. {len(values) - 1}, got {t.min()} .. {t.max()}")
    chosen = values[t].reshape(t.shape + (1,) * (x.ndim - 1) * t.ndim)
    return np.asarray(chosen, dtype=x.dtype, like=x)

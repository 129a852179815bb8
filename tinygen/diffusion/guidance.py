"""Guidance: a sampler is led toward a condition more strongly than the data alone would lead it.

What is made here is a model again, a function of x (B, ...) and the numbers of the steps (B,), for any
sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, at
from tinygen.diffusion.sampling import Model
from tinygen.transforms import grad


def guided(conditional: Any, unconditional: Any, scale: float) -> Any:
    """Classifier-free guidance: away from the prediction without the condition, through the one with it (Ho &
    Salimans 2022, arXiv:2207.12598, eq. 6, where the weight is scale - 1). Scale 1 is `conditional`, 0 is
    `unconditional`, to the bit."""
    return scale * conditional + (1 - scale) * unconditional


def classifier_free(
    model: Callable[..., Any], condition: Sequence[Any], nothing: Sequence[Any], scale: float
) -> Model:
    """`guided` as a model of x and t, from one model(x, t, *condition) that knows both: it was trained with
    `nothing` in place of some of its conditions (section 3.2).

    Both are as many arrays as the model takes, (B, ...), one row for each x; of `nothing` it is enough that
    they broadcast to that. The two predictions come from one batch, twice as long. At scale 1 and 0 only one
    is needed, and made. Raises ValueError when the numbers of arrays differ."""
    if len(condition) != len(nothing):
        raise ValueError(
            f"condition and nothing must be as many arrays, got {len(condition)} and {len(nothing)}: "
            "a single one is (labels,)"
        )
    nothing = [np.broadcast_to(n, np.shape(c)) for c, n in zip(condition, nothing, strict=True)]
    if scale in (0, 1):
        alone = condition if scale else nothing
        return lambda x, t: model(x, t, *alone)
    both = [np.concatenate([c, n]) for c, n in zip(condition, nothing, strict=True)]

    def guided_model(x: Any, t: Any) -> Any:
        prediction = model(np.concatenate([x, x]), np.concatenate([t, t]), *both)
        with_, without = prediction[: len(x)], prediction[len(x) :]
        c = x.shape[1]
        return with_variance(guided(with_[:, :c], without[:, :c], scale), with_)

    return guided_model


def classifier_guided(
    process: Process, model: Model, log_probability: Callable[..., Any], scale: float
) -> Model:
    """Guidance by a classifier of noisy data (Dhariwal & Nichol 2021, arXiv:2105.05233, section 4): what a
    model of all data predicts, changed by the gradient of ln p(y | x_t) into what one of those with y would.

    `log_probability` gives ln p(y | x_t) (B,) of the wanted y for a Tensor x (B, ...) and the numbers of the
    steps (B,). By Bayes' rule its gradient by x is what the score of the data with y has more than that of
    all data; and the score is -ε/noise, so that ε becomes ε - scale·noise·gradient, as in algorithm 2. An
    ancestral step with the large variance then moves by scale·β·gradient/sqrt(1 - β); algorithm 1 leaves out
    the root.

    The process is the one that is sampled, respaced or not. Raises ValueError for the number of a step
    that it has not."""
    numbers = process.schedule.timesteps

    def guided_model(x: Any, t: Any) -> Any:
        step = np.searchsorted(numbers, t)
        if not np.array_equal(numbers.take(step, mode="clip"), t):
            raise ValueError(f"steps must be among those of the process, {numbers}, got {t}")
        pull = scale * grad(lambda x: np.sum(log_probability(x, t)))(x).data
        noise, signal = at(process.schedule.noise, step, x), at(process.schedule.signal, step, x)
        prediction = model(x, t)
        c = x.shape[1]
        change = process.target(noise**2 / signal * pull, -noise * pull, step)
        return with_variance(prediction[:, :c] + change, prediction)

    return guided_model


def with_variance(changed: Any, prediction: Any) -> Any:
    """`changed` (B, C, ...), with what `prediction` says of the variance where it does, in 2C channels."""
    c = changed.shape[1]
    return changed if prediction.shape[1] == c else np.concatenate([changed, prediction[:, c:]], axis=1)

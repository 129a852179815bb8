"""PLMS: DDIM with an average of the last four predictions (Liu, Ren, Lin & Zhao 2022, arXiv:2202.09778).

A step of DDIM takes the model's prediction at its beginning for all of the step. Adams and Bashforth's
methods for differential equations combine the last predictions: they take the polynomial through them,
averaged over the step to come. With DDIM's map from one level of noise to the next (the paper's "transfer
part"; the whole is a pseudo linear multistep method, section 3) that makes a method of the second order, for
one call of the model a step.

At the first step there is nothing to combine. It is made twice: once by DDIM, and again from where it began,
with the mean of the predictions at both ends (Heun's method). So there is one call more than steps. Stable
Diffusion 1 samples like this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import Model, predict
from tinygen.tensor import Array
from tinygen.types import Ids

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""The weights of the last 1 ... 4 predictions, the newest first."""


def plms_calls(steps: Sequence[int] | Ids) -> list[int]:
    """The steps at which `plms` calls the model to visit `steps` (falling): the second one twice."""
    return [*steps[:2], *steps[1:]]


def transfer(process: Process, prediction: Array, x: Array, t: int, to: int) -> Array:
    """The state at step `to` with the x_0 and the ε that x = x_t has by the prediction (B, ...): a step of
    DDIM over any distance.

    Eq.: x_s = α_s (x_t - σ_t ε̂)/α_t + σ_s ε̂  (Liu et al. 2022, section 3)
    Held by: tests/diffusion/test_plms.py::test_of_order_1_it_is_ddim
    """
    x0, eps = process.x0_and_eps(prediction, x, t)
    return x0 * float(process.schedule.alpha[to]) + eps * float(process.schedule.sigma[to])


def plms(
    process: Process,
    model: Model,
    x: Array,
    *,
    order: int = 4,
    calls: Sequence[int] | None = None,
    stride: int = 1,
    last: int = 0,
) -> Iterator[Array]:
    """Yields the state (B, ...) after every call of the model, from noise x = x_T: T + 1 states, of which the
    first is only tried and the second takes its place.

    `order` (1 to 4) is how many predictions are combined: with 1 this is DDIM without noise, and no step is
    made twice. Combined is what the process predicts: with ε that is the paper's method. `calls` are the
    steps at which the model is called, T, T - 1, T - 1, ..., 1 unless given; each step goes `stride` further
    down, and not below `last`. With a `calls` of its own a process can be sampled at a few of its steps
    without `respace`, also at uneven distances from each other.

    Raises ValueError for an order outside 1 ... 4.

    Eq.: ε̂ = (55 ε_t - 59 ε_{t+1} + 37 ε_{t+2} - 9 ε_{t+3}) / 24  (Liu et al. 2022, section 3)
    Held by: tests/diffusion/test_plms.py::test_a_cubic_is_integrated_exactly,
        tests/diffusion/test_plms.py::test_the_order_of_convergence_is_2
    """
    if not 1 <= order <= len(ADAMS_BASHFORTH):
        raise ValueError(f"order must be within 1 .. {len(ADAMS_BASHFORTH)}, got {order}")
    if calls is None:
        steps = range(len(process.schedule), 0, -1)
        calls = plms_calls(steps) if order > 1 else steps
    before, kept = x, list[Array]()
    for i, t in enumerate(calls):
        x0, eps, _ = predict(process, model, x, t, None)
        prediction = process.target(x0, eps, t)
        if i == 1 and order > 1:
            x = transfer(process, (prediction + kept[0]) * 0.5, before, t + stride, t)
        else:
            kept = [prediction, *kept][:order]
            weights = ADAMS_BASHFORTH[len(kept) - 1]
            average = sum(p * w for p, w in zip(kept[1:], weights[1:], strict=True)) + kept[0] * weights[0]
            x = transfer(process, average, x, t, max(t - stride, last))
        yield x

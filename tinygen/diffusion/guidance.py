"""Guidance: a sampler is led toward a condition more strongly than the data alone would lead it.

What is made here is a model again, a function of x (B, ...) and the numbers of the steps (B,), for any
sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.diffusion.sampling import Model


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
        return guided(prediction[: len(x)], prediction[len(x) :], scale)

    return guided_model

"""Guidance: a sampler is led toward a condition more strongly than the data alone would lead it.

Each function here makes a model again, a function of x (B, ...) and the numbers of the steps (B,), for any
sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.diffusion.process import Process, coefficient
from tinygen.diffusion.sampling import Model
from tinygen.transforms import grad
from tinygen.types import IdsLike, TensorLike

# -- without a classifier --------------------------------------------------------------------------


def guide(conditional: TensorLike, unconditional: TensorLike, scale: float) -> TensorLike:
    """Classifier-free guidance: from the prediction without the condition through the one with it, and beyond
    (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, where the weight w is scale - 1). Scale 1 is `conditional`
    and 0 is `unconditional`, to the bit.

    Eq.: ε̂ = ε(x_t) + scale · (ε(x_t, y) - ε(x_t))  (Ho & Salimans 2022, eq. 6, with w = scale - 1)
    Held by: tests/diffusion/test_guidance.py::test_guide,
        tests/diffusion/test_guidance.py::test_guided_gaussians
    """
    return scale * conditional + (1 - scale) * unconditional


def rescale_guidance(guided: TensorLike, conditional: TensorLike, phi: float) -> TensorLike:
    """The guided prediction (B, ...), rescaled toward the standard deviation of the conditional prediction,
    for each example: completely at phi = 1, not at all at 0 (Lin et al. 2024, arXiv:2305.08891, eq. 15 and
    16). Large guidance scales make predictions too large, and pictures overexposed.

    Eq.: ε̂' = φ ε̂ · std(ε(x_t, y)) / std(ε̂) + (1 - φ) ε̂  (Lin et al. 2024, eq. 15 and 16)
    Held by: tests/diffusion/test_guidance.py::test_rescaled_guidance
    """
    axes = tuple(range(1, guided.ndim))
    wanted, present = (np.std(p, axis=axes, keepdims=True) for p in (conditional, guided))
    return phi * (guided * (wanted / present)) + (1 - phi) * guided


def classifier_free_guidance(
    model: Callable[..., Any],
    condition: Sequence[Any],
    nothing: Sequence[Any],
    scale: float,
    rescale: float = 0.0,
) -> Model:
    """`guide` as a model of x and t, from one model(x, t, *condition) that makes both predictions: it was
    trained with `nothing` in place of some of its conditions (section 3.2).

    `condition` and `nothing` are the model's further arguments, arrays (B, ...); the arrays of `nothing`
    may broadcast. The two predictions come from one batch of twice the size; at scale 1 or 0 only one
    prediction is needed and computed. `rescale` is the phi of `rescale_guidance`. Raises ValueError when
    the numbers of arrays differ."""
    if len(condition) != len(nothing):
        raise ValueError(
            f"condition and nothing must be as many arrays, got {len(condition)} and {len(nothing)}: "
            "a single one is (labels,)"
        )
    pairs = [(c, np.broadcast_to(n, np.shape(c))) for c, n in zip(condition, nothing, strict=True)]
    if scale == 1 or (scale == 0 and rescale == 0):
        needed = [c if scale else n for c, n in pairs]
        return lambda x, t: model(x, t, *needed)
    both = [np.concatenate(pair) for pair in pairs]

    def guided_model(x: TensorLike, t: IdsLike) -> TensorLike:
        prediction = model(np.concatenate([x, x]), np.concatenate([t, t]), *both)
        c = x.shape[1]
        conditional, unconditional = prediction[: len(x), :c], prediction[len(x) :, :c]
        guided = guide(conditional, unconditional, scale)
        if rescale:
            guided = rescale_guidance(guided, conditional, rescale)
        return with_variance_of(prediction[: len(x)], guided)

    return guided_model


# -- with a classifier -----------------------------------------------------------------------------


def classifier_guidance(
    process: Process, model: Model, log_probability: Callable[..., Any], scale: float
) -> Model:
    """Guidance by a classifier of noisy data (Dhariwal & Nichol 2021, arXiv:2105.05233, section 4): the
    prediction of an unconditional model, changed by the gradient of ln p(y | x_t) into the prediction for
    data of class y.

    `log_probability` gives ln p(y | x_t) (B,) of the wanted y for a Tensor x (B, ...) and the numbers of the
    steps (B,). By Bayes' rule its gradient with respect to x is the conditional score minus the unconditional
    one; and the score is -ε/σ_t, so that ε becomes ε - scale·σ_t·gradient, as in algorithm 2. An ancestral
    step with the large variance then moves by scale·β_t·gradient/sqrt(1 - β_t); algorithm 1 leaves out the
    root. Where α_t = 0, x_t says nothing of y, and the prediction stays as it is.

    The process is the one that is sampled, respaced or not. Raises ValueError for the number of a step that
    it does not have.

    Eq.: ε̂ = ε - scale · σ_t ∇ ln p(y | x_t)  (Dhariwal & Nichol 2021, algorithm 2)
    Held by: tests/diffusion/test_guidance.py::test_the_exact_classifier_makes_a_model_of_one_class
    """
    numbers = process.schedule.timesteps

    def guided_model(x: TensorLike, t: IdsLike) -> TensorLike:
        step = np.searchsorted(numbers, t)
        if not np.array_equal(numbers.take(step, mode="clip"), t):
            raise ValueError(f"steps must be among the steps of the process, {numbers[1:]}, got {t}")
        gradient = scale * grad(lambda x: np.sum(log_probability(x, t)))(x).data
        sigma, alpha = (
            coefficient(process.schedule.sigma, step, x),
            coefficient(process.schedule.alpha, step, x),
        )
        x0_change = sigma**2 / np.where(alpha == 0, np.inf, alpha) * gradient
        prediction = model(x, t)
        c = x.shape[1]
        change = process.target(x0_change, -sigma * gradient, step)
        return with_variance_of(prediction, prediction[:, :c] + change)

    return guided_model


def clip_guidance(
    process: Process,
    model: Model,
    image_vectors: Callable[..., Any],
    text_vectors: Any,
    scale: float,
) -> Model:
    """Guidance by a CLIP of noisy data (Nichol et al. 2021, GLIDE, arXiv:2112.10741, section 2.4): the
    prediction of a model without captions, changed by the gradient of the match of x_t and a caption.

    `image_vectors` makes vectors (B, D) of a Tensor x (B, ...) and the numbers of the steps (B,);
    `text_vectors` (B, D) are those of the wanted captions. The match is their dot product. It takes the place
    of ln p(y | x_t) in `classifier_guidance`, though no exact probability: the sum over all captions, by
    which exp(match) would have to be divided, is left out.

    Raises ValueError where `classifier_guidance` does, and for another number of texts than of x.

    Eq.: μ̂ = μ + s Σ ∇ (f(x_t) · g(c))  (Nichol et al. 2021, section 2.4)
    Held by: tests/diffusion/test_guidance.py::test_clip_guidance_moves_the_mean,
        tests/diffusion/test_guidance.py::test_a_quadratic_match_tilts_a_gaussian
    """

    def match(x: Any, t: IdsLike) -> Any:
        if len(x) != len(text_vectors):
            raise ValueError(f"{len(text_vectors)} texts for {len(x)} x: give a text for each")
        return np.sum(image_vectors(x, t) * text_vectors, axis=1)

    return classifier_guidance(process, model, match, scale)


def with_variance_of(prediction: TensorLike, changed: TensorLike) -> TensorLike:
    """`changed` (B, C, ...), followed by the second half of `prediction`'s channels where it makes 2C: the
    part that says the variance."""
    c = changed.shape[1]
    return changed if prediction.shape[1] == c else np.concatenate([changed, prediction[:, c:]], axis=1)

"""Exercises on generative adversarial networks: the losses of the game, and its penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

LOGISTIC = Exercise(
    "logistic_loss",
    "tinygen.models.pictures.gan_losses:logistic_loss",
    "the discriminator's loss",
    hints=(
        "The discriminator is a classifier with two classes. Its outputs are logits.",
        "-E ln σ(real) - E ln(1 - σ(fake)). Which function is -ln σ(x), without overflow?",
        "-ln σ(x) = softplus(-x), and -ln(1 - σ(x)) = softplus(x). Both batches are averaged by themselves.",
    ),
    given=lambda: {"real": numbers(4), "fake": numbers(3), "sure": np.array([800.0, -900.0])},
    checks=(
        Values("logistic_loss(real, fake)"),
        Values("logistic_loss(sure, sure)"),
        Gradient("logistic_loss(real, fake)", by="real fake"),
    ),
    mistakes=(
        Mistake(
            "ops.softplus(-real)",
            "ops.softplus(real)",
            "",
            "the real points are taught to be fake: the logit needs a minus",
        ),
        Mistake(
            "ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))",
            "0.5 * (ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake)))",
            "the factor is 1/2",
            "the two means are averaged instead of added",
        ),
        Mistake(
            "ops.softplus(-real)",
            "-np.log(ops.sigmoid(real))",
            "it is not finite",
            "ln σ underflows for a logit far below 0: use softplus",
        ),
    ),
)

HINGE = Exercise(
    "hinge_loss",
    "tinygen.models.pictures.gan_losses:hinge_loss",
    "the discriminator's loss with a margin",
    hints=(
        "Points that are far enough on the right side should not matter any more.",
        "Real logits should be above 1, fake ones below -1. What is missing costs.",
        "E relu(1 - real) + E relu(1 + fake).",
    ),
    given=lambda: {"real": np.array([2.0, 0.3, -1.5, 0.8]), "fake": np.array([-2.0, 0.4, 1.7])},
    checks=(Values("hinge_loss(real, fake)"), Gradient("hinge_loss(real, fake)", by="real fake")),
    mistakes=(
        Mistake("1 + fake", "1 - fake", "", "fake points are pushed to the real side"),
        Mistake(
            "ops.relu(1 - real)",
            "(1 - real)",
            "",
            "points beyond the margin still count, with a negative loss",
        ),
        Mistake(
            "1 - real", "-real", "the factor is 11/14", "there is no margin: real logits need only be above 0"
        ),
    ),
)

NON_SATURATING = Exercise(
    "non_saturating_loss",
    "tinygen.models.pictures.gan_losses:non_saturating_loss",
    "the generator's loss that does not vanish",
    hints=(
        "The generator wants its points to be taken for real. Where is the gradient largest: where the "
        "discriminator is fooled, or where it is not?",
        "-E ln σ(fake). ln(1 - σ(fake)) has the same fixed point, but no gradient where the "
        "discriminator is sure.",
        "ops.mean(ops.softplus(-fake)).",
    ),
    given=lambda: {"fake": numbers(4)},
    checks=(Values("non_saturating_loss(fake)"), Gradient("non_saturating_loss(fake)", by="fake")),
    mistakes=(
        Mistake(
            "ops.mean(ops.softplus(-fake))",
            "-ops.mean(ops.softplus(fake))",
            "",
            "it is the minimax loss E ln(1 - σ(fake)), which saturates",
        ),
        Mistake(
            "ops.softplus(-fake)",
            "ops.softplus(fake)",
            "",
            "the generator helps the discriminator: its points should be taken for real",
        ),
        Mistake(
            "ops.mean(ops.softplus(-fake))",
            "ops.mean(-fake)",
            "",
            "it is the linear loss of Wasserstein's game, without ln σ",
        ),
    ),
)


def discriminator(x: Any) -> Any:
    """One value for each point (B, 2)."""
    return np.sum(x**2 * np.array([1.0, 3.0]) + np.sin(x), axis=1)


def wave(weight: Any) -> Any:
    """A discriminator with a weight (2,)."""
    return lambda x: np.sum(np.sin(x * weight), axis=1)


INPUT_GRADIENT = Exercise(
    "input_gradient",
    "tinygen.models.pictures.gan_losses:input_gradient",
    "the slope of the discriminator, which a step can train",
    hints=(
        "A penalty on the slope is a part of the loss. So the slope itself needs a gradient.",
        "`vjp(discriminator, detach(x))` gives the values D(x) and a function `pull`. Each value depends on "
        "its own point only: then the gradient of their sum has ∇D of each point.",
        "value, pull = vjp(...); (gradient,) = pull(np.ones_like(value.data)); gradient.reshape(len(x), -1).",
    ),
    given=lambda: {
        "discriminator": discriminator,
        "real": numbers(3, 2),
        "wave": wave,
        "weight": numbers(2),
    },
    checks=(
        Values("input_gradient(discriminator, real)"),
        Gradient("np.sum(input_gradient(wave(weight), real) ** 2)", by="weight"),
    ),
    mistakes=(
        Mistake(
            "np.ones_like(value.data)",
            "np.ones_like(value.data) / len(x)",
            "every entry has the factor 1/3",
            "it is the gradient of the mean: each slope is divided by the number of points",
        ),
        Mistake(
            "gradient.reshape(len(x), -1)",
            "gradient.reshape(-1)",
            "shape (6,), expected (3, 2)",
            "the points are not kept apart",
        ),
        Mistake(
            "gradient.reshape(len(x), -1)",
            "gradient.detach().reshape(len(x), -1)",
            "",
            "the slope is taken off the tape: a penalty on it would train nothing",
        ),
    ),
)

R1 = Exercise(
    "r1",
    "tinygen.models.pictures.gan_losses:r1_penalty",
    "the penalty on the gradient at real points",
    hints=(
        "At the fixed point the discriminator is flat on the data. So its slope there is a cost.",
        "½ E |∇D(x)|²: `input_gradient(discriminator, real)` gives ∇D, (B, numbers of a point), on the tape.",
        "0.5 * ops.mean(np.sum(gradient ** 2, axis=1)).",
    ),
    given=lambda: {"discriminator": discriminator, "real": numbers(3, 2)},
    checks=(Values("r1_penalty(discriminator, real)"),),
    mistakes=(
        Mistake("0.5 * ops.mean", "ops.mean", "the factor is 2", "the factor 1/2 is missing"),
        Mistake(
            "ops.mean(np.sum(input_gradient(discriminator, real) ** 2, axis=1))",
            "ops.mean(input_gradient(discriminator, real) ** 2)",
            "the factor is 1/2",
            "the squares are averaged over the coordinates instead of summed",
        ),
        Mistake(
            "np.sum(input_gradient(discriminator, real) ** 2, axis=1)",
            "np.sqrt(np.sum(input_gradient(discriminator, real) ** 2, axis=1))",
            "",
            "it is the length of the gradient, not its square",
        ),
    ),
)

GRADIENT_PENALTY = Exercise(
    "gradient_penalty",
    "tinygen.models.pictures.gan_losses:gradient_penalty",
    "WGAN-GP: a slope near 1 between real and fake",
    hints=(
        "A discriminator of slope at most 1 measures a distance. Hold the length of its gradient near "
        "1, where? Between the two kinds of points.",
        "x̂ = ε x + (1 - ε) G(z) with one uniform ε for each pair; the penalty is E (|∇D(x̂)| - 1)².",
        "eps = as_generator(rng).random((B, 1, ...)); length = "
        "np.linalg.norm(input_gradient(discriminator, x̂), axis=1); ops.mean((length - 1) ** 2).",
    ),
    given=lambda: {
        "discriminator": discriminator,
        "real": numbers(3, 2),
        "flat": lambda x: np.sum(x * np.array([3.0, 4.0]), axis=1),
    },
    checks=(
        Values("gradient_penalty(discriminator, real, real, rng=0)"),
        Values("gradient_penalty(flat, real, 2 * real, rng=0)"),
    ),
    mistakes=(
        Mistake("(length - 1) ** 2", "length ** 2", "", "the length is held near 0 instead of 1"),
        Mistake(
            "np.linalg.norm(input_gradient(discriminator, eps * real + (1 - eps) * fake), axis=1)",
            "np.sum(input_gradient(discriminator, eps * real + (1 - eps) * fake) ** 2, axis=1)",
            "",
            "it is the square of the length that is held near 1",
        ),
        Mistake(
            "eps * real + (1 - eps) * fake",
            "eps * real + fake",
            "",
            "the point is not between the two: their weights do not sum to 1",
        ),
    ),
)

CHAPTER = Chapter("GAN", (LOGISTIC, NON_SATURATING, HINGE, INPUT_GRADIENT, R1, GRADIENT_PENALTY))

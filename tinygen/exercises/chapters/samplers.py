"""Exercises on samplers, from noise to data, and on scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import diffusion_process, noise_model, numbers, sine_model
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values


def spread(draws: Any) -> Any:
    """The mean and the standard deviation of draws."""
    return {"mean": float(np.mean(draws)), "standard deviation": float(np.std(draws))}


DDIM = Exercise(
    "ddim",
    "tinygen.diffusion.sampling:ddim_step",
    "a step of DDIM",
    hints=(
        "The model says what x_t consists of. Put the same data and noise together again, as step t - "
        "1 has them.",
        "x_{t-1} = α_{t-1} x_0 + √(1 - ᾱ_{t-1} - η² β̃_t) ε + η √β̃_t z: with η > 0 new noise takes "
        "the place of a part of ε.",
        "x0, eps, _ = predict(process, model, x, t, clip); ᾱ_{t-1} is process.schedule.alpha_bar[t - "
        "1], β̃_t is posterior_variance[t]; z is noise_like(x, as_generator(rng)).",
    ),
    given=lambda: {
        "process": diffusion_process(),
        "model": noise_model,
        "x": numbers(2, 3),
        "many": np.full((20_000, 1), 1.5),
        "spread": spread,
    },
    checks=(
        Values("ddim_step(process, model, x, 5)"),
        Values("ddim_step(process, model, x, 1)"),
        Values("ddim_step(process, model, x, 5, clip=0.5)"),
        Values("spread(ddim_step(process, model, many, 9, eta=0.7, rng=0))", within=0.03),
    ),
    mistakes=(
        Mistake(
            "alpha_bar[t - 1]",
            "alpha_bar[t]",
            "",
            "the step ends at t again: the coefficients are those of t",
        ),
        Mistake(
            "1 - alpha_bar - new",
            "1 - alpha_bar",
            "['mean']",
            "new noise is added, and ε is not made smaller for it",
        ),
        Mistake(
            "math.sqrt(alpha_bar) * x0",
            "alpha_bar * x0",
            "",
            "the data is scaled by ᾱ, without the root",
        ),
    ),
)

ANCESTRAL = Exercise(
    "ancestral",
    "tinygen.diffusion.sampling:ancestral_step",
    "a step of DDPM",
    hints=(
        "If x_0 were known, x_{t-1} would be Gaussian with a known mean: the posterior's. The model "
        "gives a guess of x_0.",
        "x_{t-1} = the posterior's mean at the model's x_0, plus noise whose logarithm of the variance "
        "`predict` returns. The last step, t = 1, adds none.",
        "x0, _, log_variance = predict(process, model, x, t, clip, variance); mean, _ = "
        "process.posterior(x0, x, t); noise_like(x, as_generator(rng)) times exp(log_variance / 2).",
    ),
    given=lambda: {
        "process": diffusion_process(),
        "model": noise_model,
        "x": numbers(2, 3),
        "many": np.full((20_000, 1), 1.5),
        "spread": spread,
    },
    checks=(
        Values("ancestral_step(process, model, x, 1, rng=0)"),
        Values("spread(ancestral_step(process, model, many, 6, rng=0))", within=0.03),
        Values("spread(ancestral_step(process, model, many, 6, rng=0, variance='large'))", within=0.03),
    ),
    mistakes=(
        Mistake(
            "    if t == 1:\n        return mean\n",
            "",
            "",
            "the last step adds noise to the finished data",
        ),
        Mistake(
            "np.exp(0.5 * log_variance)",
            "np.exp(log_variance)",
            "it is the square of the right one",
            "the noise is scaled by the variance instead of its root",
        ),
        Mistake(
            "process.posterior(x0, x, t)",
            "process.posterior(x, x0, t)",
            "it is x itself",
            "x_0 and x_t are exchanged in the posterior",
        ),
    ),
)

GUIDE = Exercise(
    "guide",
    "tinygen.diffusion.guidance:guide",
    "classifier-free guidance",
    hints=(
        "Go from the prediction without the condition to the one with it, and beyond. What is at scale "
        "0, and at 1?",
        "unconditional + scale · (conditional - unconditional).",
        "scale * conditional + (1 - scale) * unconditional.",
    ),
    given=lambda: {"conditional": numbers(2, 3), "unconditional": numbers(2, 3, seed=1)},
    checks=(
        Values("guide(conditional, unconditional, 1.0)"),
        Values("guide(conditional, unconditional, 0.0)"),
        Values("guide(conditional, unconditional, 3.0)"),
    ),
    mistakes=(
        Mistake(
            "scale * conditional + (1 - scale) * unconditional",
            "(1 + scale) * conditional - scale * unconditional",
            "it is 2 conditional - 1 unconditional, expected 1 conditional",
            "the scale is the paper's w, which is smaller by 1",
        ),
        Mistake(
            "scale * conditional + (1 - scale) * unconditional",
            "scale * unconditional + (1 - scale) * conditional",
            "it is unconditional itself",
            "the two predictions are exchanged: it leads away from the condition",
        ),
        Mistake(
            "(1 - scale) * unconditional",
            "unconditional",
            "it is 1 conditional + 1 unconditional, expected 1 conditional",
            "the unconditional prediction is added, not the difference of the two",
        ),
    ),
)

DPM_SOLVER = Exercise(
    "dpm_solver",
    "tinygen.diffusion.dpm_solver:integral",
    "the integral in a step of DPM-Solver++(2M)",
    hints=(
        "Over a step λ rises by h, and x_0 alone counts ∫ exp(λ - λ_{t-1}) dλ = 1 - exp(-h). DDIM takes x_0 "
        "as a constant; take a line through the last two.",
        "r = (λ_t - λ_{t+1})/h, and over a step the line rises by D_1 = (x_0 - the one before)/r. In the "
        "middle of the step it is x_0 + D_1/2.",
        "whole = -np.expm1(-h): one x_0 gives whole · x_0, two give whole · (x_0 + D_1/2), with heun "
        "whole · x_0 + (1 - whole/h) D_1; three as in the docstring, with D_1 at λ_t by the parabola.",
    ),
    given=lambda: {"x0s": list(numbers(3, 2, 3)), "lam": np.array([1.6, 0.9, 0.5, -0.8])},
    checks=(
        Values("integral(x0s[:1], lam)"),
        Values("integral(x0s[:2], lam)"),
        Values("integral(x0s[:2], lam, heun=True)"),
        Values("integral(x0s, lam)"),
    ),
    mistakes=(
        Mistake(
            "* float(1 / r)",
            "* float(r)",
            "",
            "the ratio r of the two steps is upside down",
        ),
        Mistake(
            "else 0.5 * whole",
            "else 0.0",
            "",
            "x_0 is taken as a constant: it is DDIM, of the first order",
        ),
        Mistake(
            "(now - x0s[1])",
            "(x0s[1] - now)",
            "",
            "the line goes back to the x_0 before, instead of on",
        ),
    ),
)

SCORE_MATCHING = Exercise(
    "score_matching",
    "tinygen.diffusion.score_matching:score_matching_loss_at",
    "denoising score matching",
    hints=(
        "The score of x̃ = x + σ ε is not known. But the mean of -ε/σ over all pairs that give x̃ is "
        "the score.",
        "The loss is σ²/2 |s(x̃, σ) + ε/σ|² = |σ s + ε|²/2, summed over the entries of x and averaged "
        "over the batch.",
        "each = sigma.reshape(B, 1, ...); score = model(x + each * eps, sigma); 0.5 * ops.mse(each * "
        "score, -eps, 'sum') / len(x).",
    ),
    given=lambda: {
        "model": sine_model,
        "x": numbers(3, 2),
        "eps": numbers(3, 2, seed=1),
        "sigma": np.array([0.1, 1.0, 4.0]),
    },
    checks=(Values("score_matching_loss_at(model, x, sigma, eps)"),),
    mistakes=(
        Mistake("-eps,", "eps,", "", "the score points toward the noise: it must lead back to the data"),
        Mistake(
            "ops.mse(each * score, -eps,",
            "ops.mse(score, -eps / each,",
            "",
            "the weight σ² is missing: small levels count for too much",
        ),
        Mistake("0.5 * ops.mse", "ops.mse", "the factor is 2", "the factor 1/2 is missing"),
    ),
)

LANGEVIN = Exercise(
    "langevin",
    "tinygen.diffusion.score_matching:langevin_step",
    "a step of Langevin dynamics",
    hints=(
        "Uphill along the score alone would end in a maximum. Noise of the right size makes draws of it.",
        "x + α/2 · s(x, σ) + √α · z, with z ~ N(0, 1) and the step size α.",
        "The model gets sigma once for each row, under no_grad(); noise_like(x, as_generator(rng)) is z.",
    ),
    given=lambda: {"model": sine_model, "many": np.full((20_000, 1), 0.5), "spread": spread},
    checks=(
        Values("spread(langevin_step(model, many, 1.0, 2.0, rng=0))", within=0.03),
        Values("spread(langevin_step(model, many, 0.5, 0.25, rng=0))", within=0.03),
    ),
    mistakes=(
        Mistake(
            "0.5 * step_size * score", "step_size * score", "['mean']", "the step uphill is α instead of α/2"
        ),
        Mistake(
            "step_size**0.5 * noise_like",
            "step_size * noise_like",
            "it is the square of the right one",
            "the noise is scaled by the step size instead of its root",
        ),
        Mistake(
            "x + 0.5 * step_size * score",
            "x - 0.5 * step_size * score",
            "it is 1 minus the right one",
            "the step goes down the density",
        ),
    ),
)

CHAPTER = Chapter("Samplers and scores", (ANCESTRAL, DDIM, DPM_SOLVER, GUIDE, SCORE_MATCHING, LANGEVIN))

"""Exercises on diffusion: schedules, noise put in, and what a model predicts."""

from __future__ import annotations

import numpy as np

from tinygen.diffusion.schedule import cosine_schedule
from tinygen.exercises.chapters.inputs import diffusion_process, numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values

COSINE_SCHEDULE = Exercise(
    "cosine_schedule",
    "tinygen.diffusion.schedule:cosine_schedule",
    "ᾱ as a squared cosine",
    hints=(
        "The schedule is given by ᾱ_t, the share of the data in the variance. What is β_t = 1 - ᾱ_t/ᾱ_{t-1}?",
        "f(t) = cos²(π/2 · (t/T + s)/(1 + s)) and ᾱ_t = f(t)/f(0). So β_t = 1 - f(t)/f(t - 1), at most "
        "`largest`.",
        "edges = f(np.arange(steps + 1) / steps); Schedule(np.minimum(1 - edges[1:] / edges[:-1], largest)).",
    ),
    given=dict,
    checks=(
        Values("cosine_schedule(10).alpha_bar"),
        Values("cosine_schedule(6, offset=0.1, largest=0.99).beta"),
        Values("cosine_schedule(50).beta"),
    ),
    mistakes=(
        Mistake(
            "np.square(np.cos(",
            "np.abs(np.cos(",
            "",
            "the cosine is not squared",
        ),
        Mistake(
            "np.minimum(1 - edges[1:] / edges[:-1], largest)",
            "1 - edges[1:] / edges[:-1]",
            "the wrong ones are 0",
            "the last β is not held below `largest`",
        ),
        Mistake(
            "(time + offset) / (1 + offset)",
            "time + offset",
            "",
            "the argument is not divided by 1 + offset: the cosine passes 0 before the end",
        ),
    ),
)

Q_SAMPLE = Exercise(
    "q_sample",
    "tinygen.diffusion.process:Process.diffuse",
    "x_t from x_0 in one step",
    hints=(
        "Many small steps of Gaussian noise make one large one: x_t is a part of x_0 and a part of noise.",
        "x_t = α_t x_0 + σ_t ε with α_t = √ᾱ_t and σ_t = √(1 - ᾱ_t): if x_0 has variance 1, so has x_t.",
        "coefficient(self.schedule.alpha, t, x0) * x0 + coefficient(self.schedule.sigma, t, x0) * eps; "
        "`coefficient` picks entry t, and gives it the axes of x0.",
    ),
    given=lambda: {
        "process": diffusion_process(),
        "x0": numbers(2, 3),
        "eps": numbers(2, 3, seed=1),
        "t": np.array([2, 7]),
    },
    checks=(Values("diffuse(process, x0, 4, eps)"), Values("diffuse(process, x0, t, eps)")),
    mistakes=(
        Mistake(
            "coefficient(s.sigma, t, x0) * eps",
            "coefficient(1 - s.alpha_bar, t, x0) * eps",
            "it is 0.80466 x0 + 0.352522 eps, expected 0.80466 x0 + 0.593735 eps",
            "the noise is scaled by its variance 1 - ᾱ_t, without the root",
        ),
        Mistake(
            "coefficient(s.alpha, t, x0)",
            "coefficient(s.alpha_bar, t, x0)",
            "it is 0.647478 x0 + 0.593735 eps, expected 0.80466 x0 + 0.593735 eps",
            "the data is scaled by ᾱ_t, without the root",
        ),
        Mistake(
            "coefficient(s.alpha, t, x0)",
            "coefficient(np.sqrt(1 - s.beta), t, x0)",
            "it is 0.907089 x0 + 0.593735 eps, expected 0.80466 x0 + 0.593735 eps",
            "the data is scaled as in one step from t - 1, not as in all steps from 0",
        ),
    ),
)

POSTERIOR = Exercise(
    "posterior",
    "tinygen.diffusion.process:Process.posterior",
    "x_{t-1} given x_t and x_0",
    hints=(
        "x_{t-1} is known from two sides: it is x_0 with noise, and x_t is it with more noise. Both "
        "are Gaussian.",
        "The mean is √ᾱ_{t-1} β_t/(1 - ᾱ_t) x_0 + √(1 - β_t) (1 - ᾱ_{t-1})/(1 - ᾱ_t) x_t, the variance "
        "(1 - ᾱ_{t-1})/(1 - ᾱ_t) β_t.",
        "The schedule has these as arrays: posterior_from_x0, posterior_from_x and posterior_variance; "
        "`coefficient` picks entry t.",
    ),
    given=lambda: {
        "process": diffusion_process(),
        "x0": numbers(2, 3),
        "x": numbers(2, 3, seed=1),
        "t": np.array([2, 7]),
    },
    checks=(
        Values("posterior(process, x0, x, 4)"),
        Values("posterior(process, x0, x, 1)"),
        Values("posterior(process, x0, x, t)"),
    ),
    mistakes=(
        Mistake(
            "coefficient(s.posterior_from_x0, t, x) * x0 + coefficient(s.posterior_from_x, t, x) * x",
            "coefficient(s.posterior_from_x0, t, x) * x + coefficient(s.posterior_from_x, t, x) * x0",
            "it is 0.54831 x0 + 0.445877 x, expected 0.445877 x0 + 0.54831 x",
            "the two coefficients are exchanged",
        ),
        Mistake(
            "coefficient(s.posterior_from_x0, t, x) *",
            "coefficient(s.posterior_from_x0 * s.alpha / np.sqrt(s.alpha_bar / (1 - s.beta)), t, x) *",
            "it is 0.40445 x0 + 0.54831 x, expected 0.445877 x0 + 0.54831 x",
            "the root is of ᾱ_t instead of ᾱ_{t-1}",
        ),
        Mistake(
            "coefficient(s.posterior_variance, t, x)",
            "coefficient(s.beta, t, x)",
            "",
            "the variance is β_t, that of the step into the noise",
        ),
    ),
)

V_TARGET = Exercise(
    "v_target",
    "tinygen.diffusion.process:Process.target",
    "what the model should predict: ε, x_0 or v",
    hints=(
        "(x_0, ε) are two coordinates. x_t = α x_0 + σ ε is one direction in their plane; v is the other.",
        "v = α_t ε - σ_t x_0. It is ε at the data's end and -x_0 at the noise's end.",
        "if self.predicts == 'eps': eps; if 'x0': x0; else coefficient(alpha) * eps - "
        "coefficient(sigma) * x0.",
    ),
    given=lambda: {
        "eps_model": diffusion_process("eps"),
        "x0_model": diffusion_process("x0"),
        "v_model": diffusion_process("v"),
        "x0": numbers(2, 3),
        "eps": numbers(2, 3, seed=1),
        "t": np.array([2, 7]),
    },
    checks=(
        Values("target(eps_model, x0, eps, 3)"),
        Values("target(x0_model, x0, eps, 3)"),
        Values("target(v_model, x0, eps, 3)"),
        Values("target(v_model, x0, eps, t)"),
    ),
    mistakes=(
        Mistake(
            "* eps - coefficient(",
            "* eps + coefficient(",
            "it is 0.461616 x0 + 0.88708 eps, expected -0.461616 x0 + 0.88708 eps",
            "it is no rotation: the data needs a minus",
        ),
        Mistake(
            "coefficient(self.schedule.alpha, t, x0) * eps - coefficient(self.schedule.sigma, t, x0) * x0",
            "coefficient(self.schedule.alpha, t, x0) * x0 - coefficient(self.schedule.sigma, t, x0) * eps",
            "it is 0.88708 x0 - 0.461616 eps, expected -0.461616 x0 + 0.88708 eps",
            "data and noise are exchanged",
        ),
        Mistake(
            'if self.predicts == "x0":\n        return x0',
            'if self.predicts == "x0":\n        return eps',
            "it is eps itself",
            "the target for x_0 is ε",
        ),
    ),
)

X0_AND_EPS = Exercise(
    "x0_and_eps",
    "tinygen.diffusion.process:Process.x0_and_eps",
    "the data and the noise, from any prediction",
    hints=(
        "x_t = α x_0 + σ ε is one equation for two unknowns. The prediction is the second one.",
        "From ε: x_0 = (x - σ ε)/α. From x_0: `self.eps_of(x0, x, t)`. From v, rotate back: x_0 = α x "
        "- σ v, ε = σ x + α v.",
        "Three cases of self.predicts, each returns (x0, eps); alpha and sigma are "
        "coefficient(self.schedule.alpha, t, x), and the same of sigma.",
    ),
    given=lambda: {
        "eps_model": diffusion_process("eps"),
        "x0_model": diffusion_process("x0"),
        "v_model": diffusion_process("v"),
        "prediction": numbers(2, 3),
        "x": numbers(2, 3, seed=1),
        "t": np.array([2, 7]),
    },
    checks=(
        Values("x0_and_eps(x0_model, prediction, x, 3)"),
        Values("x0_and_eps(eps_model, prediction, x, 3)"),
        Values("x0_and_eps(v_model, prediction, x, 3)"),
        Values("x0_and_eps(v_model, prediction, x, t)"),
    ),
    mistakes=(
        Mistake(
            "(x - sigma * prediction) / alpha, prediction",
            "x - sigma * prediction, prediction",
            "it is -0.461616 prediction + 1 x, expected -0.520377 prediction + 1.12729 x",
            "x_0 is not divided by α_t",
        ),
        Mistake(
            "alpha * x - sigma * prediction, sigma * x + alpha",
            "alpha * x + sigma * prediction, sigma * x + alpha",
            "it is 0.461616 prediction + 0.88708 x, expected -0.461616 prediction + 0.88708 x",
            "v is rotated the wrong way: x_0 is α x - σ v",
        ),
        Mistake(
            "sigma * x + alpha * prediction",
            "alpha * x + sigma * prediction",
            "it is 0.461616 prediction + 0.88708 x, expected 0.88708 prediction + 0.461616 x",
            "α and σ are exchanged in ε",
        ),
    ),
)

ZERO_TERMINAL = Exercise(
    "zero_terminal_snr",
    "tinygen.diffusion.schedule:rescale_zero_terminal_snr",
    "a schedule that ends in pure noise",
    hints=(
        "The last α must be 0, the first one must stay. A shift does the one, a factor the other.",
        "α_t' = (α_t - α_T) α_1/(α_1 - α_T). Then β_t = 1 - ᾱ_t/ᾱ_{t-1} with ᾱ = α², and ᾱ_0 = 1.",
        "alpha_bar = np.append(1.0, np.square(alpha)); Schedule(1 - alpha_bar[1:] / alpha_bar[:-1], "
        "schedule.timesteps[1:]).",
    ),
    given=lambda: {"schedule": cosine_schedule(10, largest=0.9)},
    checks=(
        Values("rescale_zero_terminal_snr(schedule).alpha"),
        Values("rescale_zero_terminal_snr(schedule.respace([2, 5, 10])).timesteps"),
    ),
    mistakes=(
        Mistake(
            "alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))",
            "alpha = alpha - alpha[-1]",
            "",
            "α is shifted and not scaled: α_1 does not stay",
        ),
        Mistake("np.square(alpha)", "alpha", "it is the root of the right one", "ᾱ is the square of α"),
        Mistake(
            ", schedule.timesteps[1:])",
            ")",
            "",
            "the numbers of the steps, which the network has learned, are lost",
        ),
    ),
)

CHAPTER = Chapter(
    "Diffusion",
    (
        COSINE_SCHEDULE,
        Q_SAMPLE,
        POSTERIOR,
        V_TARGET,
        X0_AND_EPS,
        ZERO_TERMINAL,
    ),
)

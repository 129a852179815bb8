"""Exercises on flows: flow matching, RealNVP."""

from __future__ import annotations

import numpy as np

from tinygen.exercises.chapters.inputs import numbers, sine_model
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.models.pictures.realnvp import Coupling, RealNVP

PATH = Exercise(
    "path",
    "tinygen.diffusion.flow_matching:point_on_path",
    "a point between noise and data",
    hints=(
        "A straight line from noise at t = 0 to data at t = 1.",
        "x_t = (1 - t) ε + t x_1. t is one time, or one for each row: give it the axes of x1.",
        "t = np.asarray(t); t.reshape(t.shape + (1,) * (x1.ndim - 1) * t.ndim); return (1 - t) * eps + "
        "t * x1.",
    ),
    given=lambda: {"x1": numbers(3, 2), "eps": numbers(3, 2, seed=1), "t": np.array([0.0, 0.3, 1.0])},
    checks=(
        Values("point_on_path(x1, 0.25, eps)"),
        Values("point_on_path(x1, t, eps)"),
        Values("point_on_path(x1[:2, :, None], t[:2], eps[:2, :, None])"),
    ),
    mistakes=(
        Mistake(
            "(1 - t) * eps + t * x1",
            "(1 - t) * x1 + t * eps",
            "it is 0.75 x1 + 0.25 eps, expected 0.25 x1 + 0.75 eps",
            "time runs the other way: the data is at t = 0, as in a diffusion",
        ),
        Mistake(
            "(1 - t) * eps + t * x1",
            "np.sqrt(1 - t) * eps + np.sqrt(t) * x1",
            "it is 0.5 x1 + 0.866025 eps, expected 0.25 x1 + 0.75 eps",
            "the path is a diffusion's, with roots, not a straight line",
        ),
        Mistake(
            "t.reshape(t.shape + (1,) * (x1.ndim - 1) * t.ndim)",
            "t",
            "ValueError: operands could not be broadcast together",
            "t has not the axes of x1: one time a row does not broadcast",
        ),
    ),
)

FLOW_LOSS = Exercise(
    "flow_loss",
    "tinygen.diffusion.flow_matching:flow_matching_loss_at",
    "the loss of flow matching",
    hints=(
        "The model should say how fast a point moves on its line. How fast does it?",
        "dx_t/dt = x_1 - ε, whatever t is. The loss is the mean squared error of the model's velocity "
        "at x_t.",
        "x_t = point_on_path(x1, t, eps); ops.mse(model(x_t, t), x1 - eps).",
    ),
    given=lambda: {
        "model": sine_model,
        "x1": numbers(3, 2),
        "eps": numbers(3, 2, seed=1),
        "t": np.array([0.1, 0.5, 0.9]),
    },
    checks=(Values("flow_matching_loss_at(model, x1, t, eps)"),),
    mistakes=(
        Mistake("x1 - eps", "eps - x1", "", "the velocity points from data to noise"),
        Mistake("x1 - eps", "x1", "", "the model is to predict the data, not the velocity"),
        Mistake("model(x_t,", "model(x1,", "", "the model sees the data itself, not the point on the path"),
    ),
)

MIDPOINT = Exercise(
    "midpoint",
    "tinygen.diffusion.flow_matching:midpoint",
    "solve dx/dt = v with the midpoint method",
    hints=(
        "Euler's step uses the velocity at its start, which is wrong for most of the step. Where is a "
        "better one?",
        "Go half a step with the velocity at the start, and look at the velocity there. Then do the "
        "whole step from the start with it.",
        "middle = x + h/2 · velocity(model, x, k h); x = x + h · velocity(model, middle, (k + 0.5) h); "
        "yield x.",
    ),
    given=lambda: {"model": sine_model, "x": numbers(2, 3)},
    checks=(
        Values("np.array(list(midpoint(model, x, 1)))[-1]"),
        Values("np.array(list(midpoint(model, x, 4)))"),
    ),
    mistakes=(
        Mistake(
            "x = x + h * velocity(model, middle, (k + 0.5) * h)",
            "x = x + h * velocity(model, x, k * h)",
            "",
            "it is Euler's method: the velocity in the middle is not used",
        ),
        Mistake(
            "x = x + h * velocity",
            "x = middle + h * velocity",
            "",
            "the whole step begins in the middle instead of the start",
        ),
        Mistake(
            "(k + 0.5) * h",
            "k * h",
            "every entry is too small by 0.5",
            "the velocity in the middle is taken at the time of the start",
        ),
    ),
)


def coupling() -> Coupling:
    """A coupling that keeps coordinates 0 and 2, with weights that are not 0."""
    made = Coupling(np.array([1, 0, 1]), 4, 1, rng=0).astype(np.float64)
    for i, p in enumerate(made.parameters()):
        p.data = 0.5 * numbers(*p.shape, seed=i)
    return made


COUPLING = Exercise(
    "coupling",
    "tinygen.models.pictures.realnvp:Coupling.forward",
    "RealNVP's coupling, and its log-determinant",
    hints=(
        "Some coordinates stay. From these alone, a network computes how the others are scaled and shifted.",
        "y = x · exp(s) + t, where s and t are 0 for the coordinates that stay. The Jacobian is "
        "triangular: ln |det| is the sum of s.",
        "log_scale, shift = self.scale_and_shift(self.mask * x); return x * np.exp(log_scale) + shift, "
        "np.sum(log_scale, axis=1).",
    ),
    given=lambda: {"coupling": coupling(), "x": numbers(2, 3)},
    checks=(Values("forward(coupling, x)"), Gradient("forward(coupling, x)", by="x")),
    mistakes=(
        Mistake(
            "self.scale_and_shift(self.mask * x)",
            "self.scale_and_shift(x)",
            "all of them at index 1 of axis 1",
            "the network sees the coordinates that it changes: the map cannot be inverted",
        ),
        Mistake(
            "np.sum(log_scale, axis=1)",
            "np.sum(np.exp(log_scale), axis=1)",
            "",
            "the scales are summed, not their logarithms",
        ),
        Mistake(
            "np.sum(log_scale, axis=1)",
            "np.mean(log_scale, axis=1)",
            "every entry has the factor 1/3",
            "the logarithms of the scales are averaged instead of summed",
        ),
    ),
)

INVERSE = Exercise(
    "coupling_inverse",
    "tinygen.models.pictures.realnvp:Coupling.inverse",
    "the coupling undone",
    hints=(
        "The coordinates that stay are the same in x and y. So the network gives the same scales and shifts.",
        "y = x · exp(s) + t, solved for x.",
        "log_scale, shift = self.scale_and_shift(self.mask * y); return (y - shift) * np.exp(-log_scale).",
    ),
    given=lambda: {"coupling": coupling(), "y": numbers(2, 3), "x": numbers(2, 3, seed=1)},
    checks=(Values("inverse(coupling, y)"), Values("inverse(coupling, coupling(x)[0])")),
    mistakes=(
        Mistake(
            "(y - shift) * np.exp(-log_scale)",
            "y * np.exp(-log_scale) - shift",
            "all of them at index 1 of axis 1",
            "the scale is undone before the shift: the last step must be undone first",
        ),
        Mistake(
            "np.exp(-log_scale)",
            "np.exp(log_scale)",
            "all of them at index 1 of axis 1",
            "y is scaled again instead of back",
        ),
        Mistake(
            "(y - shift)",
            "(y + shift)",
            "all of them at index 1 of axis 1",
            "the shift is added again instead of taken away",
        ),
    ),
)


def realnvp() -> RealNVP:
    """Two couplings with weights that are not 0."""
    made = RealNVP(2, 4, 1, 2, rng=0).astype(np.float64)
    for i, p in enumerate(made.parameters()):
        p.data = 0.5 * numbers(*p.shape, seed=i)
    return made


CHANGE_OF_VARIABLES = Exercise(
    "change_of_variables",
    "tinygen.models.pictures.realnvp:RealNVP.log_prob",
    "ln p(x) of a flow",
    hints=(
        "Where f stretches space, the points of a small region fill a larger one. What happens to "
        "their density?",
        "ln p(x) = ln N(f(x); 0, 1) + ln |det ∂f/∂x|. `self.codes_and_log_det(x)` gives both.",
        "np.sum(log_normal(z, 0.0, 0.0), axis=1) + log_det.",
    ),
    given=lambda: {"flow": realnvp(), "x": numbers(3, 2)},
    checks=(Values("log_prob(flow, x)"), Gradient("log_prob(flow, x)", by="x")),
    mistakes=(
        Mistake(
            "+ log_det",
            "- log_det",
            "",
            "the log-determinant is taken away: it is that of f, from data to codes, not of its inverse",
        ),
        Mistake(" + log_det", "", "", "the change of volume is left out"),
        Mistake(
            "np.sum(log_normal(z, 0.0, 0.0), axis=1)",
            "np.mean(log_normal(z, 0.0, 0.0), axis=1)",
            "",
            "the coordinates' log-densities are averaged instead of summed",
        ),
    ),
)

CHAPTER = Chapter("Flows", (PATH, FLOW_LOSS, MIDPOINT, COUPLING, INVERSE, CHANGE_OF_VARIABLES))

"""Exercises on the ops of networks: softmax, norms, activations, losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.tape import op

SOFTMAX = Exercise(
    "softmax",
    "tinygen.ops.activation:softmax",
    "probabilities from logits, without overflow",
    hints=(
        "exp(1000) is inf. Which number may you subtract from all entries without a change of the result?",
        "y = exp(x - max) / Σ exp(x - max); `minus_max` subtracts the maximum. Each y_i depends on "
        "every x_j: ∂y_i/∂x_j = y_i (δ_ij - y_j).",
        "The rule is y * (g - Σ g y), where the sum runs along the same axis, with keepdims=True.",
    ),
    given=lambda: {
        "x": numbers(2, 3, 4),
        "large": numbers(2, 3) + 1000,
        "hidden": np.array([[-np.inf, -np.inf], [0.0, -np.inf]]),
    },
    checks=(
        Values("softmax(x)"),
        Values("softmax(x, axis=1)"),
        Values("softmax(large)"),
        Values("softmax(hidden)"),
        Gradient("softmax(x)", by="x"),
        Gradient("softmax(x, axis=1)", by="x"),
    ),
    mistakes=(
        Mistake(
            "minus_max(x, axis)",
            "x",
            "it is not finite",
            "the maximum is not subtracted, so that exp overflows",
        ),
        Mistake(
            "e.sum(axis=axis,",
            "e.sum(axis=-1,",
            "the sums along axis 2 are 1: they should be so along axis 1",
            "the sum runs along the last axis instead of `axis`",
        ),
        Mistake(
            "y * (g - (g * y).sum(axis=axis, keepdims=True))",
            "g * y * (1 - y)",
            "lacks a term",
            "each entry is taken to depend on its own logit only: the sum in the rule is missing",
        ),
    ),
)

LOGSUMEXP = Exercise(
    "logsumexp",
    "tinygen.ops.reduce:logsumexp",
    "log Σ exp without overflow, and its rule",
    hints=(
        "log Σ exp(x) = c + log Σ exp(x - c) for every c. Which c keeps exp small?",
        "top = the maximum with keepdims=True; e = exp(x - top); y = log(Σ e) + top, reshaped if not "
        "keepdims. The derivative by x_i is exp(x_i) / Σ exp(x).",
        "The rule is g.reshape(keepdims_shape(x.shape, axis)) * p with p = e / total: softmax.",
    ),
    given=lambda: {"x": numbers(3, 3), "large": numbers(3) - 2000},
    checks=(
        Values("logsumexp(x)"),
        Values("logsumexp(x, axis=1)"),
        Values("logsumexp(x, axis=0, keepdims=True)"),
        Values("logsumexp(large)"),
        Gradient("logsumexp(x, axis=1)", by="x"),
    ),
    mistakes=(
        Mistake(
            "np.log(total) + top",
            "np.log(total)",
            "",
            "the maximum is subtracted, and not added again",
        ),
        Mistake(
            "    e = np.exp(x - top)",
            "    top = 0 * top\n    e = np.exp(x - top)",
            "it is not finite",
            "nothing is subtracted first, so that exp underflows",
        ),
        Mistake(
            "g.reshape(shape) * p",
            "g * p",
            "wrong sum",
            "the reduced axis is not put back before the product",
        ),
    ),
)


def normalized(standardize: Callable[..., Any], x: Any) -> Any:
    """x̂ as an op of x, over the last axis."""

    @op
    def standardized(x: Any) -> Any:
        return standardize(x, -1, 0.1)

    return standardized(x)


LAYER_NORM = Exercise(
    "layer_norm",
    "tinygen.ops.norm:standardize",
    "mean 0 and variance 1, and the rule behind layer norm",
    hints=(
        "Mean and variance are functions of all entries. So an entry reaches its x̂ on three paths.",
        "x̂ = (x - mean) · inv, inv = 1/sqrt(var + eps), with the biased variance. The path through the mean "
        "takes away mean(g), the path through the variance takes away x̂ mean(g x̂).",
        "dx = inv * (g - mean(g) - x̂ * mean(g * x̂)), all means over `axis` with keepdims=True.",
    ),
    given=lambda: {"x": numbers(2, 3, 4), "g": numbers(2, 3, 4, seed=1), "normalized": normalized},
    checks=(
        Values("standardize(x, -1, 0.1)[0]"),
        Values("standardize(x, (0, 2), 0.1)[0]"),
        Gradient("normalized(standardize, x)", by="x"),
        Values("standardize(x, (0, 2), 0.1)[1](g)"),
    ),
    mistakes=(
        Mistake(
            " + eps)",
            ")",
            "the factor is the same: look at what is summed along an axis",
            "eps is not added to the variance",
        ),
        Mistake(
            "return inv * (",
            "return inv * g + 0 * (",
            "wrong term",
            "mean and variance are taken for constants in the gradient",
        ),
        Mistake(
            "g - mean(g, axis=axis, keepdims=True) - xhat",
            "g - xhat",
            "wrong term",
            "the path through the mean is missing in the gradient",
        ),
    ),
)

GELU = Exercise(
    "gelu",
    "tinygen.ops.activation:gelu",
    "x Φ(x), its formula with tanh, and both derivatives",
    hints=(
        "Φ is the normal distribution function, and its derivative is the normal density.",
        "Φ(x) = (1 + erf(x/√2))/2, so the derivative of x Φ(x) is Φ(x) + x exp(-x²/2)/√(2π). The other "
        "formula is x/2 (1 + tanh u) with u = √(2/π) (x + 0.044715 x³).",
        "For tanh: the derivative is (1 + t)/2 + x/2 (1 - t²) · √(2/π) (1 + 3 · 0.044715 x²), t = tanh(u).",
    ),
    given=lambda: {"x": np.linspace(-3, 3, 7)},
    checks=(
        Values("gelu(x)"),
        Values("gelu(x, 'tanh')"),
        Gradient("gelu(x)", by="x"),
        Gradient("gelu(x, 'tanh')", by="x"),
    ),
    mistakes=(
        Mistake(
            "erf(x * math.sqrt(0.5))",
            "erf(x)",
            "",
            "erf gets x instead of x/√2: it is the distribution function of another variance",
        ),
        Mistake(
            "g * (cdf + x * (np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)))",
            "g * cdf",
            "lacks a term",
            "the product rule is missing: x also moves Φ(x)",
        ),
        Mistake(
            "slope = c * (1 + 3 * a * (x * x))",
            "slope = c * (1 + a * (x * x))",
            "wrong slope or wrong term",
            "the derivative of x³ in the formula with tanh lacks its 3",
        ),
    ),
)

CROSS_ENTROPY = Exercise(
    "cross_entropy",
    "tinygen.ops.loss:token_losses",
    "-ln softmax of the target, and its rule softmax - q",
    hints=(
        "Write the target as a distribution q: 1 on the class, 0 elsewhere. Smoothing moves a part of "
        "it evenly to all classes.",
        "loss = -Σ_v q_v log softmax(x)_v. Rows whose target is ignore_index have q = 0 everywhere.",
        "q = onehot · (1 - smoothing) + counted · smoothing/V; the rule is g[..., None] * (softmax · "
        "counted - q).",
    ),
    given=lambda: {"logits": numbers(4, 3), "targets": np.array([0, 2, -100, 1])},
    checks=(
        Values("token_losses(logits, targets, -100, 0.0)"),
        Values("token_losses(logits, targets, -100, 0.3)"),
        Gradient("token_losses(logits, targets, -100, 0.0)", by="logits"),
        Gradient("token_losses(logits, targets, -100, 0.3)", by="logits"),
    ),
    mistakes=(
        Mistake(
            "losses = -(q * np.where(q > 0, log_p, 0.0))",
            "losses = (q * np.where(q > 0, log_p, 0.0))",
            "the sign is wrong",
            "the logarithm of the probability has no minus",
        ),
        Mistake(
            "smoothing / classes",
            "smoothing / (classes - 1)",
            "",
            "the smoothed part is divided among the other classes only, so that q does not sum to 1",
        ),
        Mistake(
            "np.exp(log_p) * counted - q",
            "np.exp(log_p) - q",
            "wrong mask",
            "rows that are ignored have a gradient",
        ),
    ),
)

CHAPTER = Chapter(
    "Ops of networks",
    (
        SOFTMAX,
        LOGSUMEXP,
        CROSS_ENTROPY,
        LAYER_NORM,
        GELU,
    ),
)

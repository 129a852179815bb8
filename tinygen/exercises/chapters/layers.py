"""Exercises on layers: attention, positions, norms."""

from __future__ import annotations

import numpy as np

from tinygen import nn
from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

ATTENTION = Exercise(
    "attention",
    "tinygen.ops.attention:attention",
    "softmax(q kᵀ / √d) v, the causal mask, and the rule",
    hints=(
        "Each query weighs all keys. A key that it may not see must get the weight 0: which score "
        "gives that after softmax?",
        "scores = q kᵀ / √d; -inf where a query may not look; p = softmax(scores); y = p v. With T "
        "queries and S keys, query i sees keys up to S - T + i.",
        "dv = pᵀ g; dp = g vᵀ; dscores = p * (dp - Σ dp p) / √d; then dq = dscores k and dk = dscoresᵀ "
        "q. The rule is joint: it returns (dq, dk, dv, None).",
    ),
    given=lambda: {
        "q": numbers(3, 4),
        "last": numbers(1, 4),
        "heads": numbers(2, 3, 4),
        "k": numbers(3, 4, seed=1),
        "v": numbers(3, 2),
        "mask": np.array([[True, False, True], [True, True, False], [False, False, False]]),
    },
    checks=(
        Values("attention(q, k, v)"),
        Values("attention(heads, heads, heads)"),
        Values("attention(q, k, v, causal=True)"),
        Values("attention(last, k, v, causal=True)"),
        Values("attention(q, k, v, mask)"),
        Gradient("attention(q, k, v)", by="q k v"),
        Gradient("attention(heads, heads, heads, causal=True)", by="heads"),
    ),
    mistakes=(
        Mistake(
            "np.where(seen, scores, -np.inf)",
            "np.where(seen, scores, 0.0)",
            "",
            "hidden keys get the score 0 instead of -inf: after softmax that is a weight like any other",
        ),
        Mistake(
            "shape=(t, s)), s - t)",
            "shape=(t, s)))",
            "",
            "the causal mask counts queries from the first key: the last query must see all keys",
        ),
        Mistake(
            "keepdims=True)) * scale",
            "keepdims=True))",
            "2 times what it should be",
            "the factor 1/√d is missing in the gradient of the scores",
        ),
    ),
)

SPLIT_HEADS = Exercise(
    "split_heads",
    "tinygen.nn.attention:split_heads",
    "(B, T, C) as H heads (B, H, T, d)",
    hints=(
        "The C channels of one position are its heads, side by side. Which axis has to be cut in two?",
        "First cut the last axis: (B, T, H, d). Then exchange two axes. A reshape alone would mix positions.",
        "x.reshape(b, t, heads, c // heads).transpose(0, 2, 1, 3).",
    ),
    given=lambda: {"x": numbers(2, 3, 4)},
    checks=(Values("split_heads(x, 2)"), Values("split_heads(x, 4)"), Values("split_heads(x, 1)")),
    mistakes=(
        Mistake(
            "x.reshape(b, t, heads, c // heads).transpose(0, 2, 1, 3)",
            "x.reshape(b, heads, t, c // heads)",
            "the numbers are right, but in other places",
            "x is reshaped to (B, H, T, d) at once, which mixes positions and channels",
        ),
        Mistake(
            ".transpose(0, 2, 1, 3)",
            "",
            "shape (2, 3, 2, 2), expected (2, 2, 3, 2)",
            "the heads are not brought before the positions",
        ),
        Mistake(
            "heads, c // heads).transpose(0, 2, 1, 3)",
            "c // heads, heads).transpose(0, 3, 1, 2)",
            "the numbers are right, but in other places",
            "every H-th channel is taken for a head, instead of d channels side by side",
        ),
    ),
)

ROPE = Exercise(
    "rope",
    "tinygen.ops.rotary:rotate_pairs",
    "rotate pairs of entries, and the rule: the rotation back",
    hints=(
        "A pair (a, b) is a point in the plane. What are its coordinates after a rotation?",
        "Entry i of the first half is paired with entry i of the second half: a, b = np.split(x, 2, "
        "axis=-1). The rotated pair is (a cos - b sin, a sin + b cos).",
        "The transpose of a rotation is the rotation by minus the angle: the rule is rotate_pairs(g, "
        "cos, -sin).",
    ),
    given=lambda: {"x": numbers(2, 3, 4), "cos": np.cos(numbers(3, 2)), "sin": np.sin(numbers(3, 2))},
    checks=(
        Values("rotate_pairs(x, cos, sin)"),
        Values("np.sum(rotate_pairs(x, cos, sin)**2, axis=-1)"),
        Gradient("rotate_pairs(x, cos, sin)", by="x"),
    ),
    mistakes=(
        Mistake(
            "a * cos - b * sin",
            "a * cos + b * sin",
            "",
            "a sign is wrong: it is no rotation, lengths change",
        ),
        Mistake(
            "np.split(x, 2, axis=-1)",
            "x[..., 0::2], x[..., 1::2]",
            "",
            "neighbors are paired (as in the paper), not the two halves (as in the published weights)",
        ),
        Mistake(
            "rotate_pairs(g, cos, -sin)",
            "rotate_pairs(g, cos, sin)",
            "wrong place",
            "the gradient is rotated forward instead of back",
        ),
    ),
)

ROPE_ANGLES = Exercise(
    "rope_angles",
    "tinygen.nn.rope:cos_and_sin",
    "the angle of each position and pair",
    hints=(
        "Pair i turns by the same angle from each position to the next. Which pairs turn slowly?",
        "The frequency of pair i is base^(-2i/d), i = 0 ... d/2 - 1; the angle at position t is t "
        "times that.",
        "angles = np.arange(start, start + t)[:, None] * base ** (-np.arange(0, d, 2) / d); return "
        "their cos and sin in `dtype`.",
    ),
    given=lambda: {"double": np.dtype(np.float64)},
    checks=(
        Values("cos_and_sin(0, 3, 4, 100.0, None, double)"),
        Values("cos_and_sin(5, 2, 6, 100.0, None, double)"),
        Values("[str(table.dtype) for table in cos_and_sin(0, 2, 4, 100.0, None, np.dtype('float32'))]"),
    ),
    mistakes=(
        Mistake(
            "np.arange(0, d, 2) / d",
            "np.arange(0, d, 2) / (d / 2)",
            "all of them at index 1 of axis 1",
            "the exponent is -4i/d instead of -2i/d",
        ),
        Mistake(
            "np.arange(start, start + t)",
            "np.arange(t)",
            "",
            "the first position is 0, whatever `start` is",
        ),
        Mistake(
            "np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)",
            "np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)",
            "it is what value 2 should be",
            "cosines and sines are exchanged",
        ),
    ),
)

RMS_NORM = Exercise(
    "rms_norm",
    "tinygen.ops.norm:rms_norm",
    "x divided by its root mean square, and the rules",
    hints=(
        "No mean is subtracted. So an entry reaches its x̂ on two paths: itself, and the mean square.",
        "x̂ = x · inv, inv = 1/sqrt(mean(x²) + eps); y = x̂ · weight. The path through the mean square "
        "takes away x̂ mean(g x̂).",
        "With g ← g · weight: dx = inv * (g - x̂ * mean(g * x̂)) along the last axis; the rule of the "
        "weight is g * x̂.",
    ),
    given=lambda: {"x": numbers(2, 4), "deep": numbers(2, 4, 4), "weight": numbers(4)},
    checks=(
        Values("rms_norm(x, weight)"),
        Values("rms_norm(x, weight, 0.5)"),
        Values("rms_norm(deep, weight)"),
        Gradient("rms_norm(x, weight)", by="x weight"),
    ),
    mistakes=(
        Mistake(
            "(x * x).mean(",
            "(x * x).sum(",
            "every entry has the factor 0.500001",
            "the squares are summed instead of averaged",
        ),
        Mistake(
            "        g = g * weight\n", "", "lacks a factor", "the weight is missing in the gradient by x"
        ),
        Mistake(
            "inv * (g - xhat *",
            "inv * (g - 0 * xhat *",
            "wrong term",
            "the root mean square is taken for a constant in the gradient",
        ),
    ),
)

GROUP_NORM = Exercise(
    "group_norm",
    "tinygen.ops.norm:group_norm",
    "mean 0 and variance 1 over groups of channels",
    hints=(
        "Which numbers are normalized together: those of one example, one group of channels, and all "
        "positions. How can they become one axis?",
        "Reshape x to (N, groups, the rest), `standardize` the last axis, reshape back. Weight and "
        "bias have one number a channel: reshape them to (C, 1, ...).",
        "The rule of x is dx((g * weight).reshape(grouped)).reshape(shape); None for groups; weight: "
        "the sum of g * xhat over (0, 2, 3, ...); bias: the same sum of g.",
    ),
    given=lambda: {"x": numbers(2, 4, 3), "weight": numbers(4), "bias": numbers(4, seed=1)},
    checks=(
        Values("group_norm(x, 2, weight, bias)"),
        Values("group_norm(x, 1, weight, bias, 0.5)"),
        Gradient("group_norm(x, 2, weight, bias)", by="x weight bias"),
    ),
    mistakes=(
        Mistake(
            "grouped = (n, groups, math.prod(shape[1:]) // groups)",
            "grouped = (n, 1, math.prod(shape[1:]))",
            "",
            "all channels of an example are normalized together, as if there were one group",
        ),
        Mistake(
            "lambda g: sum_over(g * xhat, over)",
            "lambda g: sum_over(g, over)",
            "wrong place or wrong term",
            "the gradient by the weight lacks the factor xhat",
        ),
        Mistake(
            "lambda g: sum_over(g, over)",
            "lambda g: sum_over(g, over) / n",
            "0.5 times what it should be",
            "the gradient by the bias is averaged over the batch instead of summed",
        ),
    ),
)

RUNNING_STATISTICS = Exercise(
    "running_statistics",
    "tinygen.nn.norm:BatchNorm.record",
    "batch norm's running mean and variance",
    hints=(
        "Evaluation has no batch, so training keeps means of the batches' statistics. Over which axes "
        "of (N, C, ...) are they?",
        "running = (1 - momentum) · running + momentum · batch, with the unbiased variance (ddof=1). "
        "`self.running_mean` and `self.running_var` are Tensors: change their `.data`.",
        "over = (0, 2, 3, ...); running.data += momentum * (batch - running.data), unless the batch "
        "has a NaN or infinity: then nothing changes.",
    ),
    given=lambda: {
        "norm": nn.BatchNorm(3).astype(np.float64),
        "x": numbers(4, 3, 2),
        "maps": numbers(2, 3, 2, 2),
        "bad": np.where(numbers(4, 3) > 1, np.inf, numbers(4, 3)),
    },
    checks=(
        Values("record(norm, x); norm.running_mean.data", within=1e-6),
        Values("record(norm, x); norm.running_var.data", within=1e-6),
        Values("record(norm, maps); norm.running_var.data", within=1e-6),
        Values("record(norm, x); record(norm, x + 1); norm.running_mean.data", within=1e-6),
        Values("record(norm, bad); norm.running_mean.data"),
    ),
    mistakes=(
        Mistake(
            "ddof=1",
            "ddof=0",
            "",
            "the variance is the biased one, divided by n instead of n - 1",
        ),
        Mistake(
            "self.momentum * (batch",
            "(1 - self.momentum) * (batch",
            "every entry has the factor 9",
            "momentum is the weight of the old mean, not of the new batch",
        ),
        Mistake(
            "over = (0, *range(2, array.ndim))",
            "over = tuple(range(array.ndim - 1))",
            "ValueError: operands could not be broadcast together",
            "the statistics are of the positions, not of the channels",
        ),
    ),
)

CHAPTER = Chapter(
    "Layers", (ATTENTION, SPLIT_HEADS, ROPE_ANGLES, ROPE, RMS_NORM, GROUP_NORM, RUNNING_STATISTICS)
)

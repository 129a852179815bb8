"""Exercises on pictures and texts: CLIP, and a GAN that reads captions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.tensor import Tensor

UNIT_VECTORS = Exercise(
    "unit_vectors",
    "tinygen.models.text_to_image.clip:unit_vectors",
    "vectors of length 1",
    hints=(
        "The product of two vectors of length 1 is the cosine of their angle.",
        "Divide each row by the root of the sum of its squares.",
        "x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)).",
    ),
    given=lambda: {"x": Tensor(numbers(3, 4)), "rows": numbers(2, 3)},
    checks=(Values("unit_vectors(x)"), Gradient("unit_vectors(rows)", by="rows")),
    mistakes=(
        Mistake("axis=1", "axis=0", "", "the columns get length 1 instead of the rows"),
        Mistake(
            "np.sqrt(np.sum(x * x, axis=1, keepdims=True))",
            "np.sum(x * x, axis=1, keepdims=True)",
            "the factor is the same",
            "the root is missing",
        ),
        Mistake(
            "np.sum(x * x, axis=1, keepdims=True)",
            "np.mean(x * x, axis=1, keepdims=True)",
            "every entry has the factor 2",
            "it is divided by the root of the mean square, as in RMSNorm, not by the length",
        ),
    ),
)

CONTRASTIVE = Exercise(
    "contrastive_loss",
    "tinygen.models.text_to_image.clip:contrastive_loss",
    "the loss of CLIP: each picture finds its text, and each text its picture",
    hints=(
        "Row i of the logits has picture i with all texts. If it is a classification, what is the right "
        "class?",
        "The labels are 0 … B - 1: the pairs are on the diagonal. Rows classify pictures, columns texts.",
        "(ops.cross_entropy(logits, labels) + ops.cross_entropy(logits.T, labels)) / 2.",
    ),
    given=lambda: {"logits": Tensor(numbers(3, 3)), "table": numbers(3, 3), "same": Tensor(np.zeros((4, 4)))},
    checks=(
        Values("contrastive_loss(logits)"),
        Values("contrastive_loss(same)"),
        Gradient("contrastive_loss(table)", by="table"),
    ),
    mistakes=(
        Mistake(
            "ops.cross_entropy(logits.T, labels)",
            "ops.cross_entropy(logits, labels)",
            "",
            "only the pictures are classified",
        ),
        Mistake(
            "ops.cross_entropy(logits.T, labels)) / 2",
            "ops.cross_entropy(logits.T, labels))",
            "the factor is 2",
            "the two losses are added, not averaged",
        ),
        Mistake(
            "np.arange(len(logits))",
            "np.zeros(len(logits), int)",
            "",
            "the first text is the right one for all pictures",
        ),
    ),
)


def scaled(t: float) -> Any:
    """An object with a `logit_scale` as CLIP has one."""
    return SimpleNamespace(logit_scale=Tensor(np.array(t)))


CLAMP = Exercise(
    "clamp_scale",
    "tinygen.models.text_to_image.clip:TwoTowers.clamp_scale",
    "the factor of CLIP's cosines, at most 100",
    hints=(
        "The parameter t is the logarithm of the factor. At which t is the factor 100?",
        "Change the parameter after a step, not the logits: a clamped logit would have no gradient by t, "
        "and t could never become smaller again.",
        "t = self.logit_scale.data; self.logit_scale.data = np.minimum(t, np.full_like(t, "
        "math.log(LARGEST_SCALE))).",
    ),
    given=lambda: {"large": scaled(7.0), "small": scaled(2.0)},
    checks=(
        Values(
            "clamp_scale(large), clamp_scale(small); [np.exp(c.logit_scale.data) for c in (large, small)]"
        ),
    ),
    mistakes=(
        Mistake(
            "math.log(LARGEST_SCALE)",
            "LARGEST_SCALE",
            "",
            "the logarithm is held below 100 instead of its exp",
        ),
        Mistake("np.minimum(t,", "np.maximum(t,", "", "it is a least value instead of a largest"),
        Mistake(
            "np.minimum(t, np.full_like(t, math.log(LARGEST_SCALE)))",
            "np.full_like(t, math.log(LARGEST_SCALE))",
            "value 2 of 2: 100",
            "a factor below 100 is raised to 100",
        ),
    ),
)


def towers(rows: Any) -> Any:
    """An object with vectors and a scale as CLIP has them."""
    return SimpleNamespace(
        image_vectors=lambda pictures: rows,
        text_vectors=lambda ids: 1 + rows[:2],
        logit_scale=Tensor(np.array(1.5)),
    )


CLIP_LOGITS = Exercise(
    "clip_logits",
    "tinygen.models.text_to_image.clip:CLIP.forward",
    "how well each picture fits each text",
    hints=(
        "Both encoders give vectors of length 1. The logits are all cosines, times a factor that is learned.",
        "I Tᵀ exp(t): (B, D) times (D, N). Why exp? So that the factor stays positive.",
        "self.image_vectors(pictures) @ self.text_vectors(ids).T * np.exp(widen(self.logit_scale)).",
    ),
    given=lambda: {"clip": towers(Tensor(numbers(3, 4))), "pictures": None, "ids": None},
    checks=(Values("forward(clip, pictures, ids)"),),
    mistakes=(
        Mistake(
            "self.image_vectors(pictures) @ self.text_vectors(ids).T",
            "self.text_vectors(ids) @ self.image_vectors(pictures).T",
            "shape (2, 3), expected (3, 2)",
            "the rows are texts: they should be pictures",
        ),
        Mistake(
            "* np.exp(widen(self.logit_scale))",
            "* widen(self.logit_scale)",
            "factor",
            "the logarithm of the factor is the factor",
        ),
        Mistake(
            "* np.exp(widen(self.logit_scale))",
            "/ np.exp(widen(self.logit_scale))",
            "factor",
            "the cosines are divided by the factor",
        ),
    ),
)

MATCHING_AWARE = Exercise(
    "matching_aware",
    "tinygen.models.text_to_image.text_gan:matching_aware_loss",
    "a discriminator that also looks at the caption",
    hints=(
        "A real picture with a false caption is wrong, too. The discriminator has three kinds of pairs.",
        "-E ln D(real) - ½ E ln(1 - D(wrong)) - ½ E ln(1 - D(fake)), with softplus of the logits.",
        "ops.mean(ops.softplus(-real)) + 0.5 * (ops.mean(ops.softplus(wrong)) + "
        "ops.mean(ops.softplus(fake))).",
    ),
    given=lambda: {"real": numbers(4), "wrong": numbers(3), "fake": numbers(5)},
    checks=(
        Values("matching_aware_loss(real, wrong, fake)"),
        Gradient("matching_aware_loss(real, wrong, fake)", by="real wrong fake"),
    ),
    mistakes=(
        Mistake(
            "0.5 * refused",
            "refused",
            "",
            "the two kinds of false pairs count twice as much as the real ones",
        ),
        Mistake(
            "ops.mean(ops.softplus(wrong)) + ops.mean(ops.softplus(fake))",
            "2 * ops.mean(ops.softplus(fake))",
            "",
            "real pictures with false captions are left out: the captions do not matter",
        ),
        Mistake(
            "ops.softplus(wrong)",
            "ops.softplus(-wrong)",
            "",
            "real pictures with false captions are taught to be right",
        ),
    ),
)

CHAPTER = Chapter("Text to image", (UNIT_VECTORS, CLIP_LOGITS, CONTRASTIVE, CLAMP, MATCHING_AWARE))

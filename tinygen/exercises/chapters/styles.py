"""Exercises on style transfer."""

from __future__ import annotations

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.tensor import Tensor

GRAM_MATRIX = Exercise(
    "gram_matrix",
    "tinygen.models.pictures.style:gram_matrix",
    "the style of a picture: which features occur together, wherever they are",
    hints=(
        "An entry belongs to two channels. It is a sum over the places: of what?",
        "Write the map of each channel as one row, (N, M), and multiply this matrix by its transpose.",
        "F = features.reshape(b, n, h * w); F @ F.swapaxes(1, 2).",
    ),
    given=lambda: {"x": Tensor(numbers(2, 3, 2, 4)), "square": numbers(1, 2, 2, 2)},
    checks=(Values("gram_matrix(x)"), Gradient("gram_matrix(square)", by="square")),
    mistakes=(
        Mistake(
            "F @ F.swapaxes(1, 2)",
            "F.swapaxes(1, 2) @ F",
            "",
            "these are the products of places, summed over the channels",
        ),
        Mistake(
            "F @ F.swapaxes(1, 2)",
            "F @ F.swapaxes(1, 2) / n",
            "",
            "it is divided by the number of channels",
        ),
        Mistake(
            "features.reshape(b, n, h * w)",
            "features.sum(axis=-1)",
            "",
            "the columns are added first: a sum of products is no product of sums",
        ),
    ),
)

CONTENT_LOSS = Exercise(
    "content_loss",
    "tinygen.models.pictures.style:content_loss",
    "how far a picture's features are from those of the content",
    hints=(
        "Here the place matters: entry is compared with entry.",
        "Half the sum of the squared differences.",
        "away = features - target; 0.5 * (away * away).sum().",
    ),
    given=lambda: {
        "x": Tensor(numbers(1, 2, 3, 2)),
        "rows": numbers(1, 1, 2, 3),
        "p": numbers(1, 2, 3, 2)[::-1],
    },
    checks=(
        Values("content_loss(x, 2 * p)"),
        Gradient("content_loss(rows, 1.0)", by="rows"),
    ),
    mistakes=(
        Mistake("0.5 * ", "", "the factor is 2", "the paper has half of it"),
        Mistake(".sum()", ".mean()", "", "the paper's is a sum over all entries"),
        Mistake(
            "features - target", "features + target", "", "the signs are wrong: the target is taken away"
        ),
    ),
)

STYLE_LOSS = Exercise(
    "style_loss",
    "tinygen.models.pictures.style:style_loss",
    "how far a picture's Gram matrix is from that of the style",
    hints=(
        "Compare the Gram matrices, not the features. `mean_gram` has them, over the number M of places.",
        "Eq. 4 divides by 4 N² M²; M² is in the two means already.",
        "away = mean_gram(features) - target; (away * away).sum() / (4 * features.shape[1] ** 2).",
    ),
    given=lambda: {"x": Tensor(numbers(1, 2, 3, 2)), "square": numbers(1, 2, 2, 2), "a": numbers(1, 2, 2)},
    checks=(Values("style_loss(x, a)"), Gradient("style_loss(square, 0.5)", by="square")),
    mistakes=(
        Mistake("4 * features.shape[1] ** 2", "4 * features.shape[1]", "", "N is not squared"),
        Mistake(
            "(4 * features.shape[1] ** 2)", "features.shape[1] ** 2", "the factor is 4", "the 4 is missing"
        ),
        Mistake(
            "mean_gram(features) - target", "mean_gram(features)", "", "it is not compared with the style"
        ),
    ),
)

CHAPTER = Chapter("Style transfer", (GRAM_MATRIX, CONTENT_LOSS, STYLE_LOSS))

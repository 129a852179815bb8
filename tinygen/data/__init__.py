"""Data sets: texts and pictures from files, and synthetic tasks, which need no file and can be checked
exactly."""

from typing import TYPE_CHECKING

from tinygen.data.algorithms import IGNORED, Task, addition, sorting
from tinygen.data.published import DataError
from tinygen.data.reviews import Reviews, sentiment
from tinygen.data.text import load_text, random_batch, train_val_split
from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.data import dates as dates
    from tinygen.data import digits as digits
    from tinygen.data import markov as markov
    from tinygen.data import mixtures as mixtures
    from tinygen.data import number_words as number_words
    from tinygen.data import published_pictures as published_pictures
    from tinygen.data import shapes as shapes
    from tinygen.data import shapes_pairs as shapes_pairs
    from tinygen.data import textures as textures
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "dates",
            "digits",
            "markov",
            "mixtures",
            "number_words",
            "published_pictures",
            "shapes",
            "shapes_pairs",
            "textures",
        ),
    )[:2]

__all__ = [
    "IGNORED",
    "DataError",
    "Reviews",
    "Task",
    "addition",
    "load_text",
    "random_batch",
    "sentiment",
    "sorting",
    "train_val_split",
]

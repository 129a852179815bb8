"""Data to learn from: texts, and tasks made by a rule, which need no file and can be checked."""

from tinygen.data.algorithms import IGNORED, Task, addition, sorting
from tinygen.data.published import DataError
from tinygen.data.reviews import Reviews, sentiment
from tinygen.data.text import load_text, random_batch, train_val_split

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

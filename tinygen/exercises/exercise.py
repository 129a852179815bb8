"""What an exercise is: a function of tinygen, hints, checks, and three mistakes that students make.

The function's body is left out of the file that a student gets, and the function itself is the solution. So
an exercise cannot drift from the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Values(NamedTuple):
    """A check of values: the code must have the same value with the student's function as with the source's.

    The code is one line of Python, statements and at the end an expression, such as "softmax(x, axis=1)". It
    is shown to the student as it stands. It uses NumPy as np, the function, and the names that the exercise's
    `given` makes. Numbers may differ by `within`, relative to the largest one."""

    code: str
    within: float = 1e-7


class Gradient(NamedTuple):
    """A check of a gradient, by `gradcheck`: of the value of the code, an expression, `by` some of the names
    in it, which are arrays ("x weight")."""

    code: str
    by: str


class Mistake(NamedTuple):
    """A mistake, planted into the source: in the body, `new` takes the place of `old`, which occurs there
    once.

    `means` says what is wrong, as the end of a sentence that begins with "This comes out if". `says` is in
    the report even without this sentence: what the wrong numbers have in common, or what gradcheck found;
    empty where the report has only the first wrong entry."""

    old: str
    new: str
    says: str
    means: str


@dataclass(frozen=True, eq=False)
class Exercise:
    """An exercise: to write the body of a function again."""

    name: str
    source: str  # "tinygen.ops.activation:softmax", or "module:Class.method"
    about: str  # a few words for the list
    hints: tuple[str, str, str]  # from a thought to nearly the code
    given: Callable[[], dict[str, Any]]  # the names in the checks; called anew for every run of a check
    checks: tuple[Values | Gradient, ...]
    mistakes: tuple[Mistake, Mistake, Mistake]

    @property
    def function(self) -> str:
        """The function's own name, by which the checks call it."""
        return self.source.rpartition(":")[2].rpartition(".")[2]


class Chapter(NamedTuple):
    """Exercises on one subject, in the order in which to do them."""

    title: str
    exercises: tuple[Exercise, ...]

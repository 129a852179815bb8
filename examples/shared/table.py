"""The final table of an example: what was measured, what is expected of it, and whether that is met."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

COMPARE = {"≥": operator.ge, "≤": operator.le, ">": operator.gt, "<": operator.lt}


class Expectation(NamedTuple):
    """A bound on a figure: `sign` is a key of COMPARE."""

    sign: str
    bound: float

    def is_met(self, measured: float) -> bool:
        return bool(COMPARE[self.sign](measured, self.bound))

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:.4g}"


def at_least(bound: float) -> Expectation:
    return Expectation("≥", bound)


def at_most(bound: float) -> Expectation:
    return Expectation("≤", bound)


def above(bound: float) -> Expectation:
    return Expectation(">", bound)


def below(bound: float) -> Expectation:
    return Expectation("<", bound)


class Figure(NamedTuple):
    """A row of the table. `best` is the best that is possible or known; `baseline` is a trivial one: what is
    reached by a model that has learned nothing."""

    name: str
    measured: float
    expected: Expectation | None = None
    best: float | None = None
    baseline: float | None = None

    def is_met(self) -> bool:
        return self.expected is None or self.expected.is_met(self.measured)

    def as_data(self) -> dict[str, Any]:
        """The row for result.json, without empty cells."""
        row: dict[str, Any] = {**self._asdict(), "expected": self.expected and str(self.expected)}
        row["met"] = self.is_met() if self.expected else None
        return {name: value for name, value in row.items() if value is not None}


def quick_figures(figures: Sequence[Figure]) -> list[Figure]:
    """The same figures in the quick size, whose few steps can't reach what is expected of the others: the
    first figure with an expectation must beat its trivial baseline, and that is all."""
    found = [figure._replace(expected=None) for figure in figures]
    for i, (_, _, expected, _, baseline) in enumerate(figures):
        if expected is not None and baseline is not None:
            sign = ">" if expected.sign in "≥>" else "<"
            found[i] = found[i]._replace(expected=Expectation(sign, baseline))
            break
    return found


def table(figures: Sequence[Figure]) -> str:
    """The final table, a row for each figure."""

    def number(value: float | None) -> str:
        if value is None:
            return ""
        few = value == round(value, 1) or not 1 <= abs(value) < 10  # 3, 98.5: no zeros at the end
        return f"{value:.4g}" if few else f"{value:.3f}"

    width = max([40, *(len(figure.name) for figure in figures)]) + 2
    lines = [f"{'':{width}}{'measured':>10}{'expected':>12}{'met':>5}{'best':>10}{'baseline':>10}"]
    for figure in figures:
        met = "" if figure.expected is None else "yes" if figure.is_met() else "NO"
        cells = f"{number(figure.measured):>10}{figure.expected or ''!s:>12}{met:>5}"
        cells += f"{number(figure.best):>10}{number(figure.baseline):>10}"
        lines.append(f"{figure.name:{width}}{cells}".rstrip())
    return "\n".join(lines)

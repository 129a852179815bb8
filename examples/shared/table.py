"""The final table of an example: measured figures, expected figures, and whether they are met."""

from __future__ import annotations

import operator
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

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


def more_than(bound: float) -> Expectation:
    return Expectation(">", bound)


def less_than(bound: float) -> Expectation:
    return Expectation("<", bound)


class Figure(NamedTuple):
    """A row of the table. `best` is the best possible or known figure. `baseline` is trivial: the figure of
    a model that has learned nothing. `seeds` has the figure of each seed, and `measured` is their mean."""

    name: str
    measured: float
    expected: Expectation | None = None
    best: float | None = None
    baseline: float | None = None
    seeds: tuple[float, ...] | None = None

    def is_met(self) -> bool:
        return self.expected is None or self.expected.is_met(self.measured)

    def as_data(self) -> dict[str, Any]:
        """The row for result.json, without empty cells."""
        row: dict[str, Any] = {**self._asdict(), "expected": self.expected and str(self.expected)}
        row["met"] = self.is_met() if self.expected else None
        return {name: value for name, value in row.items() if value is not None}

    @classmethod
    def from_data(cls, row: Mapping[str, Any]) -> Self:
        """The row from the data that `as_data` returned."""
        sign, _, bound = row.get("expected", "").partition(" ")
        expected = Expectation(sign, float(bound)) if sign else None
        return cls(row["name"], row["measured"], expected, row.get("best"), row.get("baseline"))


def mean_figures(tables: Sequence[Sequence[Figure]]) -> list[Figure]:
    """One table from the tables of several seeds, with the rows that all of them have: the means of the
    measured figures, and of the figures beside them. Rows with the same name are matched in their order."""

    def by_name(rows: Sequence[Figure]) -> dict[tuple[str, int], Figure]:
        seen: Counter[str] = Counter()
        found = {}
        for row in rows:
            found[row.name, seen[row.name]] = row
            seen[row.name] += 1
        return found

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if len(known) == len(values) else None

    first, *others = map(by_name, tables)
    found = []
    for key, row in first.items():
        rows = [row, *(other[key] for other in others if key in other)]
        if len(rows) < len(tables):
            continue
        bound = mean([each.expected.bound if each.expected else None for each in rows])
        expected = Expectation(row.expected.sign, bound) if row.expected and bound is not None else None
        measured = tuple(each.measured for each in rows)
        best, baseline = mean([each.best for each in rows]), mean([each.baseline for each in rows])
        found.append(Figure(row.name, statistics.fmean(measured), expected, best, baseline, measured))
    return found


def quick_figures(figures: Sequence[Figure]) -> list[Figure]:
    """The same figures for the quick size, whose few steps cannot reach the expected figures. Instead, the
    first figure with an expectation must beat its trivial baseline."""
    found = [figure._replace(expected=None) for figure in figures]
    for i, figure in enumerate(figures):
        if figure.expected is not None and figure.baseline is not None:
            sign = ">" if figure.expected.sign in "≥>" else "<"
            found[i] = found[i]._replace(expected=Expectation(sign, figure.baseline))
            break
    return found


def number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 10_000 and value == round(value):
        return f"{value:,.0f}"
    few = value == round(value, 1) or not 1 <= abs(value) < 10  # 3, 98.5: no zeros at the end
    return f"{value:.4g}" if few else f"{value:.3f}"


def table(figures: Sequence[Figure]) -> str:
    """The final table, a row for each figure. If there are several seeds, the last columns have their
    figures."""

    width = max([40, *(len(figure.name) for figure in figures)]) + 2
    head = f"{'':{width}}{'measured':>10}{'expected':>12}{'met':>5}{'best':>10}{'baseline':>10}"
    lines = [head + "  each seed" * any(figure.seeds for figure in figures)]
    for figure in figures:
        met = "" if figure.expected is None else "yes" if figure.is_met() else "NO"
        cells = f"{number(figure.measured):>10}{figure.expected or ''!s:>12}{met:>5}"
        cells += f"{number(figure.best):>10}{number(figure.baseline):>10}"
        cells += "".join(f"{number(each):>10}" for each in figure.seeds or ())
        lines.append(f"{figure.name:{width}}{cells}".rstrip())
    return "\n".join(lines)


def columns_of(cells: Mapping[str, str]) -> list[list[str]]:
    """Cells with names such as "VAE: nats" as the lines of a table. The first line has the names of the
    columns ("nats"), each other one begins with the name of its row ("VAE"). Cells with names of another
    kind are left out."""
    rows: dict[str, dict[str, str]] = {}
    for name, cell in cells.items():
        row, _, column = name.partition(": ")
        if column:
            rows.setdefault(row, {})[column] = cell
    columns = [*dict.fromkeys(column for row in rows.values() for column in row)]
    return [["", *columns], *([name, *(row.get(each, "") for each in columns)] for name, row in rows.items())]


def table_of_columns(figures: Sequence[Figure]) -> str:
    """The figures with names such as "VAE: nats", a row for each model."""
    lines = columns_of({figure.name: number(figure.measured) for figure in figures})
    widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}" + "".join(f"{x:>{w}}" for x, w in zip(cells, widths[1:], strict=True)).rstrip()
        for name, *cells in lines
    )

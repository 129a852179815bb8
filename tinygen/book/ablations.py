"""The ablations of examples/ablations, read as text: the place that each breaks, and what was measured."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import NamedTuple

from tinygen.book.names import Module
from tinygen.book.pages import page_of, slug_of
from tinygen.book.parts import Part

TABLES, RESULTS = "examples/ablations/tables", "docs/results/break_it.json"
PAGE = "docs/break_it.md"


class Broken(NamedTuple):
    """What one ablation does to its first figure: means over seeds, as it is and with the change."""

    name: str
    title: str
    path: str
    line: int  # the first line of the text that the change replaces
    figure: str
    good: str
    bad: str

    @property
    def page(self) -> str:
        """The address of its part of docs/break_it.md."""
        return f"{page_of(PAGE)}#{slug_of(self.title)}"


def ablations(root: Path, modules: dict[str, Module]) -> list[Broken]:
    """All ablations that have a result, in the order of their tables. Raises ValueError for one whose text is
    not in its file."""
    file = root / RESULTS
    results = json.loads(file.read_text("utf-8"))["ablations"] if file.is_file() else {}
    found = []
    for table in (module for path, module in modules.items() if path.startswith(TABLES)):
        values = constants(table.tree)
        for name, title, change in declared(table.tree):
            path, old = (
                ast.literal_eval(values[a.id] if isinstance(a, ast.Name) else a) for a in change.args[:2]
            )
            before, text, _ = modules[path].source.partition(old)
            if not text:
                raise ValueError(f"{table.path}: the text that {name} replaces is not in {path}")
            if name in results:
                figure, measured = next(iter(results[name]["figures"].items()))
                line = before.count("\n") + 1
                means = (mean_text(measured[which]) for which in ("good", "broken"))
                found.append(Broken(name, title, path, line, figure, *means))
    return found


def declared(tree: ast.Module) -> list[tuple[str, str, ast.Call]]:
    """The name, the title and the first change of each `Ablation(...)` of a table."""
    calls = [
        {keyword.arg: keyword.value for keyword in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Ablation"
    ]
    return [
        (ast.literal_eval(call["name"]), ast.literal_eval(call["title"]), call["change"])
        for call in calls
        if isinstance(call["change"], ast.Call)
    ]


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The values of the names that a file assigns, also of several at once: `A, B = "a", "b"`."""
    found: dict[str, ast.expr] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            sides = [getattr(side, "elts", [side]) for side in (statement.targets[0], statement.value)]
            found |= {n.id: value for n, value in zip(*sides, strict=False) if isinstance(n, ast.Name)}
    return found


def mean_text(values: list[float | str]) -> str:
    """The mean over seeds with three digits, as docs/break_it.md has it."""
    mean = sum(map(float, values)) / len(values)
    return f"{mean:.3g}" if math.isfinite(mean) else str(mean)


def definition_at(parts: list[Part], line: int) -> str:
    """The anchor of the definition with this line; "" if the line is in none."""
    return next((part.anchor for part in reversed(parts) if part.first <= line and part.anchor), "")

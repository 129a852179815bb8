"""A notebook for each page: its text, its code, and the run of it in examples/notebooks/.

Docstrings and comments become cells of text; the code between them, cells of code. Nothing is written by
hand, so that a notebook says what the source says.
"""

from __future__ import annotations

import ast
import json
from typing import NamedTuple

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


class Cell(NamedTuple):
    kind: str  # "markdown" or "code"
    text: str


def cells(source: str, omit: str = "") -> list[Cell]:
    """The cells of a file. The docstrings of the file, of its functions and classes become text, and so do
    comments at the margin. Imports from the package `omit` are left out."""
    hidden: set[int] = set()  # lines
    above: dict[int, str] = {}  # line: the text before it
    tree = ast.parse(source)
    for node in [tree, *tree.body]:
        doc = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if isinstance(node, DOCUMENTED) and doc and len(node.body) > 1:
            hide(node.body[0], hidden)
            if isinstance(node, ast.Module):
                above[1] = doc
            else:
                above[min([node.lineno, *(d.lineno for d in node.decorator_list)])] = (
                    f"**`{node.name}`** {doc}"
                )
        if omit and isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == omit:
            hide(node, hidden)
    found: list[Cell] = []
    for number, line in enumerate(source.splitlines(), 1):
        if number in above:
            add(found, "markdown", f"\n{above[number]}")
        if line.startswith("#"):
            add(found, "markdown", line.removeprefix("#").strip())
        elif number not in hidden:
            add(found, "code", line)
    return [Cell(kind, text.strip()) for kind, text in found]


def hide(statement: ast.stmt, hidden: set[int]) -> None:
    """Add the lines of the statement to those that are hidden."""
    hidden.update(range(statement.lineno, (statement.end_lineno or 0) + 1))


def add(found: list[Cell], kind: str, text: str) -> None:
    """Another line: of the last cell, if it is of this kind, or else of a new one."""
    if found and found[-1].kind == kind:
        found[-1] = Cell(kind, f"{found[-1].text}\n{text}")
    elif text.strip():
        found.append(Cell(kind, text))


def imported_pages(source: str) -> list[str]:
    """The pages that a run imports, by name."""
    modules = [node.module for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    return [m.removeprefix("pages.") for m in modules if m and m.startswith("pages.")]


def notebook(name: str, opening: str, pages: dict[str, str], run: str, ending: str = "") -> str:
    """The notebook of a page as JSON (nbformat 4.5): `opening` and the page; other pages that its run imports
    come before it, since the page's own functions may have the same names. `pages` has sources by name."""
    parts = [Cell("markdown", opening)]
    for other in imported_pages(run):
        if other != name:
            parts.append(Cell("markdown", f"From the page `examples/pages/{other}.py`:"))
            parts.append(Cell("code", "\n\n\n".join(c.text for c in cells(pages[other]) if c.kind == "code")))
    parts += cells(pages[name])
    text, *rest = cells(run, omit="pages")
    parts += [Cell("markdown", f"## A run\n\n{text.text}"), *rest]
    parts += [Cell("markdown", ending)] if ending else []
    return json.dumps(
        {
            "cells": [
                {"id": f"cell-{i}", "cell_type": kind, "metadata": {}, "source": text}
                | ({"outputs": [], "execution_count": None} if kind == "code" else {})
                for i, (kind, text) in enumerate(parts)
            ],
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        ensure_ascii=False,
        indent=1,
    )

"""A notebook for each page: its text, its code, and the run of it in examples/notebooks/.

Docstrings and comments become cells of text; the code between them, cells of code. Nothing is written by
hand, so that a notebook says what the source says.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    kind: str  # "markdown" or "code"
    text: str


def cells(source: str, omit: Sequence[str] = ()) -> list[Cell]:
    """The cells of a file. The docstrings of the file and of its functions become text, and so do comments
    that have lines of their own at the margin. Imports from the packages `omit` are left out."""
    lines, tree = source.splitlines(), ast.parse(source)
    hidden: dict[int, str] = {}  # by its first line: the text of a docstring; "" for lines to leave out
    above: dict[int, str] = {}  # the text that belongs before a line
    for node in [tree, *tree.body]:
        doc = (
            ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None
        )
        if doc and len(node.body) > 1:  # type: ignore[attr-defined]
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0  # type: ignore[attr-defined]
            hidden.update(dict.fromkeys(range(first, last + 1), ""))
            if isinstance(node, ast.Module):
                above[first] = doc
            else:
                start = min([node.lineno, *(d.lineno for d in node.decorator_list)])  # type: ignore[attr-defined]
                above[start] = f"**`{node.name}`** {doc}"  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(tuple(omit) or "\n"):
            hidden.update(dict.fromkeys(range(node.lineno, (node.end_lineno or 0) + 1), ""))
    found: list[Cell] = []

    def add(kind: str, text: str) -> None:
        """Another line of the last cell, if it is of this kind, or a new cell."""
        if found and found[-1].kind == kind:
            found[-1] = Cell(kind, f"{found[-1].text}\n{text}")
        elif text.strip():
            found.append(Cell(kind, text))

    for number, line in enumerate(lines, 1):
        if number in above:
            add("markdown", f"\n{above[number]}")
        if line.startswith("#"):
            add("markdown", line.removeprefix("#").strip())
        elif number not in hidden and (line.strip() or (found and found[-1].kind == "code")):
            add("code", line)
    return [Cell(kind, text.strip()) for kind, text in found]


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
    text, *rest = cells(run, omit=["pages."])
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

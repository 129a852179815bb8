"""The index of the equations in the source, and of the tests that check them.

    python -m tinygen.book.equations           # file:line, equation, source, tests

A docstring marks an equation by two lines of the form `Eq.: equation  (source)` and
`Held by: tests/file.py::test_name, …`, as in `density/gaussian.py`. The equation is in the notation of its
paper; its source is in parentheses at the end, with the number of the equation or section. Further lines of
a long equation are indented more. `tests/test_equations.py` fails if a test does not exist, or if an equation
names no test.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MARK, HELD = "Eq.:", "Held by:"


class Equation(NamedTuple):
    file: str
    line: int  # of the docstring's owner
    owner: str  # "Class.method", or "" for the file itself
    text: str
    source: str
    tests: tuple[str, ...]


def docstrings(path: Path) -> Iterator[tuple[str, int, str]]:
    """(owner, line, docstring) of the file, its classes and functions."""

    def visit(node: ast.AST, owner: str) -> Iterator[tuple[str, int, str]]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node)):
            yield owner, getattr(node, "lineno", 1), doc
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None) if isinstance(child, ast.ClassDef | ast.FunctionDef) else None
            yield from visit(child, f"{owner}.{name}".lstrip(".") if name else owner)

    return visit(ast.parse(path.read_text("utf-8")), "")


class Marked(NamedTuple):
    """What a docstring says of an equation, in the lines from `first` up to `end`."""

    first: int
    end: int
    text: str
    source: str
    tests: tuple[str, ...]


def paragraphs(doc: str) -> Iterator[tuple[int, int, str]]:
    """The lines of a docstring, each with those below it that are indented further: (first, end, text)."""
    lines = doc.splitlines()
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        end = i + 1
        while end < len(lines) and lines[end].strip() and len(lines[end]) - len(lines[end].lstrip()) > indent:
            end += 1
        yield i, end, " ".join(part.strip() for part in lines[i:end])


def marked(doc: str, at: str) -> Iterator[Marked]:
    """The marked equations of a docstring, which is `at` file:line. Raises ValueError for a mark that does
    not have the form above."""
    found = [p for p in paragraphs(doc) if p[2].startswith((MARK, HELD))]
    for (first, _, mark), (_, end, held) in zip(found[::2], [*found[1::2], (0, 0, "")], strict=False):
        match = re.fullmatch(rf"{re.escape(MARK)} (.+?) +\(([^()]*(?:\([^()]*\)[^()]*)*)\)", mark)
        if match is None:
            raise ValueError(f"{at}: not `{MARK} equation (source)`: {mark!r}")
        if not held.startswith(HELD):
            raise ValueError(f"{at}: no `{HELD} tests/…::test_…` below {mark!r}")
        tests = tuple(name.strip() for name in held.removeprefix(HELD).split(","))
        yield Marked(first, end, match[1].strip(), match[2], tests)


def equations(path: Path, root: Path = ROOT) -> Iterator[Equation]:
    """The marked equations of a file. Raises ValueError for a mark that does not have the form above."""
    file = str(path.relative_to(root))
    for owner, line, doc in docstrings(path):
        for found in marked(doc, f"{file}:{line}"):
            yield Equation(file, line, owner, found.text, found.source, found.tests)


def index(root: Path = ROOT) -> list[Equation]:
    return [e for path in sorted((root / "tinygen").rglob("*.py")) for e in equations(path, root)]


def exists(test: str, root: Path = ROOT) -> bool:
    """Whether `tests/file.py::test_name` is a test of that file (`::Class::test_name` too)."""
    file, _, name = test.partition("::")
    path = root / file
    if not path.is_file() or not name:
        return False
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    return name.split("::")[-1] in names and name.split("::")[-1].startswith("test")


if __name__ == "__main__":
    for equation in index():
        print(f"{equation.file}:{equation.line} {equation.owner}: {equation.text}  ({equation.source})")
        print(f"    {', '.join(equation.tests)}")

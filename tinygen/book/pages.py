"""A page of the site, an equation of its index, and the names of pages and anchors."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tinygen.book.equations import Marked


@dataclass
class Page:
    """A page of the site; `path` is its file in the repository, or "" for pages that gather others."""

    file: str
    title: str
    about: str = ""
    path: str = ""
    minutes: int = 0
    template: str = "file.html"
    content: dict[str, Any] = field(default_factory=dict)


@dataclass
class Equation:
    path: str
    line: int
    anchor: str
    marked: Marked
    chapter: int
    tests: list[tuple[str, str]]  # name, address
    html: Markup
    parsed: bool


def files(root: Path, folder: str, pattern: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in (root / folder).rglob(pattern))


def page_of(path: str) -> str:
    """The name of the page of a file of the repository."""
    return re.sub(r"\.(py|md)$", "", path).replace("/", ".") + ".html"


def slug_of(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


def first_sentence(node: ast.AST) -> str:
    """Of the docstring of a file, a class or a function. If the first paragraph ends in the middle of a
    sentence, as an equation follows, the sentences before; if there is none, it ends with dots."""
    doc = ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else ""
    return sentence_of(doc or "")


def sentence_of(doc: str) -> str:
    """The first sentence of a docstring or comment, as `first_sentence` says."""
    text = " ".join(doc.split("\n\n")[0].split())
    sentence = re.sub(":$", ".", re.split(r"(?<=[.]) (?=[A-Z`])", text)[0])
    if not sentence or sentence[-1] in ".?!":
        return sentence
    whole = re.match(r".*[.?!](?= )", sentence)
    return whole[0] if whole else f"{sentence} …"

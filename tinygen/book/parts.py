"""A file as parts: on the left what its docstrings and comments say, on the right the code beside it."""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from tokenize import TokenInfo
from typing import Any

from tinygen.book.names import Module, Reference

CLASSES = {"STRING": "s", "FSTRING": "s", "NUMBER": "m", "COMMENT": "c"}  # of tokens, as in style.css
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
Place = tuple[int, int]  # line and column
HEADING = re.compile(r"-- (.+?) -*$")  # "# -- the parts of recording -----"
TOOLS = re.compile(r"#!|# ?(type|noqa|fmt|ruff|mypy)\b")  # comments for tools: they are code


@dataclass
class Part:
    first: int  # its first line in the file
    anchor: str = ""
    title: str = ""
    level: int = 0  # of its heading; 0: it has none
    notes: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # the numbers of the lines of its code


def tokens_of(source: str) -> list[TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def parts(module: Module, tokens: list[TokenInfo]) -> list[Part]:
    """The parts of a file, from top to bottom. A part begins with each definition, and with each comment that
    has lines of its own."""
    begun: dict[int, Part] = {1: Part(1)}
    hidden: set[int] = set()

    def begin(line: int) -> Part:
        return begun.setdefault(line, Part(line))

    def explain(part: Part, node: Any, text: str) -> None:
        part.notes.append(text)
        hidden.update(range(node.lineno, node.end_lineno + 1))

    comments(module, tokens, begin, hidden)
    named = {id(node): name for name, node in module.definitions.items()}
    for node in [module.tree, *statements(module.tree)]:
        doc = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (doc or id(node) in named):
            part = begin(min([node.lineno, *(d.lineno for d in node.decorator_list)]))
            if id(node) in named:
                part.anchor, part.title = named[id(node)], node.name
                part.level = 3 if "." in part.anchor else 2
        if isinstance(node, DOCUMENTED) and doc:
            explain(begun[1] if isinstance(node, ast.Module) else part, node.body[0], doc)
        if isinstance(node, ast.Module | ast.ClassDef):  # a string below a variable explains it
            for variable, below in zip(node.body, node.body[1:], strict=False):
                text = (
                    below.value.value
                    if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                    else 0
                )
                if isinstance(variable, ast.Assign | ast.AnnAssign) and isinstance(text, str):
                    explain(begin(variable.lineno), below, text)
                    begin(variable.lineno).anchor = named.get(id(variable), "")
    found = begun[1]
    for number, line in enumerate(module.source.splitlines(), 1):
        found = begun.get(number, found)
        if number not in hidden and (line.strip() or found.lines):
            found.lines.append(number)
    lines = module.source.splitlines()
    for method in [part for part in begun.values() if part.level == 3 and not part.notes]:
        above = max(
            (part for part in begun.values() if part.first < method.first), key=lambda part: part.first
        )
        if (
            above.anchor == method.anchor.rpartition(".")[0]
        ):  # a class: its first method stands beside its text
            above.lines += begun.pop(method.first).lines
    for part in begun.values():
        while part.lines and not lines[part.lines[-1] - 1].strip():
            part.lines.pop()
    return [part for _, part in sorted(begun.items()) if part.lines or part.notes or part.title]


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements inside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            yield from statements(child)


def comments(module: Module, tokens: list[TokenInfo], begin: Any, hidden: set[int]) -> None:
    """Begin a part with each comment that has lines of its own."""
    lines = module.source.splitlines()
    at = [
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    ]
    at = [line for line in at if not TOOLS.match(lines[line - 1].lstrip())]
    for first in (line for line in at if line - 1 not in at):
        end = first
        while end in at:
            end += 1
        text = "\n".join(
            line.strip().removeprefix("#").removeprefix(" ") for line in lines[first - 1 : end - 1]
        )
        hidden.update(range(first, end))
        if heading := HEADING.match(text):
            begin(first).title, begin(first).level = heading[1], 2
            text = text[heading.end() :]
        else:
            begin(end).notes.append(text)  # beside the line below
            continue
        if text.strip():
            begin(first).notes.append(text.strip())


def highlighted(source: str, tokens: list[TokenInfo], links: dict[Place, tuple[int, str]]) -> list[str]:
    """The lines of the source as HTML. `links` has, for a line and a column, a length and an address."""
    plain = source.splitlines()
    lines, ends = [""] * (len(plain) + 1), [0] * (len(plain) + 1)
    before = ""
    for token in tokens:
        kind = CLASSES.get(tokenize.tok_name[token.type].partition("_")[0], "")
        if token.type == tokenize.NAME:
            defined = before in ("def", "class") or (before == "@" and token.line.lstrip()[0] == "@")
            kind = "k" if keyword.iskeyword(token.string) else "d" if defined else ""
        (first, start), (last, end) = token.start, token.end
        for i in range(first - 1, min(last, len(plain)) if token.string.strip() else 0):
            begin = start if i == first - 1 else 0
            text = plain[i][begin : end if i == last - 1 else None]
            html = escape(text, quote=False)
            length, address = links.get((i + 1, begin), (0, ""))
            html = f'<a href="{address}">{html}</a>' if address and length == len(text) else html
            html = f'<b class="{kind}">{html}</b>' if kind else html
            lines[i] += escape(plain[i][ends[i] : begin], quote=False) + html
            ends[i] = begin + len(text)
        before = token.string
    return [html + escape(row[end:], quote=False) for html, row, end in zip(lines, plain, ends, strict=False)]


def code(module: Module, tokens: list[TokenInfo], references: list[Reference], href: Any) -> list[str]:
    """The lines of a file as HTML, each with its number as anchor, its names linked to their definitions."""
    links = {(r.line, r.column): (r.length, href(*r.target)) for r in references}
    rows = zip(module.source.splitlines(), highlighted(module.source, tokens, links), strict=True)
    return [
        f'<code id="{i}" class="i{min((len(row) - len(row.lstrip())) // 4, 9)}">{html or " "}</code>'
        for i, (row, html) in enumerate(rows, 1)
    ]

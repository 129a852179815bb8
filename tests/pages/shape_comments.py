"""Runs code and checks its shape comments: `x = p["wte"][tokens]  # (B, T, C)` is true, or it is reported.

A comment begins with a shape in parentheses: letters, numbers and expressions of them (`3C`, `T + 1`);
`...` stands for any number of axes. `# (B, T), (B,)` are the shapes of the elements of a tuple, and
`# each (B, C)` is the shape of all of them. Words may follow. Comments are read on assignments, `return` and
entries of a dict. In the docstring of a function, `q, k (B, T, C)` says the same of its arguments.

Within one call of a function a letter has one value. If it is the name of a local int, it has the value of
this int. Otherwise it takes the first size that it is compared with: so the only comment of a function says
nothing but the number of axes. A size like `S/4` with an unknown S is an error in a page. In other files it
is skipped, and docstrings are not read, since methods may inherit them.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

SIZE = r"(?:[\w*·²/+ -]|\.\.\.)*"
SHAPE = rf"\(({SIZE}(?:,{SIZE})*)\)"
COMMENT = re.compile(rf"#\s*(each )?({SHAPE}(?:, {SHAPE})*)")
ARGUMENT = re.compile(rf"\b(\w+(?:, \w+)*(?: and \w+)?) (each )?{SHAPE}")
LETTER = re.compile(r"[A-Za-z_]\w*")
PRODUCT = re.compile(r"(?<=\d)(?=[A-Za-z_])|·|(?<=\w) (?=\w)")  # 3C, N·K, N K


class Comment:
    """The shapes in a comment, each a list of sizes as text; with `each`, there is one for all arrays."""

    def __init__(self, each: bool, text: str) -> None:
        self.each, self.text = each, text
        self.shapes = [[d.strip() for d in s.split(",") if d.strip()] for s in re.findall(SHAPE, text)]


class Line:
    """A statement: the line that it begins on, the code that reads what it assigned (none for `return`), its
    value and its comment. `makes` is False for a `return` of names alone."""

    def __init__(self, number: int, targets: list[Any], value: Any, comment: Comment | None) -> None:
        self.number, self.targets, self.value, self.comment = number, targets, value, comment
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        self.makes = bool(targets) or not all(isinstance(x, (ast.Name, ast.Attribute)) for x in parts)


class Checker:
    """Traces one file; `faults` are the comments that were false, `bare` the lines without one that made an
    array, `checked` those whose comment was true."""

    def __init__(self, path: Path, strict: bool) -> None:
        self.path, self.strict = path, strict
        text = path.read_text()
        self.comments: dict[int, Comment] = {}
        for token in tokenize.generate_tokens(StringIO(text).readline):
            if token.type == tokenize.COMMENT and (m := COMMENT.match(token.string)):
                self.comments[token.start[0]] = Comment(bool(m[1]), m[2])
        self.lines: dict[int, Line] = {}
        self.arguments: dict[int, list[tuple[str, list[str]]]] = {}  # by the first line of the function
        for node in ast.walk(ast.parse(text)):
            if strict and isinstance(node, ast.FunctionDef):
                self.arguments[node.lineno] = list(described(node))
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)) and node.value:
                self.read(node)
        self.faults: set[str] = set()
        self.bare: set[int] = set()
        self.checked: set[int] = set()
        self.pending: dict[Any, Line] = {}
        self.letters: dict[Any, dict[str, Any]] = {}

    def read(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return) -> None:
        targets: list[Any] = [] if isinstance(node, ast.Return) else getattr(node, "targets", [])
        targets = targets or ([node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else [])
        code = [compile(ast.Expression(loaded(t)), str(self.path), "eval") for t in targets]
        line = Line(node.lineno, code, node.value, self.comments.get(node.end_lineno or node.lineno))
        for i in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            self.lines.setdefault(i, line)

    def unseen(self) -> set[int]:
        """The lines whose comments nothing has run into; in a page, where else a comment stands as well."""
        starts = {i: line.number for i, line in self.lines.items() if line.comment}
        comments = self.comments if self.strict else starts
        return {i for i in comments if i not in self.checked and starts.get(i) not in self.checked}

    # -- tracing -----------------------------------------------------------------------------------

    def call(self, frame: Any) -> Any:
        if frame.f_code.co_name.startswith("<"):
            return None  # a lambda, a comprehension
        self.letters[frame] = {}
        shapes = self.arguments.get(frame.f_code.co_firstlineno, [])
        for name, shape in sorted(shapes, key=lambda pair: expressions(pair[1])):
            if sizes := shape_of(frame.f_locals.get(name)):
                self.compare(frame, frame.f_lineno, shape, sizes, f"argument {name}")
        return self.event

    def event(self, frame: Any, event: str, arg: Any) -> Any:
        line = self.lines.get(frame.f_lineno)
        if event == "line" and line is not self.pending.get(frame):
            self.settle(frame)
            if line is not None:
                self.pending[frame] = line
        if event == "return":
            self.settle(frame)
            if line is not None and not line.targets and arg is not None:
                self.look(frame, line, arg)
            del self.letters[frame]
        return self.event

    def settle(self, frame: Any) -> None:
        """Look at what the line before this one has assigned."""
        line = self.pending.pop(frame, None)
        if line is None:
            return
        for target in line.targets:
            try:
                value = eval(target, frame.f_globals, frame.f_locals)
            except (NameError, KeyError, AttributeError, TypeError):
                continue  # the statement has not run to its end
            self.look(frame, line, value)

    def look(self, frame: Any, line: Line, value: Any) -> None:
        if isinstance(value, dict) and isinstance(dictionary := rightmost(line.value), ast.Dict):
            for key, entry in zip(dictionary.keys, dictionary.values, strict=True):
                if key is None:
                    continue  # **entries of another dict
                comment = self.comments.get(entry.end_lineno or 0)
                name = eval(ast.unparse(key), frame.f_globals, frame.f_locals)
                self.look_at(frame, entry.lineno, comment, value[name], True)
        else:
            self.look_at(frame, line.number, line.comment, value, line.makes)

    def look_at(self, frame: Any, number: int, comment: Comment | None, value: Any, makes: bool) -> None:
        arrays = list(value) if isinstance(value, (tuple, list)) else [value]
        found = [shape_of(x) for x in arrays if not isinstance(x, np.integer)]
        made = [sizes for sizes in found if sizes is not None]
        if comment is None:
            if made and makes and not isinstance(value, list):
                self.bare.add(number)
            return
        if not made and not self.strict:
            return
        shapes = comment.shapes * (len(arrays) if comment.each else 1)
        if len(shapes) != len(made):
            self.faults.add(f"line {number}: {len(made)} arrays, and the comment has {len(shapes)} shapes")
            return
        for shape, sizes in sorted(zip(shapes, made, strict=True), key=lambda pair: expressions(pair[0])):
            self.compare(frame, number, shape, sizes, f"# {comment.text}")

    def compare(self, frame: Any, number: int, shape: list[str], sizes: tuple[int, ...], what: str) -> None:
        numbers = {k: v for k, v in frame.f_locals.items() if type(v) is int}
        letters = self.letters[frame] | numbers
        if fault := differs(shape, sizes, letters, self.strict):
            self.faults.add(f"line {number}: {what} is false, the shape is {sizes}: {fault}")
        else:
            self.checked.add(number)
        self.letters[frame] = letters


def expressions(shape: list[str]) -> int:
    """How many sizes are no single letter. Shapes with fewer are read first: they say what letters mean."""
    return sum(not size.isidentifier() for size in shape)


def differs(shape: list[str], sizes: tuple[int, ...], letters: dict[str, Any], strict: bool) -> str:
    """The error in a comment, or "". New letters get their values."""
    if "..." in shape:
        i = shape.index("...")
        after = len(shape) - i - 1
        if len(sizes) < len(shape) - 1:
            return f"at least {len(shape) - 1} axes"
        shape, sizes = shape[:i] + shape[i + 1 :], sizes[:i] + sizes[len(sizes) - after :]
    if len(shape) != len(sizes):
        return f"{len(shape)} axes"
    unknown = []
    for text, n in zip(shape, sizes, strict=True):
        if text.isidentifier():
            if letters.setdefault(text, n) != n:
                return f"{text} is {letters[text]}"
        else:
            unknown.append((text, n))
    for text, n in unknown:
        if lost := set(LETTER.findall(text)) - letters.keys():
            if strict:
                return f"nothing has said yet how many {', '.join(sorted(lost))} is"
            continue
        numbers = LETTER.sub(lambda m: str(letters[m[0]]), PRODUCT.sub("*", text.replace("²", "**2")))
        if eval(numbers) != n:
            return f"{n} is not {text}"
    return ""


def described(node: ast.FunctionDef) -> Iterator[tuple[str, list[str]]]:
    """(argument, shape) for each that the docstring says."""
    known = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
    for m in ARGUMENT.finditer(ast.get_docstring(node) or ""):
        shape = [d.strip() for d in m[3].split(",") if d.strip()]
        yield from ((name, shape) for name in re.split(r", | and ", m[1]) if name in known)


def loaded(target: ast.expr) -> ast.expr:
    """The target of an assignment as an expression that reads it."""
    copy = ast.parse(ast.unparse(target), mode="eval").body
    return ast.fix_missing_locations(copy)


def rightmost(value: ast.expr | None) -> ast.expr | None:
    """The dict that stands at the end of `p | {...}`."""
    return value.right if isinstance(value, ast.BinOp) else value


def shape_of(x: Any) -> tuple[int, ...] | None:
    """The shape of an array, or of a Tensor of whatever engine; None for anything else."""
    if not hasattr(x, "dtype"):
        x = getattr(x, "data", None)
    return getattr(x, "shape", None) if isinstance(getattr(x, "dtype", None), np.dtype) else None


@contextmanager
def checking(*paths: Path, strict: bool = True) -> Iterator[list[Checker]]:
    """Check the comments in these files of all that runs meanwhile."""
    checkers = {str(path): Checker(path, strict) for path in paths}

    def call(frame: Any, event: str, arg: Any) -> Any:
        checker = checkers.get(frame.f_code.co_filename)
        return checker.call(frame) if checker else None

    before = sys.gettrace()
    threading.settrace(call)  # of threads that begin meanwhile
    sys.settrace(call)
    try:
        yield list(checkers.values())
    finally:
        sys.settrace(before)
        threading.settrace(before)

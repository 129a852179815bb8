"""The source of an exercise's function, taken apart: what the student gets, and what is left out.

Everything is read from the installed package, so that it is the code that runs.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tinygen.exercises.exercise import Exercise, Mistake

UNSAFE = ("implements", "composition")
"""Decorators that give a function to NumPy's protocols: a student's function must not take the place of the
true one in the rest of tinygen."""

NUMPY = "import numpy as np"
"""Every file has it, also where the source gets along without it."""

MARK = "# tinygen exercise: "
"""The beginning of the first line of an exercise's file; the name follows."""


class Source(NamedTuple):
    """The parts of a function's text; a method is moved to the left margin."""

    imports: str  # what the whole function needs from other places
    head: str  # decorators, signature and docstring
    body: str
    place: str  # "tinygen/ops/activation.py:82"
    owner: str  # of a method, the class


@functools.cache
def source_of(exercise: Exercise) -> Source:
    """The parts of the source of an exercise's function."""
    module_name, _, path = exercise.source.partition(":")
    module = importlib.import_module(module_name)
    text = inspect.getsource(module)
    tree = ast.parse(text)
    node = find_function(tree, path)
    lines = text.split("\n")
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    documented = ast.get_docstring(node, clean=False) is not None
    end_of_head = node.body[0].end_lineno if documented else node.body[0].lineno - 1
    assert end_of_head is not None
    unsafe = {
        n for d in node.decorator_list if is_unsafe(d) for n in range(d.lineno, (d.end_lineno or 0) + 1)
    }
    head = [line for n, line in enumerate(lines[start - 1 : end_of_head], start) if n not in unsafe]
    left = node.col_offset  # a method is moved to the margin
    top = "\n".join(line[left:] for line in head) + "\n"
    body = "\n".join(line[left:] for line in lines[end_of_head : node.end_lineno]) + "\n"
    folder = Path(inspect.getfile(importlib.import_module("tinygen"))).parents[1]
    place = f"{Path(inspect.getfile(module)).relative_to(folder).as_posix()}:{node.lineno}"
    return Source(
        needed_imports(tree, node, module), without_tests(top), body, place, path.rpartition(".")[0]
    )


def find_function(tree: ast.Module, path: str) -> ast.FunctionDef:
    """The definition at a path such as "softmax" or "Process.diffuse"."""
    body: list[ast.stmt] = tree.body
    found: Any = None
    for name in path.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = next((n for n in body if isinstance(n, kinds) and n.name == name), None)
        if found is None:
            raise LookupError(
                f"{path} is not in its file any more: give the exercise the place where it is now"
            )
        body = found.body
    assert isinstance(found, ast.FunctionDef)
    return found


def is_unsafe(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id in UNSAFE


def without_tests(head: str) -> str:
    """The docstring without the names of the tests that hold its equations: they are not installed."""
    return re.sub(r"\n[ ]*Held by:[^\n]*(\n[ ]+tests/[^\n]*)*", "", head)


def needed_imports(tree: ast.Module, function: ast.FunctionDef, module: ModuleType) -> str:
    """Lines that import every name of the module that the function uses."""
    kept = [d for d in function.decorator_list if not is_unsafe(d)]
    parts = [function.args, *function.body, *kept, *([function.returns] if function.returns else [])]
    used = {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}
    used &= set(vars(module))
    used -= {function.name} | (set(vars(builtins)) - defined_names(tree))
    lines = []
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            names = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in used]
            lines += [f"import {show_alias(a)}" for a in names]
            used -= {a.asname or a.name.partition(".")[0] for a in names}
        elif isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
            names = [a for a in statement.names if (a.asname or a.name) in used]
            lines += [f"from {statement.module} import {', '.join(map(show_alias, names))}"] if names else []
            used -= {a.asname or a.name for a in names}
    lines += [f"from {module.__name__} import {', '.join(sorted(used))}"] if used else []
    return "\n".join(lines if NUMPY in lines else [NUMPY, *lines]) + "\n"


def defined_names(tree: ast.Module) -> set[str]:
    """The functions and classes of a module."""
    return {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


def show_alias(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


# -- files -----------------------------------------------------------------------------------------


def file_with(exercise: Exercise, body: str) -> str:
    """A student's file with this body of the function."""
    parts = source_of(exercise)
    kind = ""
    if "@op\n" in parts.head:
        kind = (
            "# An op returns a value, then a rule for each argument: from the gradient of the value to the\n"
            "# gradient of the argument.\n"
        )
    elif parts.owner:
        kind = f"# It is a method of {parts.owner}: `self` is an object of this class.\n"
    return (
        f"{MARK}{exercise.name}\n"
        "# Write the body of the function. Bad input need not be refused. Then, in the same folder:\n"
        f"#     python -m tinygen check {exercise.name}.py\n"
        f"#     python -m tinygen exercise {exercise.name} --hint 1    (then 2 and 3)\n"
        f"{kind}"
        "\n"
        f"from __future__ import annotations\n\n{parts.imports}\n\n{parts.head}{body}"
    )


def stub(exercise: Exercise) -> str:
    """The file that a student gets."""
    return file_with(exercise, "    raise NotImplementedError  # your code takes the place of this line\n")


def solution(exercise: Exercise) -> str:
    """The file with the source's own body."""
    return file_with(exercise, source_of(exercise).body)


def with_mistake(exercise: Exercise, mistake: Mistake) -> str:
    """The file with a mistake. ValueError unless the text to replace occurs once."""
    body = source_of(exercise).body
    if body.count(mistake.old) != 1:
        raise ValueError(
            f"{exercise.name}: {mistake.old!r} occurs {body.count(mistake.old)} times in the body"
        )
    return file_with(exercise, body.replace(mistake.old, mistake.new))

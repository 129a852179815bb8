"""The program of a page as a drawing: what its run in examples/notebooks/ gives to `graph`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any


def graph_of(path: Path) -> Any:
    """Run a file up to its first statement `graph(...)`. Returns that graph, or None if there is no such
    statement. The file may import what lies in the folder above its own."""
    statements = ast.parse(path.read_text("utf-8")).body
    last = next((i for i, s in enumerate(statements) if is_graph(s)), None)
    if last is None:
        return None
    names: dict[str, Any] = {"__name__": path.stem}
    before = ast.Module(statements[:last], [])
    call = statements[last]
    assert isinstance(call, ast.Expr)
    sys.path.insert(0, str(path.parents[1]))
    try:
        exec(compile(before, str(path), "exec"), names)
        return eval(compile(ast.Expression(call.value), str(path), "eval"), names)
    finally:
        sys.path.pop(0)


def is_graph(statement: ast.stmt) -> bool:
    """Whether it is `graph(...)` or `tinygen.graph(...)`."""
    call = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) in ("graph", "tinygen.graph")

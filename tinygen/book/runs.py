"""A page that runs: its notebook, and the program that its run gives to `graph`, as a drawing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tinygen.book.notebooks import notebook

FOLDER = "examples/notebooks"


class Run(NamedTuple):
    """The run of a page in examples/pages/, from the file `path` of the same name in examples/notebooks/."""

    name: str
    path: str
    notebook: str  # JSON
    graph: str = ""  # SVG; "" for a page without a tape
    alt: str = ""  # the drawing in words

    def write(self, out: Path) -> None:
        """Write the notebook and the drawing into folders of the site in `out`."""
        for folder, text, ending in (("notebooks", self.notebook, "ipynb"), ("graphs", self.graph, "svg")):
            (out / folder).mkdir(exist_ok=True)
            if text:
                (out / folder / f"{self.name}.{ending}").write_text(text, "utf-8")


def run_of(root: Path, name: str, opening: str, exercises: Iterable[str]) -> Run:
    """The run of a page of this name. The notebook begins with `opening`, and ends with the exercises of its
    chapter."""
    pages = {path.stem: path.read_text("utf-8") for path in (root / "examples" / "pages").glob("*.py")}
    path = f"{FOLDER}/{name}.py"
    opening += (
        f"\n\nMade of `examples/pages/{name}.py` and `{path}` by `python -m tinygen book`. It needs "
        "NumPy, and tinygen: `pip install -e .` in a checkout."
    )
    commands = [f"`python -m tinygen exercise {exercise}`" for exercise in sorted(exercises)]
    ending = f"**Exercises of this chapter, which are graded:** {', '.join(commands)}." if commands else ""
    text = notebook(name, opening, pages, (root / path).read_text("utf-8"), ending)
    graph = graph_of(root / path)
    return Run(name, path, text, graph.svg(), in_words(name, graph)) if graph else Run(name, path, text)


def in_words(name: str, graph: Any) -> str:
    """A drawing of a graph for those who do not see it."""
    ops = sum(vertex.kind == "op" for vertex in graph.vertices)
    leaves = sum(vertex.kind == "leaf" for vertex in graph.vertices)
    functions = ", ".join(dict.fromkeys(filter(None, graph.scopes())))
    return (
        f"The tape of {name}.py as a graph: {ops} ops, which compute one result from {leaves} parameters"
        + (f"; one band for each call of the functions {functions}." if functions else ".")
    )


def graph_of(path: Path) -> Any:
    """Run a file up to its first statement `graph(...)`. Returns that graph, or None if there is no such
    statement. The file may import what lies in the folder above its own."""
    statements = ast.parse(path.read_text("utf-8")).body
    for i, statement in enumerate(statements):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            if ast.unparse(statement.value.func) not in ("graph", "tinygen.graph"):
                continue
            names: dict[str, Any] = {"__name__": path.stem, "print": lambda *_: None}
            sys.path.insert(0, str(path.parents[1]))
            try:
                exec(compile(ast.Module(statements[:i], []), str(path), "exec"), names)
                return eval(compile(ast.Expression(statement.value), str(path), "eval"), names)
            finally:
                sys.path.pop(0)
    return None

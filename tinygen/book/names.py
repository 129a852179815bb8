"""Where the names in the source are defined: the links of the book, and what it uses of other files.

A name is followed through imports (`from tinygen.nn import Linear`, `ops.softmax`, a star) to the file that
defines it. Names that a function binds itself have no link.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Scope = dict[str, str]  # a name: where it comes from, "" if the function binds it itself


class Target(NamedTuple):
    """A definition: `tinygen/nn/linear.py` and "Linear", or "" for the file itself."""

    path: str
    anchor: str


class Reference(NamedTuple):
    """A name at a place in the source, and what it refers to. It is `late` if it comes from an import that
    does not run when the file is imported."""

    line: int
    column: int
    length: int
    target: Target
    late: bool


@dataclass
class Module:
    path: str
    name: str  # as it is imported: "tinygen.nn.linear", "shared.run"
    source: str
    tree: ast.Module
    definitions: dict[str, ast.AST] = field(default_factory=dict)  # "Linear.forward"
    imports: Scope = field(default_factory=dict)
    late: set[str] = field(default_factory=set)  # names that are imported for type checkers only
    stars: list[str] = field(default_factory=list)


@contextmanager
def no_garbage() -> Iterator[None]:
    """Without Python's collector of circular garbage, which would go through all syntax trees again and
    again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def read(root: Path, path: str) -> Module:
    """A file of the repository in the folder `root`."""
    parts = path.removesuffix(".py").removeprefix("examples/").split("/")
    source = (root / path).read_text("utf-8")
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    module = Module(path, name, source, ast.parse(source))

    def define(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                module.definitions[prefix + node.name] = node
                if isinstance(node, ast.ClassDef):
                    define(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [
                    n.id
                    for t in targets
                    for n in ast.walk(t)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                ]
                module.definitions.update({prefix + name: node for name in names})
            elif isinstance(node, ast.Import | ast.ImportFrom):
                module.imports.update(imported(module, node))
                if isinstance(node, ast.ImportFrom) and node.names[0].name == "*" and node.module:
                    module.stars.append(node.module)
            elif isinstance(node, ast.If | ast.Try):
                before = set(module.imports)
                define([*node.body, *node.orelse], prefix)
                if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                    module.late |= module.imports.keys() - before

    define(module.tree.body, "")
    return module


def imported(module: Module, node: ast.Import | ast.ImportFrom) -> Scope:
    """The names that an import binds, and where they come from."""
    if isinstance(node, ast.Import):
        names = [a.name if a.asname else a.name.split(".")[0] for a in node.names]
        return {a.asname or name: name for a, name in zip(node.names, names, strict=True)}
    package = module.name.split(".")[: None if module.path.endswith("__init__.py") else -1]
    above = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return {a.asname or a.name: f"{base}.{a.name}" for a in node.names}


class Names:
    """All modules of the book by name; where a dotted name is defined."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = {module.name: module for module in modules}

    def find(self, dotted: str, depth: int = 0) -> Target | None:
        """`tinygen.nn.Linear` -> tinygen/nn/linear.py, Linear. None if it is not in the book."""
        parts = dotted.split(".")
        cut = next((i for i in range(len(parts) - 1, 0, -1) if ".".join(parts[:i]) in self.modules), 0)
        if cut and depth < 8:
            module, inside = self.modules[".".join(parts[:cut])], ".".join(parts[cut:])
            if inside in module.definitions:
                return Target(module.path, inside)
            sources = [
                module.imports.get(parts[cut], dotted),
                *(f"{star}.{parts[cut]}" for star in module.stars),
            ]
            sources = [".".join([source, *parts[cut + 1 :]]) for source in sources if source != dotted]
            if found := next(filter(None, (self.find(source, depth + 1) for source in sources)), None):
                return found
        return Target(self.modules[dotted].path, "") if dotted in self.modules else None

    def find_in(self, module: Module, name: str) -> Target | None:
        """What `name` means in this file, if it is defined or imported there."""
        top = name.split(".")[0]
        if source := module.imports.get(top):
            return self.find(source + name.removeprefix(top))
        return Target(module.path, name) if name in module.definitions else None

    def references(self, module: Module) -> list[Reference]:
        """All names of the file that are defined in the book."""
        lines, found = module.source.splitlines(), []

        def add(line: int, byte: int, name: str, target: Target | None, late: bool) -> None:
            if target is not None:
                column = len(lines[line - 1].encode()[:byte].decode())
                found.append(Reference(line, column, len(name), target, late))

        def visit(node: ast.AST, scope: Scope, owner: str, inside: bool) -> None:
            if isinstance(node, Function) and not inside:  # functions in it are a part of its scope
                inside, scope = True, {**scope, **bound(module, node)}
            elif isinstance(node, ast.ClassDef):
                owner = node.name
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias, source in zip(node.names, imported(module, node).values(), strict=True):
                    late = inside or (alias.asname or alias.name) in module.late
                    add(alias.lineno, alias.col_offset, alias.name, self.find(source), late)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                name = dotted_name(node)
                top, _, rest = name.partition(".")
                own = top in module.definitions and top not in scope
                source = f"{module.name}.{top if own else owner}" if own or (top == "self" and rest) else ""
                if source := source or scope.get(top, ""):
                    last, end = name.rpartition(".")[2], node.end_col_offset or 0
                    late = top in module.late or scope.get(top) != module.imports.get(top)
                    target = self.find(f"{source}.{rest}".removesuffix("."))
                    add(node.end_lineno or 0, end - len(last.encode()), last, target, late)
            for child in ast.iter_child_nodes(node):
                if child._fields:  # not `Load`, `Add`, ...
                    visit(child, scope, owner, inside)

        visit(module.tree, module.imports, "", False)
        return found


def bound(module: Module, function: Function) -> Scope:
    """The names that a function binds: its arguments, its variables, its imports."""
    names: Scope = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            names[node.arg] = ""
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = ""
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(imported(module, node))
    return {name: source for name, source in names.items() if name != "self"}


def dotted_name(node: ast.AST) -> str:
    """ "a.b.c" of `a.b.c`, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted_name(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""

"""Mutants, small faults to plant: the results of cosmic-ray's operators on a file, and calls without one of
their keywords.

A mutant is identified by its file, its function, the operator, and the text of the lines that differ. Line
numbers are not used, since they change with every edit above. Mutants that agree in all of this are
numbered in order. A file is mutated one function or statement at a time: parsing the whole file for each
mutant takes minutes."""

import ast
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAIRS = [
    ("Binary", "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitAnd_BitOr BitOr_BitAnd"),
    ("Comparison", "Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is"),
    ("Comparison", "Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt"),
    ("Unary", "Delete_USub Delete_Not Delete_Invert"),
]
OPERATORS = [
    *("AddNot", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *(f"Replace{kind}Operator_{pair}" for kind, pairs in PAIRS for pair in pairs.split()),
]
DROP = "DropKeywordArgument"
DEFAULTS = {"strict=False"}
"""Keywords with the defaults of Python: a call without them is the same call."""
KEY = ("file", "function", "operator", "before", "after", "nth")

Mutant = tuple[dict[str, Any], str]
"""The change, and the whole mutated source."""


def mutants(file: str, only: frozenset[str] | None = None) -> Iterator[Mutant]:
    """All mutants of a file, or only those in the functions `only`. Mutants are skipped if they do not
    compile, change only an annotation, or are equal to a mutant by another operator."""
    source = (ROOT / file).read_text()
    alike = Counter[tuple[Any, ...]]()
    for piece in pieces(source):
        seen = {behavior(piece.alone())}
        for operator, mutated in [*by_cosmic_ray(piece.alone()), *without_a_keyword(piece.alone())]:
            try:
                program = behavior(mutated)
            except SyntaxError:
                continue
            if program in seen:
                continue
            seen.add(program)
            change = {"file": file, "operator": operator, **piece.difference(mutated)}
            alike[key := tuple(change[name] for name in KEY[:-1])] += 1
            if only is None or change["function"].split(".")[0] in only or change["function"] in only:
                yield {**change, "nth": alike[key]}, piece.put_back(source, mutated)


def sampled(made: list[Mutant], n: int | None, seed: int) -> list[Mutant]:
    """n of a file's mutants (None: all), and all that have lost a keyword, in a random order that is the
    same for the same seed. The random number depends on the mutant alone: an edit elsewhere in the file
    changes no other mutant's place."""
    made = sorted(made, key=lambda m: draw(m[0], seed))
    others = [m for m in made if m[0]["operator"] != DROP][:n]
    return others + [m for m in made if m[0]["operator"] == DROP]


def draw(change: dict[str, Any], seed: int) -> str:
    """A number, in hexadecimal digits, that is uniform over mutants."""
    return hashlib.sha256(json.dumps([seed, *(change[name] for name in KEY)]).encode()).hexdigest()


def key(change: dict[str, Any]) -> str:
    """A mutant's name in a file of results."""
    return draw(change, 0)[:16]


# -- the operators -----------------------------------------------------------------------------------


def by_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast(source)))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes)):
            with contextlib.suppress(AttributeError):  # its ExceptionReplacer stumbles over dotted names
                if (mutated := mutate_code(source, operator, occurrence)) is not None:
                    yield name, mutated


def without_a_keyword(source: str) -> Iterator[tuple[str, str]]:
    """For every keyword argument of every call, the source without it (and its comma), except for defaults of
    Python."""
    starts = [0]  # of each line, in bytes, as the tree counts
    content = source.encode()
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for call in ast.walk(ast.parse(source)):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg is None or ast.unparse(keyword) in DEFAULTS:  # None: **more
                continue
            assert keyword.end_lineno is not None
            assert keyword.end_col_offset is not None
            start = starts[keyword.lineno - 1] + keyword.col_offset
            end = starts[keyword.end_lineno - 1] + keyword.end_col_offset
            before, after = content[:start], content[end:]
            if after.lstrip().startswith(b","):
                after = after.lstrip()[1:].lstrip(b" ")
            else:
                before = before.rstrip().removesuffix(b",")
            yield DROP, (before + after).decode()


def behavior(source: str) -> str:
    """The program without its annotations, which `from __future__ import annotations` leaves unevaluated."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, ast.Constant(None))
    return ast.dump(tree)


# -- pieces of a file --------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Lines of a file that form a function, a statement, or the head of a class."""

    text: str
    start: int  # the number of its first line
    path: str  # of the class that it is in
    before: str = ""  # makes the text a program of its own, with `after`
    after: str = ""

    def alone(self) -> str:
        return self.before + self.text + self.after

    def put_back(self, source: str, mutated: str) -> str:
        lines = source.splitlines(keepends=True)
        stop = self.start - 1 + len(self.text.splitlines())
        return "".join([*lines[: self.start - 1], self.inside(mutated), *lines[stop:]])

    def inside(self, mutated: str) -> str:
        assert mutated.startswith(self.before)
        assert mutated.endswith(self.after)
        return mutated[len(self.before) : len(mutated) - len(self.after)]

    def difference(self, mutated: str) -> dict[str, Any]:
        """The function or class, the number of the first line, and the lines of both that differ."""
        before, after = self.text.splitlines(), self.inside(mutated).splitlines()
        same = 0
        while before[same : same + 1] == after[same : same + 1]:
            same += 1
        end = 1
        while end <= min(len(before), len(after)) - same and before[-end] == after[-end]:
            end += 1
        old, new = (lines[same : len(lines) - end + 1] for lines in (before, after))
        place = function_at(self.alone(), len(self.before.splitlines()) + same + 1)
        path = ".".join(name for name in [*self.path.split("."), *place.split(".")] if name not in ("", "_"))
        return {"function": path, "line": self.start + same, "before": stripped(old), "after": stripped(new)}


def pieces(source: str) -> Iterator[Piece]:
    lines = source.splitlines(keepends=True)

    def inside(body: list[ast.stmt], path: str) -> Iterator[Piece]:
        for node in body:
            start, end = first_line(node), node.end_lineno or 0
            around = ("class _:\n",) if path else ()
            if ast.unparse(node).startswith("if __name__ == '__main__'"):
                continue  # a program; its mutants would run when a test imports the file
            if isinstance(node, ast.ClassDef):
                head = "".join(lines[start - 1 : first_line(node.body[0]) - 1])
                indent = " " * (node.col_offset + 4)
                yield Piece(head, start, path, "".join(around), f"{indent}pass\n")
                yield from inside(node.body, f"{path}.{node.name}".strip("."))
            else:
                yield Piece("".join(lines[start - 1 : end]), start, path, *around)

    return inside(ast.parse(source).body, "")


def first_line(node: ast.AST) -> int:
    """With the decorators."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])  # type: ignore[attr-defined]


def stripped(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines)


def function_at(source: str, line: int) -> str:
    """The innermost function or class around a line, by its path; "" at the top of the file."""

    def inside(node: ast.AST, path: str) -> str:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if first_line(child) <= line <= (child.end_lineno or child.lineno):
                    return inside(child, f"{path}.{name}".strip("."))
            elif getattr(child, "lineno", line + 1) <= line <= getattr(child, "end_lineno", 0):
                return inside(child, path)
        return path

    return inside(ast.parse(source), "")

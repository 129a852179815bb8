"""Small faults to plant: what cosmic-ray's operators make of a file, and calls that lose one keyword.

A mutant is known by its file, the function that it is in, the operator, and the lines that differ; not by
their numbers, which change with every line above. Of mutants that are alike in all this, the order tells."""

import ast
import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

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
KEY = ("file", "function", "operator", "before", "after", "nth")


def mutants(file: str, only: frozenset[str] | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """What was changed, and the whole mutated source; of `only` these functions, if they are given. Left out:
    what does not compile, what changes an annotation only, and what another operator has made already."""
    source = (ROOT / file).read_text()
    seen, alike = {behaviour(source)}, Counter[tuple[Any, ...]]()
    for operator, mutated in [*by_cosmic_ray(source), *without_a_keyword(source)]:
        try:
            program = behaviour(mutated)
        except SyntaxError:
            continue
        if program in seen:
            continue
        seen.add(program)
        change = {"file": file, "operator": operator, **difference(source, mutated)}
        alike[key := tuple(change[name] for name in KEY[:-1])] += 1
        if only is None or change["function"].split(".")[0] in only or change["function"] in only:
            yield {**change, "nth": alike[key]}, mutated


def sampled(
    made: list[tuple[dict[str, Any], str]], n: int | None, seed: int
) -> list[tuple[dict[str, Any], str]]:
    """n of a file's mutants (None: all), the same for the same seed, and all that have lost a keyword."""
    dropped = [m for m in made if m[0]["operator"] == DROP]
    others = [m for m in made if m[0]["operator"] != DROP]
    if n is not None and n < len(others):
        others = random.Random(seed).sample(others, n)
    return others + dropped


def by_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for occurrence in count():
            try:
                mutated = mutate_code(source, operator, occurrence)
            except AttributeError:  # its ExceptionReplacer stumbles over dotted names
                continue
            if mutated is None:
                break
            yield name, mutated


def without_a_keyword(source: str) -> Iterator[tuple[str, str]]:
    """Every keyword argument of every call left out once, with the comma that goes with it."""
    starts = [0]  # of each line, in bytes, as the tree counts
    content = source.encode()
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for call in ast.walk(ast.parse(source)):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg is None:  # **more
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


def behaviour(source: str) -> str:
    """The program without its annotations, which `from __future__ import annotations` leaves unevaluated."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, ast.Constant(None))
    return ast.dump(tree)


def difference(source: str, mutated: str) -> dict[str, Any]:
    before, after = source.splitlines(), mutated.splitlines()
    same = 0
    while before[same] == after[same]:
        same += 1
    end = 1
    while before[-end] == after[-end] and end < min(len(before), len(after)) - same:
        end += 1
    old, new = (lines[same : len(lines) - end + 1] for lines in (before, after))
    place = {"function": function_at(source, same + 1), "line": same + 1}
    return {**place, "before": stripped(old), "after": stripped(new)}


def stripped(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines)


def function_at(source: str, line: int) -> str:
    """The innermost function or class around a line, by its path; "" at the top of the file."""

    def inside(node: ast.AST, path: str) -> str:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                if first <= line <= (child.end_lineno or first):
                    return inside(child, f"{path}.{name}".strip("."))
            elif getattr(child, "lineno", line + 1) <= line <= getattr(child, "end_lineno", 0):
                return inside(child, path)
        return path

    return inside(ast.parse(source), "")

"""How much there is to read in some definitions: their lines of code, and the names in them.

    python tests/tools/reading_size.py tinygen/nn/transformer.py:Block tinygen/ops/attention.py:attention
    python tests/tools/reading_size.py                 all that a block of GPT is made of, down to the ops

A line counts if it has code: comments, docstrings and blank lines do not. The names are the different
identifiers, without Python's keywords.
"""

import ast
import keyword
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
GPT_BLOCK = [
    *("tinygen/nn/transformer.py:" + name for name in ("Block", "MLP")),
    *(
        "tinygen/nn/attention.py:" + name
        for name in ("MultiHeadAttention", "Heads", "split_heads", "merge_heads")
    ),
    "tinygen/ops/attention.py:attention",
]
"""Left out: the ops that have the name of a formula (softmax, gelu, linear, ...), the layers that are one op
(Linear, LayerNorm, Dropout), and functions that only check arguments (require_...)."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


class Size(NamedTuple):
    lines: int
    names: set[str]


def size_of(path: Path, name: str) -> Size:
    """The size of the class or function `name` at the top level of a file, with its decorators."""
    tree = ast.parse(path.read_text("utf-8"))
    [node] = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name]
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    inside = set(range(first, (node.end_lineno or first) + 1)) - docstring_lines(node)
    lines, names = set(), set()
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            rows = set(range(token.start[0], token.end[0] + 1)) & inside
            if rows and token.type not in NO_CODE:
                lines |= rows
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    names.add(token.string)
    return Size(len(lines), names)


def docstring_lines(node: ast.AST) -> set[int]:
    found: set[int] = set()
    for n in ast.walk(node):
        if isinstance(n, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(n) is not None:
            found |= set(range(n.body[0].lineno, (n.body[0].end_lineno or 0) + 1))
    return found


def total(definitions: list[str]) -> Size:
    sizes = [size_of(ROOT / path, name) for path, _, name in (d.partition(":") for d in definitions)]
    return Size(sum(size.lines for size in sizes), set().union(*(size.names for size in sizes)))


if __name__ == "__main__":
    wanted = sys.argv[1:] or GPT_BLOCK
    for definition in wanted:
        size = total([definition])
        print(f"{definition:<55} {size.lines:4} lines {len(size.names):4} names")
    size, files = total(wanted), {d.partition(":")[0] for d in wanted}
    print(f"{'in all, in ' + str(len(files)) + ' files':<55} {size.lines:4} lines {len(size.names):4} names")

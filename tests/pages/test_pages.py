"""The pages train. And they are pages: short, whole, and with a true shape beside every array they make."""

import ast
import re
import tokenize
from io import StringIO

import pytest
from pages.page import FOLDER, PAGES
from pages.shape_comments import checking
from pages.uses import USES

LIMIT = dict.fromkeys(PAGES, 60) | {"latent_diffusion": 100}
WIDTH = 110
TRAINING = {  # steps, and the part of the first loss that may be left
    "engine": (200, 0.1),
    "gpt": (60, 0.1),
    "bert": (150, 0.3),
    "llama": (60, 0.1),
    "translation": (120, 0.2),
    "lstm": (60, 0.1),
    "wavenet": (120, 0.1),
    "vae": (150, 0.5),
    "hierarchical_vae": (200, 0.6),
    "ddpm": (400, 0.5),
    "flow_matching": (400, 0.7),
    "latent_diffusion": (200, 0.6),
    "controlnet": (150, 0.5),
    "clip": (60, 0.1),
    "ppo": (25, 1.5),
    "dpo": (15, 0.5),
    "adamw": (80, 0.01),
    "em": (30, 0.1),
    "gan": (300, 0.3),
    "style": (60, 0.2),
    "all_reduce": (80, 0.01),
}
every_page = pytest.mark.parametrize("name", PAGES)


def test_every_page_is_used():
    assert PAGES.keys() == USES.keys() == TRAINING.keys()


@every_page
def test_trains(name):
    steps, left = TRAINING[name]
    losses = USES[name](steps)
    assert losses[-1] < left * losses[0]


# -- what a page is ----------------------------------------------------------------------------------


def code_lines(text):
    """The lines that hold code: no docstrings, comments or blanks."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, described) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    no_code = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines = set()
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type not in no_code:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


COUNTED = '''"""About.

More."""

import math  # why

# a comment
def f(x):
    """It."""
    return (
        x
    )
'''


def test_code_lines_are_counted():
    assert code_lines(COUNTED) == {5, 8, 10, 11, 12}


@every_page
def test_is_a_page(name):
    text = PAGES[name].read_text()
    assert len(code_lines(text)) <= LIMIT[name]
    assert max(map(len, text.splitlines())) <= WIDTH


@every_page
def test_hides_nothing_elsewhere(name):
    """At most numpy, math, and Tensor, grad, ops of tinygen; the engine needs numpy alone."""
    imports = set()
    for node in ast.walk(ast.parse(PAGES[name].read_text())):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
    allowed = {"numpy", "math", "tinygen.Tensor", "tinygen.grad", "tinygen.ops"}
    assert imports <= ({"numpy"} if name == "engine" else allowed)


@every_page
def test_says_what_it_is(name):
    """The opening: which method, by whom, where, and its equations; the letters of its shapes."""
    page = ast.parse(PAGES[name].read_text())
    opening = ast.get_docstring(page)
    first = opening.splitlines()[0]
    assert "on one page" in first
    assert "arXiv:" in opening or name in ("engine", "em")  # older than arXiv
    assert opening.count(" = ") >= 1
    assert any(line.startswith("    ") for line in opening.splitlines()) or name == "latent_diffusion"
    assert "Letters in shapes:" in opening or name == "adamw"  # any shape


GUIDE = (FOLDER.parents[1] / "docs" / "pages.md").read_text()


def test_the_guide_opens_with_a_page():
    first = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]
    assert first in PAGES["gpt"].read_text()


@every_page
def test_the_guide_says_how_long(name):
    [lines] = re.findall(rf"\(\.\./examples/pages/{name}\.py\)[^|]*\| (\d+) \|", GUIDE)
    assert int(lines) == len(code_lines(PAGES[name].read_text()))


# -- shapes ------------------------------------------------------------------------------------------


@every_page
def test_shapes_beside_every_line_are_true(name):
    with checking(PAGES[name]) as [comments]:
        USES[name](2)
    assert not comments.faults
    assert not comments.bare, "these lines make arrays, and have no shape beside them"
    assert comments.unseen() == set(), "these comments were never reached"


PLANTED = {
    "a wrong letter": ("y = x @ w  # (B, D)", "(B, D) is false"),
    "too few axes": ("y = x @ w  # (B,)", "(B,) is false"),
    "a wrong number": ("y = x @ w  # (B, 4)", "(B, 4) is false"),
    "a wrong expression": ("y = x @ w  # (B, D + 1)", "(B, D + 1) is false"),
    "a local number": ("n = 7\n    y = x @ w  # (B, n)", "(B, n) is false"),
    "of a tuple": ("y, z = x @ w, x  # (B, C), (B, C)", "is false"),
    "of each": ("y, z = x @ w, x  # each (B, C)", "is false"),
    "too few shapes": ("y, z = x @ w, x  # (B, C)", "2 arrays"),
    "of return": ("return x @ w  # (D, C)", "(D, C) is false"),
    "of an entry": ('y = {\n        "a": x,  # (B, C)\n        "b": w,  # (D, C)\n    }', "(D, C) is false"),
    "a letter nobody knows": ("y = x @ w  # (B, 2K)", "how many K is"),
    "an argument": ('"""Of x (D, B) and w (D, C)."""', "argument w is false"),
    "changed in place": ("x = x @ w  # (B, C)\n    x = x[:, :2]  # (B, C)", "is false"),
}
TRUE = {
    "letters": "y = x @ w  # (B, C): words",
    "expressions": "y = x @ w  # (B, C)\n    z = np.append(y, y, axis=1)  # (B, 2C)",
    "of a tuple": "y, z = x @ w, x  # (B, C), (B, D)",
    "any axes": "y = x @ w  # (..., C)",
    "a number": "y = np.sum(x @ w)  # ()",
    "an argument": '"""Of x (B, D) and w (D, C)."""\n    y = x @ w  # (B, C)',
    "several lines": "y = (\n        x\n        @ w\n    )  # (B, C)",
}


def check(tmp_path, body):
    path = tmp_path / "page.py"
    path.write_text(f"import numpy as np\n\n\ndef f(x, w):\n    {body}\n")
    with checking(path) as [comments]:
        names = {}
        exec(compile(path.read_text(), str(path), "exec"), names)
        names["f"](*map(names["np"].ones, ((2, 3), (3, 5))))
    return comments


@pytest.mark.parametrize(("body", "fault"), PLANTED.values(), ids=PLANTED)
def test_a_false_shape_is_found(tmp_path, body, fault):
    assert any(
        fault in found
        for found in check(tmp_path, f"D = 3\n    {body}" if '"""' not in body else body).faults
    )


@pytest.mark.parametrize("body", TRUE.values(), ids=TRUE)
def test_a_true_shape_is_not(tmp_path, body):
    comments = check(tmp_path, body)
    assert not comments.faults
    assert comments.checked


def test_a_line_without_a_shape_is_found(tmp_path):
    assert check(tmp_path, "n = 3\n    y = x @ w\n    return y").bare == {6}
    assert check(tmp_path, "return x @ w").bare == {5}

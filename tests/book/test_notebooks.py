"""Notebooks say what the page says, and nothing else; a cell that raises ends their run."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("markdown_it")
pytest.importorskip("jinja2")

from tinygen.book.notebooks import cells, imported_pages, notebook
from tinygen.book.runs import graph_of, run_of

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text() for path in (ROOT / "examples" / "pages").glob("*.py")}
RUNS = {path.stem: path.read_text() for path in (ROOT / "examples" / "notebooks").glob("*.py")}
every_page = pytest.mark.parametrize("name", sorted(PAGES))


def code_of(text):
    """The statements in the cells of code of a notebook."""
    sources = [c["source"] for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    return [ast.unparse(statement) for source in sources for statement in ast.parse(source).body]


def statements(source, without=""):
    """Those of a file, without docstrings of the file, functions and classes, and without some imports."""
    found = []
    tree = ast.parse(source)
    for node in tree.body[1:]:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node)
            and len(node.body) > 1
        ):
            node.body = node.body[1:]
        if not (without and isinstance(node, ast.ImportFrom) and node.module.startswith(without)):
            found.append(ast.unparse(node))
    return found


def test_every_page_has_a_run():
    assert RUNS.keys() == PAGES.keys()


@every_page
def test_the_code_is_that_of_the_page_and_its_run(name):
    others = [other for other in imported_pages(RUNS[name]) if other != name]
    expected = [line for other in others for line in statements(PAGES[other])]
    expected += statements(PAGES[name]) + statements(RUNS[name], without="pages.")
    assert code_of(notebook(name, "", PAGES, RUNS[name])) == expected


@every_page
def test_the_words_are_those_of_the_page_and_its_run(name):
    shown = " ".join(c["source"] for c in json.loads(notebook(name, "", PAGES, RUNS[name]))["cells"])
    for source in (PAGES[name], RUNS[name]):
        tree = ast.parse(source)
        described = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = [ast.get_docstring(n) for n in [tree, *tree.body] if isinstance(n, described)]
        assert all(doc in shown for doc in docs if doc)
    assert "**Try this.**" in shown


@every_page
def test_the_form_is_valid(name):
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.reads(notebook(name, "# x", PAGES, RUNS[name], "end"), as_version=4))


def test_cells_of_a_file():
    source = '"""About.\n\n    x = 1\n\nMore.\n"""\n\nimport math\n\nfrom pages.x import y\n\n\n'
    source += 'def f():\n    """It."""\n'
    source += "    return 1  # why\n\n\n# A note\n# of two lines.\nprint(f())\n\nclass A:\n    def g(self):\n"
    source += '        """Its."""\n\n# The end.\n'
    assert cells(source, omit="pages") == [
        ("markdown", "About.\n\n    x = 1\n\nMore."),
        ("code", "import math"),
        ("markdown", "**`f`** It."),
        ("code", "def f():\n    return 1  # why"),
        ("markdown", "A note\nof two lines."),
        ("code", 'print(f())\n\nclass A:\n    def g(self):\n        """Its."""'),
        ("markdown", "The end."),
    ]


def test_a_run_with_its_exercises_and_its_graph():
    run = run_of(ROOT, "vae", "# The title", ["b", "a"])
    text = [cell["source"] for cell in json.loads(run.notebook)["cells"]]
    assert text[0].startswith("# The title")
    assert text[-1].endswith("`python -m tinygen exercise a`, `python -m tinygen exercise b`.")
    assert len(run.graph) < 200_000
    assert ">encode</text>" in run.graph
    assert ">W_mu</text>" in run.graph
    assert run.alt.startswith("The tape of vae.py as a graph: 29 ops")
    assert run.alt.endswith("functions encode, elbo, decode.")


def test_a_file_without_a_graph():
    assert graph_of(ROOT / "examples" / "notebooks" / "em.py") is None


def test_a_cell_that_raises_ends_the_run(tmp_path):
    """By the command of `.ci/run`."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    planted = RUNS["em"].replace("losses = [", "1 / 0\nlosses = [")
    (tmp_path / "x.ipynb").write_text(notebook("em", "", PAGES, planted))
    command = [Path(sys.executable).parent / "jupyter-execute", "--timeout=60", "x.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr

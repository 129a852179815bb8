"""The code in README and docs/overview.md runs, in order, and prints the results in its comments."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(path):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


def test_readme_shows_the_engines_page():
    page = (ROOT / "examples/pages/engine.py").read_text()
    first, second, _ = blocks("README.md")
    assert page.index(first) < page.index(second)


def test_the_code_in_readme(capsys):
    names: dict = {}
    exec(blocks("README.md")[-1], names)
    check_gradient(names)
    assert str(names["w"].grad) in capsys.readouterr().out


def test_the_code_in_the_overview(capsys):
    assert len(blocks("docs/overview.md")) == 3
    names: dict = {}
    for block in blocks("docs/overview.md"):
        exec(block, names)
    printed = capsys.readouterr().out
    check_gradient(names)
    assert "Tensor(48.)" in printed
    hessian = names["tinygen"].hessian(lambda x: np.sum(x**3))([1.0, 2.0])
    np.testing.assert_array_equal(hessian, [[6, 0], [0, 12]])
    assert "tanh" in printed


def check_gradient(names):
    """Of the mean of tanh(x w)²."""
    w, x = names["w"], names["x"]
    h = np.tanh(x @ w.numpy())
    np.testing.assert_allclose(w.grad, x.T @ (2 * h * (1 - h * h)) / h.size)


def test_every_page_of_the_docs_has_a_link_in_readme():
    """README is the door to all of them."""
    for path in (ROOT / "docs").rglob("*.md"):
        assert f"({path.relative_to(ROOT).as_posix()})" in README, f"README has no link to {path}"


def test_the_two_commands_stand_at_the_top():
    head = README.split("\n## ")[0]
    assert '    pip install -e ".[examples]" && python examples/gpt_text.py\n' in head
    assert '    pip install -e ".[test]" && pytest\n' in head

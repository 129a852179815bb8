"""README's code runs, in order, and prints the results in its comments."""

import re
from pathlib import Path

import numpy as np

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_code_in_readme(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    w, x = names["w"], names["x"]
    h = np.tanh(x @ w.numpy())
    np.testing.assert_allclose(w.grad, x.T @ (2 * h * (1 - h * h)) / h.size)
    assert "Tensor(48.)" in printed
    hessian = names["tinygen"].hessian(lambda x: np.sum(x**3))([1.0, 2.0])
    np.testing.assert_array_equal(hessian, [[6, 0], [0, 12]])
    assert "tanh" in printed


def test_the_two_commands_stand_at_the_top():
    head = README.split("\n## ")[0]
    assert '    pip install -e ".[examples]" && python examples/gpt_text.py\n' in head
    assert '    pip install -e ".[test]" && pytest\n' in head

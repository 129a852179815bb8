"""The types that users see: `mypy --strict` checks a file outside the repository, with tinygen installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parents[1]
RIGHT = """
import numpy as np

import tinygen
from tinygen import Tensor, grad, nn, no_grad, op, ops, optim
from tinygen.models import GPT, GPTConfig
from tinygen.ops import cross_entropy, relu


class Layer(nn.Module):
    def __init__(self, *, rng: np.random.Generator) -> None:
        self.fc = nn.Linear(3, 4, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(relu(self.fc(x)))


x = Tensor(np.ones((2, 3), np.float32))
layer = Layer(rng=np.random.default_rng(0))
loss: Tensor = cross_entropy(layer(x), np.array([0, 1]))
loss.backward()
optim.AdamW(layer.parameters(), lr=1e-3).step()
model: GPT = tinygen.models.GPT(GPTConfig(vocab_size=5), rng=0)
with no_grad():
    same: Tensor = ops.equal(x + 1, x.sum())
"""
TYPES = {
    "ops.relu": "def (x: Any) -> tinygen.tensor.Tensor",
    "ops.equal": "def (*Any, **Any) -> tinygen.tensor.Tensor",
    "tinygen.models.GPT": "def (config: tinygen.models.language.gpt.GPTConfig, *, rng: ",
}
WRONG = {
    "ops.rellu": 'Module has no attribute "rellu"',
    "nn.Linaer": 'Module has no attribute "Linaer"; maybe "Linear"?',
    "tinygen.models.Gpt": 'Module has no attribute "Gpt"',
    "ops.relu(1, 2)": 'Too many arguments for "relu"',
    "nn.Linear(3, 4, rnd=0)": 'Unexpected keyword argument "rnd" for "Linear"',
}


def strict_mypy(folder, text):
    """The lines that mypy prints for a file in `folder`. With PYTHONPATH, tinygen is a package that is
    installed: its types are known by its py.typed, and its own files are not checked."""
    (folder / "mine.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "mine.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_user_s_file_under_strict_mypy(tmp_path):
    """Right code has no errors; types are known; and wrong names are found where names come late."""
    assert strict_mypy(tmp_path, RIGHT) == ["Success: no issues found in 1 source file"]
    lines = ["import tinygen; from tinygen import nn, ops", *(f"reveal_type({x})" for x in TYPES), *WRONG]
    said = [line for line in strict_mypy(tmp_path, "\n".join(lines) + "\n") if ' defined in "' not in line]
    for number, (line, expected) in enumerate(zip(said, [*TYPES.values(), *WRONG.values()], strict=False), 2):
        assert line.startswith(f"mine.py:{number}: ")
        assert expected in line
    assert said[-1] == f"Found {len(WRONG)} errors in 1 file (checked 1 source file)"

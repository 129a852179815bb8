"""`--device cuda` where there is no card."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH_A_DEVICE = ["gpt_text.py", "gpt_algorithms.py", "gpt2_generate.py"]


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is there, and so may be a card")
@pytest.mark.parametrize("example", WITH_A_DEVICE)
def test_it_ends_in_one_line(example):
    command = [sys.executable, str(EXAMPLES / example), "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'error: argument --device: device "cuda" needs CuPy: pip install "tinygen[cuda13]"' in done.stderr


def test_a_device_that_is_none():
    command = [sys.executable, str(EXAMPLES / WITH_A_DEVICE[0]), "--device", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert 'argument --device: unknown device \'gpu\': use "cpu" or "cuda"' in done.stderr

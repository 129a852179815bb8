"""`optable.py` beside this file is imported by the tests here; what several of them need."""

import sys
from pathlib import Path

import pytest

from tinygen.kernels import registry

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def at_every_size(monkeypatch):
    """Compiled kernels take small arrays too: the rows of these tables are far below what is worth them."""
    for name in ("LEAST", "WIDE", "PRODUCTS"):
        monkeypatch.setattr(registry, name, 0)

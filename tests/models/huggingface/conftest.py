"""What the tests with `transformers` share."""

import pytest
from transformers_parity import load_transformers


@pytest.fixture(scope="session")
def transformers():
    """The library, if it is there with PyTorch, without the network, and silent."""
    pytest.importorskip("torch")
    module = pytest.importorskip("transformers")
    load_transformers()
    return module

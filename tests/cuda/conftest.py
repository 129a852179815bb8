"""Settings for the tests in this folder: their helpers, and modules in the place of CuPy."""

import contextlib
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
from foreign import Foreign, no_waiting

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore_glob = [] if find_spec("numba") else ["test_*.py"]


@pytest.fixture
def stand_in(monkeypatch):
    """CuPy with a GPU of stand-in arrays, which PyTorch does not see."""
    import gpu_models
    import gpu_works

    pool = types.SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 3_000_000)
    device = types.SimpleNamespace(synchronize=lambda: None)
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.asarray, cupy.get_default_memory_pool = Foreign, lambda: pool
    cupy.cuda = types.SimpleNamespace(is_available=lambda: True, Device=lambda: device)
    cupyx.allow_synchronize = lambda allowed: contextlib.nullcontext() if allowed else no_waiting()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    for module in (gpu_works, gpu_models):
        monkeypatch.setattr(module, "torch_here", lambda: None)

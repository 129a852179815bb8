"""The steps that must not wait for a GPU, on the stand-in array that refuses to be read."""

import sys
import types

import no_waiting as stage
import pytest
from foreign import Foreign, no_waiting

from tinygen import optim


@pytest.fixture
def cupy(monkeypatch):
    module = types.ModuleType("cupy")
    module.asarray, module.cuda = Foreign, types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", module)


def test_nothing_waits(cupy):
    found = stage.no_waiting("cuda", no_waiting)
    assert found == dict.fromkeys(["GPT", "GPT, text on the GPU", "UNet", "VAE"], "never waited")


def test_by_default_it_is_cupy_that_says_so(cupy, monkeypatch):
    cupyx = types.ModuleType("cupyx")
    cupyx.allow_synchronize = lambda allowed: no_waiting() if not allowed else None
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    assert set(stage.no_waiting("cuda").values()) == {"never waited"}


def test_a_look_is_named(cupy, monkeypatch):
    monkeypatch.setattr(stage, "clip_grad_norm", lambda *args: float(optim.clip_grad_norm(*args)))
    found = stage.no_waiting("cuda", no_waiting)
    assert set(found.values()) == {"Waited: a value was looked at, which waits for the GPU"}

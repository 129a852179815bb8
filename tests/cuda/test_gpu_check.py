"""gpu_check's stages as far as they go without a card: the simulator and a stand-in take its place."""

import json
import subprocess
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
from foreign import Foreign
from kernels import FILES, KERNELS
from schedule import scheduled

from tinygen.models.gpt import GPTConfig
from tinygen.ops.window import Geometry
from tinygen_cuda import gpu_check

GEOMETRY = Geometry((1, 1), (1, 1), (1, 1), 1)
TINY = {
    **dict.fromkeys(("reduce", "softmax", "layer_norm", "cross_entropy"), (2, 5)),
    **dict.fromkeys(("gelu", "adam", "philox"), (5,)),
    "group_norm": (1, 2, 2, 3),
    "embedding": (5, 3, 3),
    "columns": ((1, 1, 2, 2), (3, 3), GEOMETRY),
    "convolutions": ((1, 1, 2, 2), 1, (3, 3), GEOMETRY),
    "attention": (1, 3, 4, 3, True),
}


def test_the_kernels_agree():
    assert gpu_check.FAMILIES == FILES
    assert gpu_check.SIZES.keys() == TINY.keys()
    with scheduled("up"):
        report = gpu_check.agreement(KERNELS, np.asarray, TINY)
    assert report["wrong"] == []
    assert report["error"].keys() == TINY.keys()


def test_a_wrong_kernel_is_named(monkeypatch):
    monkeypatch.setattr(KERNELS.reduce, "sum_rows", lambda x: x[:, 0])
    with scheduled("up"):
        assert gpu_check.agreement(KERNELS, np.asarray, TINY)["wrong"] == ["reduce"]


def test_parity_on_a_stand_in(monkeypatch):
    cupy = types.ModuleType("cupy")
    cupy.asarray, cupy.cuda = Foreign, types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    config = GPTConfig(5, 4, n_layer=1, n_head=2, n_embd=8)
    here, there = (gpu_check.training(device, config, 2, 3) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(here, there, rtol=1e-5)


def test_each_stage_is_saved_as_it_ends(tmp_path, capsys):
    saved = []

    def fails():
        saved.append(json.loads((tmp_path / "report.json").read_text()))
        raise ValueError("no such thing")

    report = gpu_check.run({"first": lambda: {"x": 1}, "second": fails, "third": dict}, tmp_path, 60)
    assert saved[0]["first"]["x"] == 1
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["second"]["failed"] == "ValueError('no such thing')"
    assert "third" in report
    assert "no such thing" in capsys.readouterr().out


def test_no_stage_begins_beyond_the_budget(tmp_path):
    report = gpu_check.run({"first": dict, "second": dict}, tmp_path, -1)
    assert all("skipped" in found for found in report.values())


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is there, and so may be a card")
def test_without_a_card():
    command = [sys.executable, "-m", "tinygen_cuda.gpu_check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'no card found: CuPy is missing (pip install "tinygen[cuda13]")\n'

"""gpu_check times the same work in tinygen and in PyTorch, and this work runs on the stand-in array. The
times themselves are not tested."""

import importlib
from importlib.util import find_spec

import gpu_models
import gpu_shakespeare
import gpu_speed
import gpu_stage
import gpu_works
import numpy as np
import pytest
from gpu_launches import launches
from gpu_tables import problems
from schedule import scheduled

from tinygen import ops
from tinygen.models.language.gpt import GPT, GPTConfig


@pytest.fixture
def at_once(monkeypatch):
    """Nothing is measured: every side is called, and takes a second."""

    def timed(sides, wait, **options):
        wait()
        return {name: 1.0 for name, side in sides.items() if side.call() is not None}

    for module in (gpu_speed, gpu_models):
        monkeypatch.setattr(module, "timed", timed)


def wrong(figures):
    return problems({"stage": {"figures": figures}})


# -- ops -------------------------------------------------------------------------------------------


def test_sides_take_turns():
    calls = []
    sides = {name: gpu_speed.Side(lambda name=name: calls.append(name)) for name in "ab"}
    found = gpu_speed.timed(sides, lambda: calls.append("|"), rounds=3, least=0.0)
    assert "".join(calls) == 2 * "|aa||bb|" + 3 * "|a||b|"
    assert found.keys() == {"a", "b"}


def test_ops_agree_with_torch(at_once):
    pytest.importorskip("torch")
    figures = dict(gpu_speed.ops_beside_torch("cpu"))
    assert figures.keys() == gpu_works.WORKS.keys()
    assert wrong(figures) == []
    assert all(figure["ours / torch"] == 1 for figure in figures.values())


def small_works(monkeypatch):
    """The GPU gets the sizes for the CPU."""
    for name, maker in gpu_works.WORKS.items():
        monkeypatch.setitem(gpu_works.WORKS, name, maker._replace(gpu=maker.small))


def test_with_tf32_only_products_are_timed(at_once, stand_in, monkeypatch):
    small_works(monkeypatch)
    monkeypatch.setattr(gpu_speed, "TF32", True)
    monkeypatch.setattr(gpu_speed, "ceilings", lambda device: [])
    assert [name for name, _ in gpu_speed.ops_beside_torch("cuda")] == [
        "attention",
        "convolution 3×3",
        "linear",
    ]


def test_ops_on_a_stand_in(at_once, stand_in, monkeypatch):
    small_works(monkeypatch)
    figures = dict(gpu_speed.ops_beside_torch("cuda"))
    assert figures.keys() == gpu_works.WORKS.keys()
    assert wrong(figures) == []
    assert all("GB/s" in figure for figure in figures.values())


def test_another_result_than_torchs_is_wrong(at_once, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(ops.gelu.op, "compute", ops.relu.op.body)
    works = {name: gpu_works.WORKS[name] for name in ("GELU", "softmax")}
    monkeypatch.setattr(gpu_speed, "WORKS", works)
    [said] = wrong(dict(gpu_speed.ops_beside_torch("cpu")))
    assert said.startswith("stage, GELU: off by ")


def test_versions_and_launches():
    figures = dict(gpu_speed.versions("cpu"))
    assert figures["numpy"] == np.__version__
    assert figures["copy"]["GB/s"] > 0
    with scheduled("up"):
        costs = dict(launches("cpu"))
    assert {"Numba, 1 array", "Numba, 3 arrays", "Numba, 5 arrays", "x + x"} <= costs.keys()
    assert wrong(costs) == []


# -- models ----------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """The benchmarks' models in sizes for a test."""
    gpu_stage.of_checkout("benchmarks")
    from benchmarks import generate, gpt, paired, unet

    monkeypatch.setattr(generate, "SIZE", gpt.Size(1, 2, 16, 16, 1, 11))
    monkeypatch.setattr(generate, "POSITIONS", 9)
    monkeypatch.setattr(generate, "TOP_K", 3)
    sizes = {"CHANNELS": 8, "EMBEDDING": 32, "GROUPS": 4, "BATCH": 2, "THREADS": 1}
    modules = [unet, paired]
    if find_spec("torch"):
        modules += [importlib.import_module(f"benchmarks.{name}") for name in ("unet_torch", "gpt_torch")]
    for module in modules:
        for name in vars(module).keys() & sizes.keys():
            monkeypatch.setattr(module, name, sizes[name])
    monkeypatch.setitem(gpu_models.SIZES, "cuda", gpu_models.SIZES["cpu"])


def test_models_agree_with_torch(tiny, at_once):
    pytest.importorskip("torch")
    figures = dict(gpu_models.models_beside_torch("cpu"))
    assert wrong(figures) == []
    assert ["error" in figure for figure in figures.values()] == [True, False, True, True, True]
    assert all(figure["ours / torch"] == 1 for figure in figures.values())


def test_models_on_a_stand_in(tiny, at_once, stand_in):
    figures = dict(gpu_models.models_beside_torch("cuda"))
    assert len(figures) == 5
    assert set(map(str, figures.values())) == {str({"ours ms": 1000.0, "ours MB": 3.0})}


def test_shakespeare(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    with pytest.raises(gpu_stage.Skipped, match="into a folder that TINYGEN_DATA names"):
        next(gpu_shakespeare.shakespeare("cpu"))
    (tmp_path / "input.txt").touch()
    monkeypatch.setattr(gpu_shakespeare, "load_text", lambda name: 30 * "to be or not ")
    sizes = {
        "STEPS": 4,
        "WARMUP": 1,
        "EVERY": 2,
        "BATCH": 2,
        "CONTEXT": 8,
        "LAYERS": 1,
        "HEADS": 2,
        "WIDTH": 8,
    }
    for name, size in sizes.items():
        monkeypatch.setattr(gpu_shakespeare, name, size)
    figures = dict(gpu_shakespeare.shakespeare("cpu"))
    assert list(figures) == ["step 2", "step 4"]
    assert figures["step 4"]["best held back"] <= figures["step 2"]["best held back"] < 2.5


def test_the_loss_held_back_is_that_of_all_pieces():
    model, ids = GPT(GPTConfig(5, 4, 1, 2, 8, dropout=0.5), rng=np.random.default_rng(0)), np.arange(15) % 5
    found = gpu_shakespeare.held_back_loss(model, ids, at_once=2)
    assert model.training
    pieces = [(ids[i : i + 4][None], ids[i + 1 : i + 5][None]) for i in (0, 4, 8)]
    model.eval()
    assert found == pytest.approx(np.mean([model(x, y)[1].item() for x, y in pieces]))

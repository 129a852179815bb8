"""gpu_check's stages, each in a process of its own, and its report."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec

import gpu_check
import gpu_models
import gpu_parity
import gpu_stage
import pytest
from gpu_check import Stage
from gpu_tables import problems, text

STAGES = """
import os, time
from gpu_stage import TF32, Skipped

def good(device):
    yield "x", 1.5
    yield "TF32", TF32

def fails(device):
    yield "before", {"error": 0.0, "limit": 1.0}
    raise ValueError("no such thing")

def dies(device):
    yield "before", 1
    os._exit(7)

def hangs(device):
    yield "before", 2
    time.sleep(3600)

def cannot(device):
    raise Skipped("needs a GPU of gold")
    yield
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs stages of these."""
    (tmp_path / "made_up.py").write_text(STAGES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(budget=600, **options):
        names = ("good", "fails", "dies", "cannot")
        stages = {name: Stage(f"made_up:{name}", 600, **options) for name in names}
        return gpu_check.run(stages, "cpu", tmp_path, budget)

    return run


def test_what_fails_stops_no_other(run, tmp_path):
    report = run()
    assert report["good"]["figures"] == {"x": 1.5, "TF32": False}
    assert "ValueError: no such thing" in report["fails"]["failed"]
    assert report["fails"]["figures"] == {"before": {"error": 0.0, "limit": 1.0}}
    assert report["dies"]["failed"].startswith("exit code 7")
    assert report["dies"]["figures"] == {"before": 1}
    assert report["cannot"]["skipped"] == "needs a GPU of gold"
    assert [line.split(":")[0] for line in problems(report)] == ["fails", "dies"]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert (tmp_path / "report.txt").read_text() == text(report)


def test_no_stage_begins_beyond_the_budget(run):
    assert {result["skipped"] for result in run(budget=7).values()} == {"7 s are over"}


@pytest.mark.parametrize(("endless", "said"), [(False, "failed"), (True, "ended")])
def test_a_stage_that_hangs_is_ended(tmp_path, monkeypatch, endless, said):
    class Impatient(subprocess.Popen):
        def wait(self, seconds=None):
            """Until there is a figure."""
            if seconds is None:
                return super().wait()
            with open(self.args[-1]) as figures:
                while not figures.readline().endswith("\n"):
                    assert self.poll() is None
            raise subprocess.TimeoutExpired(self.args, seconds)

    (tmp_path / "made_up.py").write_text(STAGES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", Impatient)
    found = gpu_check.measured(Stage("made_up:hangs", 5, tf32=True, endless=endless), "cpu", 5)
    assert found["figures"] == {"before": 2}
    assert found[said] == "after 5 s, its budget"
    assert bool(problems({"stage": found})) is not endless


def test_what_a_stage_is_told():
    told = gpu_check.environment(gpu_check.STAGES["models, TF32"], "cuda")
    assert (told["CUPY_TF32"], told["NUMBA_ENABLE_CUDASIM"]) == ("1", "0")
    told = gpu_check.environment(gpu_check.STAGES["models"], "cpu")
    assert (told["CUPY_TF32"], told["NUMBA_ENABLE_CUDASIM"]) == ("0", "1")


def test_stages_by_name():
    assert gpu_check.listed("kernels,models") == ["kernels", "models", "models, TF32"]
    for stage in gpu_check.STAGES.values():
        module, name = stage.function.split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_from_the_command_line(tmp_path):
    command = [sys.executable, gpu_check.__file__, "--device", "cpu", "--stages"]
    done = subprocess.run([*command, "versions", "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith((tmp_path / "report.txt").read_text() + "\n")
    done = subprocess.run([*command, "version"], capture_output=True, text=True)
    assert "there is no version: choose from versions, kernels" in " ".join(done.stderr.split())


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is there, and so may be a GPU")
def test_without_a_gpu():
    command = [sys.executable, gpu_check.__file__]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'no GPU found: CuPy is missing (pip install "tinygen[cuda13]")\n'


def test_outside_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_stage, "CHECKOUT", tmp_path)
    for figures in (gpu_parity.every_op("cpu"), gpu_models.models_beside_torch("cpu")):
        with pytest.raises(gpu_stage.Skipped, match="run it from a checkout"):
            next(figures)


# -- the report ------------------------------------------------------------------------------------


def test_the_report_as_text():
    report = {
        "versions": {
            "figures": {"GPU": "H200", "copy": {"GB/s": 4000.0}, "product of matrices": {"TFLOP/s": 50.0}},
            "seconds": 3.2,
        },
        "speed": {
            "figures": {
                "GELU": {"error": 1e-7, "limit": 1e-3, "ours ms": 0.5, "GB/s": 3000.0},
                "linear": {"error": float("nan"), "limit": 1e-3, "ours ms": 12345.6, "TFLOP/s": 25.0},
                "Adam": {"failed": "ValueError('x')"},
            },
            "seconds": 1.0,
        },
        "shakespeare": {"figures": {}, "skipped": "needs a text", "seconds": 0.0},
    }
    assert text(report).splitlines() == [
        "wrong or failed: 2",
        "  speed, linear: off by nan, 1e-03 allowed",
        "  speed, Adam: ValueError('x')",
        "",
        "== versions, 3 s",
        "GPU  H200",
        "                     GB/s  of copy  TFLOP/s  of product",
        "copy                 4000     100%",
        "product of matrices                      50        100%",
        "",
        "== speed, 1 s",
        "Adam  FAILED: ValueError('x')",
        "            error  ours ms  GB/s  of copy  TFLOP/s  of product",
        "GELU        1e-07      0.5  3000      75%",
        "linear  nan WRONG    12346                      25         50%",
        "",
        "== shakespeare, 0 s, skipped: needs a text",
    ]


def test_of_many_figures_the_least_good_are_shown():
    figures = {f"op {i}": {"error": i / 1000, "limit": 1.0} for i in range(40)}
    figures["op 3"] = {"failed": "no"}
    lines = text({"ops": {"figures": figures, "seconds": 0.0}}).splitlines()
    assert lines[4:6] == ["40 figures, of which the least good:", "op 3  FAILED: no"]
    assert [line.split()[1] for line in lines[7:]] == ["39", "38", "37", "36", "35", "34", "33"]

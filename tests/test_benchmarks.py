"""The benchmarks run, compare like with like, and say what is missing. How fast anything is, no test asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import gpt_small, ops, paired  # noqa: E402
from benchmarks.__main__ import table  # noqa: E402


def run(*arguments, **env):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)


def test_all_run_and_print_a_table(tmp_path):
    file = tmp_path / "figures.json"
    done = run("--rounds", "2", "--seconds", "0.001", "--peers", "--json", str(file))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "python -m benchmarks --rounds 2 --seconds 0.001 --peers --json" in lines[0]
    assert lines[0].startswith("20")  # the date
    assert "NumPy" in lines[1]
    assert [line.split()[1] for line in lines if line.startswith("==")] == ["ops", "import", "gpt-small"]
    assert sum(line.startswith(("multiply", "add", "matmul")) for line in lines) == 10
    facts = json.loads(file.read_text())
    assert list(facts["results"]) == ["ops", "import", "gpt-small"]
    for report in facts["results"].values():
        for comparison in report["comparisons"]:
            for spread in comparison["times"].values():
                assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert all(memory > 1e6 for memory in report["memory"].values())
    assert list(facts["results"]["ops"]["memory"]) == ["tinygen", "numpy"]


def test_a_wrong_name_is_named():
    done = run("opps")
    assert done.returncode == 2
    assert "no benchmark opps: there are ops, import, gpt-small" in done.stderr


# -- the protocol, on a workload made up here --------------------------------------------------------

WORKLOAD = """
import os, numpy as np
UNIT, SCALE, BESIDE, PEERS = "ms a step", 1e3, ("numpy",), ()
def build(side):
    print("noise on stdout")
    def step():
        if os.environ.get("DIES") == side:
            os._exit(7)
        return np.ones(3) * (2 if os.environ.get("CHEATS") == side else 1)
    if side == "missing":
        import no_such_package
    return {"a": step, "b": step}
"""


@pytest.fixture
def workload(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(WORKLOAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "made_up"
    sys.modules.pop("made_up", None)


def test_each_side_runs_in_a_process_of_its_own(workload):
    report = paired.measure(workload, ["numpy"], rounds=3, seconds=1e-4)
    assert [c.case for c in report.comparisons] == ["a", "b"]
    assert list(report.comparisons[0].times) == ["tinygen", "numpy"]
    assert list(report.comparisons[0].ratios) == ["numpy"]
    assert report.versions["numpy"] == np.__version__
    assert set(report.memory) == {"tinygen", "numpy"}
    assert report.missing == []


def test_a_missing_package_is_named_and_left_out(workload):
    report = paired.measure(workload, ["missing", "numpy"], rounds=1, seconds=1e-4)
    assert report.missing == ["no_such_package"]
    assert list(report.comparisons[0].times) == ["tinygen", "numpy"]
    assert table("made-up", report, "ratios").endswith("no_such_package is not installed, and was left out")


def test_different_results_are_not_the_same_work(workload, monkeypatch):
    monkeypatch.setenv("CHEATS", "numpy")
    with pytest.raises(RuntimeError, match=r"a: numpy computed 6\.0, tinygen 3\.0: not the same work"):
        paired.measure(workload, ["numpy"], rounds=1, seconds=1e-4)


def test_a_worker_that_dies_is_reported(workload, monkeypatch):
    monkeypatch.setenv("DIES", "numpy")
    with pytest.raises(RuntimeError, match="the worker of numpy ended with code 7"):
        paired.measure(workload, ["numpy"], rounds=1, seconds=1e-4)


def test_sides_take_turns_in_going_first():
    class Recorder:
        def __init__(self, side, took):
            self.side, self.took = side, took

        def run(self, case, count):
            calls.append((self.side, count))
            return self.took, 1.0

    calls = []
    workers = {"tinygen": Recorder("tinygen", 0.01), "numpy": Recorder("numpy", 0.002)}
    times = paired.alternate(workers, "a", rounds=3, seconds=0.1, scale=1e3)
    assert calls[:2] == [("tinygen", 2), ("numpy", 2)]  # the warm-up
    assert [side for side, _ in calls[2:]] == ["tinygen", "numpy", "numpy", "tinygen", "tinygen", "numpy"]
    assert {count for side, count in calls[2:] if side == "tinygen"} == {10}  # blocks of equal time
    assert {count for side, count in calls[2:] if side == "numpy"} == {50}
    assert times == {"tinygen": [10.0] * 3, "numpy": [2.0] * 3}


def test_the_median_of_ratios_is_not_the_ratio_of_medians():
    times = {"tinygen": [1.0, 4.0, 9.0], "torch": [1.0, 2.0, 90.0]}
    comparison = paired.Comparison.of("a", times)
    assert comparison.ratios["torch"] == paired.Spread(1.0, 0.55, 1.5)
    assert comparison.differences["torch"] == paired.Spread(0.0, -40.5, 1.0)
    assert comparison.times["torch"].median == 2.0


# -- the workloads do the same work on each side -----------------------------------------------------


@pytest.mark.parametrize("case", ops.build("numpy"))
def test_the_numpy_floor_computes_the_gradient(case):
    np.testing.assert_allclose(
        ops.build("tinygen")[case](), ops.build("numpy")[case](), rtol=2e-3, atol=1e-3 * ops.LENGTH**0.5
    )


def test_the_small_gpt_learns_its_batches():
    step = gpt_small.tinygen_step()
    losses = [float(step()) for _ in range(24)]
    assert abs(losses[0] - np.log(gpt_small.VOCAB)) < 0.1
    assert np.mean(losses[16:]) < np.mean(losses[:8]) - 0.01


def test_the_peer_is_the_same_gpt(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gpt_small, "THREADS", 1)
    small = gpt_small.weights
    monkeypatch.setattr(gpt_small, "weights", lambda shapes: {k: 5 * w for k, w in small(shapes).items()})
    ours, peer = gpt_small.tinygen_step(), gpt_small.torch_step()
    np.testing.assert_allclose(
        [float(ours()) for _ in range(3)], [float(peer()) for _ in range(3)], rtol=1e-5
    )

"""The benchmarks run, compare equal work, and name missing libraries. No test measures speed."""

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import tinygen

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    gan,
    gemm,
    generate,
    gpt,
    gpt2,
    kernels,
    llama,
    llama_generate,
    lstm,
    ops,
    paired,
    parallel,
    scaling,
    sd_folder,
    sd_picture,
    sd_unet,
    surroundings,
    translation,
    unet,
    vae,
)
from benchmarks.tables import END, START, document, report_of, rows, text  # noqa: E402
from benchmarks.worker import choose_package, fingerprint  # noqa: E402


def run(*arguments, **env):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)


def test_they_run_and_print_a_table(tmp_path):
    file = tmp_path / "figures.json"
    names = ["ops", "import", "gpt-small"]
    done = run(
        *names, *("--rounds", "1", "--seconds", "0.001", "--peers", "--modes", "numpy", "--json", str(file))
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "python -m benchmarks ops import gpt-small --rounds 1 --seconds 0.001 --peers --modes" in lines[0]
    assert lines[0].startswith("20")  # the date
    assert "NumPy" in lines[1]
    assert [line.split()[1] for line in lines if line.startswith("==")] == names
    assert sum(line.startswith(("multiply", "add", "matmul")) for line in lines) == 10
    facts = json.loads(file.read_text())
    assert list(facts["results"]) == names
    for report in facts["results"].values():
        for comparison in report["comparisons"]:
            for spread in comparison["times"].values():
                assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert all(memory > 1e6 for memory in report["memory"].values())
    assert list(facts["results"]["ops"]["memory"]) == ["tinygen", "numpy", "tinygen-numpy"]
    small = facts["results"]["gpt-small"]
    assert list(small["versions"]) == ["tinygen", "tinygen-numpy"]
    assert small["items"] == "tokens"
    [comparison] = small["comparisons"]
    for rate, took in zip(comparison["rates"].values(), comparison["times"].values(), strict=True):
        assert rate["median"] * took["median"] / 1e3 == pytest.approx(12 * 64)
    assert all(0 < part["median"] < 1.5 for part in comparison["of_peak"].values())
    assert small["gemm"]["median"] > 1e9


def test_a_wrong_name_is_named():
    done = run("opps")
    assert done.returncode == 2
    assert "no benchmark opps: there are ops, import, gemm, gpt-small" in done.stderr
    done = run("ops", "--peers", "torch,jacks")
    assert done.returncode == 2
    assert "there is no jacks: choose from torch,torch-compile," in done.stderr


# -- what surrounds a measurement -------------------------------------------------------------------

WIDEST = {name for name in ("AVX2", "AVX512F") if np._core._multiarray_umath.__cpu_features__.get(name)}


@pytest.mark.skipif("AVX2" not in WIDEST, reason="this processor has no AVX2")
@pytest.mark.parametrize(
    ("package", "expected"),
    [("numpy", "X86_V3"), ("numba", "Numba with vectors of 8 floats"), ("torch", "oneDNN Intel AVX2")],
)
def test_all_sides_are_limited_to_avx2(package, expected, monkeypatch):
    pytest.importorskip(package)
    package = "tinygen" if package == "numba" else package
    for name in surroundings.OWN_CHOICES:
        monkeypatch.setenv(name, "Haswell" if name == "OPENBLAS_CORETYPE" else "512")
    surroundings.set_up(None)
    assert not set(surroundings.OWN_CHOICES) & os.environ.keys()
    assert surroundings.is_wide(surroundings.what_runs(package)) == ("AVX512F" in WIDEST)
    for name, value in surroundings.limits("avx2").items():
        monkeypatch.setenv(name, value)
    told = surroundings.what_runs(package)
    assert expected in told
    assert not surroundings.is_wide(told)


def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(np._core._multiarray_umath.__cpu_features__, "AVX2", False)
    with pytest.raises(RuntimeError, match="this processor has no AVX2"):
        surroundings.limits("avx2")


def test_a_wrong_number_of_busy_processes_is_named():
    done = run("ops", "--busy", "-1")
    assert done.returncode == 2
    assert "--busy -1: a number of processes, 0 or more" in done.stderr


ORPHANS = """
import os, sys
from benchmarks import surroundings
started = []
popen = surroundings.subprocess.Popen
surroundings.subprocess.Popen = lambda command: started.append(popen(command)) or started[-1]
with surroundings.load(2):
    assert all(process.poll() is None for process in started)
    print(*(process.pid for process in started), flush=True)
    if sys.argv[1] == "dies":
        os._exit(1)
assert [process.returncode for process in started] == [-9, -9]
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="it looks into /proc")
@pytest.mark.parametrize("ending", ["ends", "dies"])
def test_busy_processes_end_surely(ending):
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS, ending], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == (ending == "dies"), done.stderr
    pids = done.stdout.split()
    assert len(pids) == 2
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"{pids} still run")


def test_each_kernel_has_a_case_and_all_sides_do_the_same_work():
    """The smallest cases of each layer; the benchmark itself compares the others."""
    smallest = {}
    for case in kernels.cases():
        work = sum(map(math.prod, case.shapes))
        smallest[case.layer] = min(smallest.get(case.layer, (math.inf, "")), (work, case.name))
    sides = {"tinygen": kernels.build("tinygen")}
    if importlib.util.find_spec("torch"):
        sides["torch"] = kernels.build("torch")
    with tinygen.kernels("off"):
        for _, name in smallest.values():
            for way in ("forward", "backward"):
                case = f"{name}: {way}"
                found = {side: fingerprint(steps[case]()) for side, steps in sides.items()}
                paired.check_same_work(case, found)
                assert all(length > 0 for length, _ in found["tinygen"]), case


def test_a_kernel_without_a_case_is_an_error():
    found = [case for case in kernels.cases() if case.layer != "gelu"]
    with pytest.raises(RuntimeError, match=r"no case for gelu: add one"):
        kernels.require_all(found)


def test_a_compact_table_has_the_ratios_the_means_and_the_worst():
    times = {"tinygen": [2.0], "tinygen-off": [4.0], "tinygen-numpy": [1.0], "torch": [2.0]}
    others = {"tinygen": [1.0], "tinygen-off": [1.0], "tinygen-numpy": [4.0], "torch": [8.0]}
    found = [
        paired.Comparison.from_times("relu: 3×2: forward", times),
        paired.Comparison.from_times("b: 1: backward", others),
    ]
    report = paired.Report("ms", found, {}, dict.fromkeys(times, "1.0"), [], compact=True)
    header, first, second, *means = text("kernels", report).splitlines()[1:]
    assert header.split("  ")[-1].strip() == "floor / torch"
    assert first.split() == ["relu", "3×2:", "forward", "2.000", "0.50", "2.00", "1.00", "0.50"]
    assert second.split() == ["b", "1:", "backward", "1.000", "1.00", "0.25", "0.12", "0.50"]
    assert means == [
        "/ definition: geometric mean 0.71, worst 1.00 (b: 1: backward)",
        "/ floor: geometric mean 0.71, worst 2.00 (relu: 3×2: forward)",
        "/ torch: geometric mean 0.35, worst 1.00 (relu: 3×2: forward)",
        "floor / torch: geometric mean 0.50, worst 0.50 (relu: 3×2: forward)",
        "/ the faster of the two: geometric mean 1.41, worst 2.00 (relu: 3×2: forward)",
    ]
    assert report_of(asdict(report)) == report


# -- the protocol, on a workload made up here --------------------------------------------------------

WORKLOAD = """
import os, numpy as np
UNIT, SCALE, BESIDE, PEERS = "ms a step", 1e3, ("numpy",), ()
ITEMS = ("apples", 7)
FLOPS = {"a": 1e3}
def build(side):
    print("noise on stdout")
    y, count = np.arange(1.0, 4.0), 0
    def step():
        nonlocal count
        count += 1
        if os.environ.get("DIES") == side:
            os._exit(7)
        return (count if os.environ.get("DEPARTS") == side else 1) * y, np.ones((2, 2))
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
    assert list(report.comparisons[0].ratios) == ["tinygen / numpy"]
    assert list(report.comparisons[0].of_peak) == ["tinygen", "numpy"]
    assert report.comparisons[1].of_peak == {}  # of b no operations are known
    assert report.gemm.median > 0
    assert report.items == "apples"
    assert report.versions["numpy"] == np.__version__
    assert set(report.memory) == {"tinygen", "numpy"}
    assert report.missing == []


def test_only_the_cases_that_are_asked_for_run(workload):
    report = paired.measure(workload, ["numpy"], rounds=1, seconds=1e-4, only="b")
    assert [c.case for c in report.comparisons] == ["b"]


def test_a_missing_package_is_named_and_left_out(workload):
    report = paired.measure(workload, ["missing", "numpy"], rounds=1, seconds=1e-4)
    assert report.missing == ["no_such_package"]
    assert list(report.comparisons[0].times) == ["tinygen", "numpy"]
    assert text("made-up", report).endswith("no_such_package is not installed, and was left out")


def test_tinygen_with_fewer_kernels_is_a_side_of_its_own(workload):
    report = paired.measure(workload, ["numpy", "tinygen-numpy"], rounds=1, seconds=1e-4)
    pairs = ["tinygen / numpy", "tinygen / tinygen-numpy", "tinygen-numpy / numpy"]
    assert list(report.comparisons[0].ratios) == pairs
    header, first, *_ = text("made-up", report).splitlines()[1:]
    assert "tinygen / it" in header
    assert "tinygen-numpy / it" in header
    assert first.split()[:2] == ["a", "tinygen"]


Y, ONES = np.arange(1.0, 4.0), np.ones((2, 2))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((2 * Y, ONES), r"a: array 0 of torch has length 7.* the one of tinygen 3.*: not the same work"),
        ((-Y, ONES), "not the same work"),
        ((Y[::-1], ONES), "not the same work"),
        ((Y * np.nan, ONES), "not the same work"),
        ((Y, 0 * ONES), "a: array 1 of torch has length 0"),
        (Y, "a: torch returns 1 arrays, tinygen 2"),
        ((Y * (1 + 2e-3), ONES), "not the same work"),
        ((Y * (1 + 1e-5), ONES), None),  # rounding
    ],
)
def test_a_side_that_computes_something_else_is_refused(found, said):
    results = {"tinygen": fingerprint((Y, ONES)), "torch": fingerprint(found)}
    with pytest.raises(RuntimeError, match=said) if said else nullcontext():
        paired.check_same_work("a", results)


@pytest.mark.parametrize("side", ["numpy", "tinygen"])
def test_a_side_that_departs_after_its_first_step_is_refused(workload, monkeypatch, side):
    monkeypatch.setenv("DEPARTS", side)
    with pytest.raises(RuntimeError, match="a: array 0 of numpy has length"):
        paired.measure(workload, ["numpy"], rounds=1, seconds=1e-4)


def test_the_modes_are_set_in_the_worker():
    before = tinygen.kernels.mode
    try:
        assert choose_package("tinygen-off") == ("tinygen", "off")
        assert tinygen.kernels.mode == "off"
    finally:
        tinygen.kernels(before)
    assert choose_package("tinygen") == ("tinygen", "")
    assert choose_package("torch-compile") == ("torch", "")
    with pytest.raises(ValueError, match="'fast'"):
        choose_package("tinygen-fast")


def test_a_worker_that_dies_is_reported(workload, monkeypatch):
    monkeypatch.setenv("DIES", "numpy")
    with pytest.raises(RuntimeError, match="the worker of numpy ended with code 7"):
        paired.measure(workload, ["numpy"], rounds=1, seconds=1e-4)


def test_sides_take_turns_in_going_first():
    class Recorder:
        def __init__(self, side, took):
            self.side, self.took, self.result = side, took, fingerprint(1.0)

        def run(self, case, count, warm=True, compare=False):
            calls.append((self.side, count, warm))
            return self.took

    calls = []
    workers = {"tinygen": Recorder("tinygen", 0.01), "numpy": Recorder("numpy", 0.5)}
    times, peaks = paired.alternate(workers, "a", 3, 0.1, Recorder("gemm", 0.01))
    assert calls[:2] == [("tinygen", 2, True), ("numpy", 2, True)]  # the warm-up
    assert calls[2:4] == [("tinygen", 1, False), ("numpy", 1, False)]  # how many make a block
    turns = ["tinygen", "numpy", "gemm", "numpy", "tinygen", "gemm", "tinygen", "numpy", "gemm"]
    assert [side for side, _, _ in calls[4:]] == turns
    assert {call for call in calls[4:] if call[0] != "gemm"} == {
        ("tinygen", 10, True),  # as many as fit
        ("numpy", 1, False),  # one that takes longer is not run before it is timed
    }
    assert times == {"tinygen": [0.01] * 3, "numpy": [0.5] * 3}
    assert peaks == [paired.GEMM_FLOPS / 0.01] * 3


def test_the_median_of_ratios_is_not_the_ratio_of_medians():
    times = {"tinygen": [1.0, 4.0, 9.0], "torch": [1.0, 2.0, 90.0]}
    comparison = paired.Comparison.from_times("a", times)
    assert comparison.ratios["tinygen / torch"] == paired.Spread(1.0, 0.55, 1.5)
    assert comparison.differences["tinygen − torch"] == paired.Spread(0.0, -40.5, 1.0)
    assert comparison.times["torch"].median == 2.0


# -- tables ------------------------------------------------------------------------------------------


@pytest.fixture
def report():
    """Of two cases, and three sides of which one is tinygen with other kernels."""
    times = {"tinygen": [1.0, 2.0, 3.0], "torch": [2.0, 4.0, 6.0], "tinygen-numpy": [3.0, 6.0, 9.0]}
    first, second = (paired.Comparison.from_times(case, times) for case in ("small", "large"))
    first.rates = {side: paired.Spread.from_values([10.0]) for side in times}
    second.of_peak = {side: paired.Spread.from_values([0.5]) for side in times}
    memory = {"tinygen": 10**8, "torch": 3 * 10**8, "tinygen-numpy": 5 * 10**7}
    versions = {"tinygen": "1", "torch": "2", "tinygen-numpy": "1"}
    return paired.Report(
        *("ms", [first, second], memory, versions, ["jax"], "apples", paired.Spread.from_values([2e11]))
    )


def test_rows(report):
    title, *found = rows(report)
    assert title == [
        "",
        "",
        "ms",
        "tinygen / it",
        "tinygen-numpy / it",
        "apples a second",
        "of GEMM",
        "peak MB",
    ]
    assert found[:3] == [
        ["small", "tinygen", "2.00", "", "", "10", "", ""],
        ["", "torch", "4.00", "0.50 (0.50 to 0.50)", "1.50 (1.50 to 1.50)", "10", "", ""],
        ["", "tinygen-numpy", "6.00", "0.33 (0.33 to 0.33)", "", "10", "", ""],
    ]
    assert found[4] == [
        "",
        "torch",
        "4.00",
        *["0.50 (0.50 to 0.50)", "1.50 (1.50 to 1.50)"],
        "",
        "50%",
        "300",
    ]
    assert text("fruit", report).splitlines()[-2:] == [
        "GEMM, 1024 × 1024 by 1024 × 1024 in NumPy: 200 GFLOP/s",
        "jax is not installed, and was left out",
    ]
    report.shown = "differences"
    assert rows(report)[2][3] == "-2.00 (-2.50 to -1.50)"


def test_tables_of_a_file_go_into_a_page(report, tmp_path):
    facts = {"date": "2026-01-01", "command": "python -m benchmarks", "machine": "a machine", "threads": 2}
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({**facts, "results": {"fruit": asdict(report)}}))
    assert report_of(json.loads(file.read_text())["results"]["fruit"]) == report
    lines = document([file]).splitlines()
    assert lines[2] == "| fruit | small | 2.00 ms | 0.50 |  |  | 1.50 |  |  |"
    assert lines[3] == "| fruit | large | 2.00 ms | 0.50 |  |  | 1.50 | 100 | 300 |"
    assert "2026-01-01, a machine, 2 threads a side." in lines
    assert "### fruit" in lines
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    command = [sys.executable, "-m", "benchmarks.tables", str(file), "--into", str(page)]
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, check=True)
        assert page.read_text() == f"before\n{START}\n\n{document([file])}\n\n{END}\nafter\n"
    page.write_text("no place\n")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "for the tables to stand between" in done.stderr
    assert page.read_text() == "no place\n"


# -- the workloads do the same work on each side -----------------------------------------------------


@pytest.mark.parametrize("case", ops.build("numpy"))
def test_the_numpy_floor_computes_the_gradient(case):
    np.testing.assert_allclose(
        ops.build("tinygen")[case](), ops.build("numpy")[case](), rtol=2e-3, atol=1e-3 * ops.LENGTH**0.5
    )


TINY = gpt.Size(layers=2, heads=2, width=16, context=8, batch=3, vocab=11)


def losses(step, count=3):
    return [float(step()) for _ in range(count)]


def test_the_gpt_learns_its_batches():
    found = losses(gpt.tinygen_step(TINY), 48)
    assert abs(found[0] - np.log(TINY.vocab)) < 0.1
    assert np.mean(found[40:]) < np.mean(found[:8]) - 0.01


@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_the_peers_are_the_same_gpt(monkeypatch, peer):
    pytest.importorskip(peer)
    monkeypatch.setattr(paired, "THREADS", 1)
    small = gpt.weights
    larger = lambda shapes: ((k, 5 * w) for k, w in small(shapes))
    for module in (importlib.import_module(f"benchmarks.gpt_{peer}"), gpt):
        monkeypatch.setattr(module, "weights", larger)
    [ours], [theirs] = gpt.build("tinygen", TINY).values(), gpt.build(peer, TINY).values()
    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-5)


def test_the_operations_of_a_gpt_are_those_that_the_model_counts():
    model = gpt.tinygen_model(TINY)
    assert TINY.flops == TINY.tokens * model.flops_per_token()


@pytest.mark.parametrize("peer", ["torch", "jax", "autograd"])
def test_the_peers_are_the_same_vae(peer):
    pytest.importorskip(peer)
    [ours], [theirs] = vae.build("tinygen").values(), vae.build(peer).values()
    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-5)


def test_the_peer_is_the_same_lstm(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(lstm, "STEPS", 8)
    monkeypatch.setattr(lstm, "BATCH", 4)
    ours, theirs = lstm.build("tinygen"), lstm.build("torch")
    for case in lstm.FLOPS:
        found = losses(ours[case], 9)
        np.testing.assert_allclose(found[:3], losses(theirs[case]), rtol=1e-5)
        assert found[8] < 0.99 * found[0]  # the first batch again


def test_the_peer_is_the_same_transformer(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import translation_torch

    small = {"LAYERS": 2, "HEADS": 2, "WIDTH": 8, "LENGTH": 6, "BATCH": 3, "VOCAB": 11, "THREADS": 1}
    for module in (translation, translation_torch):
        for name in vars(module).keys() & small.keys():
            monkeypatch.setattr(module, name, small[name])
    assert any((source == 0).any() for source, _ in translation.batches())
    [ours], [theirs] = translation.build("tinygen").values(), translation.build("torch").values()
    found = losses(ours, 9)
    np.testing.assert_allclose(found, losses(theirs, 9), rtol=1e-5)
    assert found[8] < 0.99 * found[0]  # the first batch again


def test_the_peers_are_the_same_unet(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import unet_torch

    small = {"CHANNELS": 8, "EMBEDDING": 32, "GROUPS": 4, "BATCH": 3, "SIZES": (8, 4), "THREADS": 1}
    for module in (unet, unet_torch):
        for name in vars(module).keys() & small.keys():
            monkeypatch.setattr(module, name, small[name])
    *training, ddim = unet.build("tinygen").values()
    expected = [losses(step, 5) for step in training]
    for side in ("torch", "torch-nhwc"):
        *theirs, their_ddim = unet.build(side).values()
        np.testing.assert_allclose([losses(step, 5) for step in theirs], expected, rtol=1e-5)
        np.testing.assert_allclose(their_ddim().numpy(), ddim(), rtol=1e-4, atol=1e-5)


def test_the_peer_is_the_same_gan(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import gan_torch

    small = {"CHANNELS": 4, "WIDTH": 8, "BATCH": 3, "THREADS": 1}
    for module in (gan, gan_torch):
        for name in vars(module).keys() & small.keys():
            monkeypatch.setattr(module, name, small[name])
    ours, theirs = gan.build("tinygen"), gan.build("torch")
    found = {case: losses(ours[case], 5) for case in gan.CASES}
    for case in gan.CASES:
        np.testing.assert_allclose(losses(theirs[case], 5), found[case], rtol=2e-5)
        assert found[case][4] < found[case][0]  # the first batch again
    assert found["discriminator with R1"][0] > found["discriminator"][0]


def test_a_generated_token_is_that_of_generate(monkeypatch):
    monkeypatch.setattr(generate, "SIZE", TINY._replace(batch=1, context=16))
    monkeypatch.setattr(generate, "POSITIONS", 9)
    monkeypatch.setattr(generate, "TOP_K", 3)
    tokens = [token for _, (_, token) in zip(range(9), generate.text(), strict=False)]
    model = gpt.tinygen_model(generate.SIZE, gelu="tanh")
    logits = model(np.concatenate(tokens, axis=1))[0].numpy()[0]  # (9, V)
    step = generate.tinygen_step()
    for expected in [*logits, *logits[:2]]:  # and over again
        np.testing.assert_allclose(step()[0], expected, rtol=1e-4, atol=1e-6)
    pytest.importorskip("torch")
    step = generate.build("torch")[generate.CASE]
    for expected in [*logits, *logits[:2]]:
        np.testing.assert_allclose(step()[0], expected, rtol=1e-4, atol=1e-6)


def test_a_token_reads_all_matrices_but_the_positions():
    model = gpt.tinygen_model(TINY)
    entries = sum(w.size for w in model.parameters() if w.ndim == 2) - TINY.context * TINY.width
    assert generate.bytes_read(TINY) == 4 * entries


def test_both_write_the_same_from_gpt2s_folder(monkeypatch):
    monkeypatch.setattr(gpt2, "SIZE", TINY._replace(batch=1, context=16))
    monkeypatch.setattr(gpt2, "PROMPT", 4)
    monkeypatch.setattr(gpt2, "TOKENS", 9)
    [(case, step)] = gpt2.build("tinygen").items()
    assert case.endswith(", 9 tokens after 4")
    found = step()
    assert found.shape == (1, 13)
    np.testing.assert_array_equal(step(), found)
    pytest.importorskip("transformers")
    [step] = gpt2.build("transformers").values()
    np.testing.assert_array_equal(step(), found)


@pytest.fixture
def small_llama(monkeypatch):
    size = llama.Size(layers=2, heads=4, kv_heads=2, width=16, hidden=24, context=20, vocab=30)
    monkeypatch.setattr(llama, "SIZE", size)
    monkeypatch.setattr(llama, "PROMPT", 4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_both_write_the_same_from_a_llamas_folder(small_llama, monkeypatch, dtype):
    """tinygen keeps the weights in float16, where the file has them so. The folder is written here."""
    monkeypatch.setattr(llama.subprocess, "run", lambda words, **_: llama.write(*words[3:5], llama.SIZE))
    [(case, step)] = llama.build_writer("tinygen", 9, dtype).items()
    assert case.endswith(f", 9 tokens after 4, from {dtype}")
    found = step()
    assert found.shape == (1, 13)
    exact, rounded = llama.read("tinygen"), llama.read("tinygen", "float16")
    for p, q in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert q.dtype == np.float16
        np.testing.assert_array_equal(p.data.astype(np.float16), q.data)
    pytest.importorskip("transformers")
    [step] = llama.build_writer("transformers", 9, dtype).values()
    np.testing.assert_array_equal(step(), found)


def test_both_train_a_llama_alike(small_llama):
    [(case, step)] = llama.build("tinygen").items()
    assert case == "2 layers, width 16, 20 tokens"
    losses = [float(step()) for _ in range(10)]  # more than there are pieces of text
    assert losses[8] < losses[0] == pytest.approx(math.log(30), abs=0.2)
    pytest.importorskip("transformers")
    [step] = llama.build("transformers").values()
    assert [float(step()) for _ in range(10)] == pytest.approx(losses, rel=1e-5)


def test_the_llama_has_124_million_weights():
    size = llama.SIZE
    group = size.width // size.heads * size.kv_heads
    block = size.width * (2 * size.width + 2 * group + 3 * size.hidden + 2)
    assert round(1e-6 * (size.layers * block + size.vocab * size.width)) == 124
    assert llama_generate.ITEMS == ("tokens", 1e3 / llama_generate.SCALE)


NARROW = {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 16, "sample_size": 8}


@pytest.fixture
def small_sd(monkeypatch):
    """Stable Diffusion of small widths; its folder is written in this process."""
    monkeypatch.setattr(sd_folder, "UNET", sd_folder.UNET | NARROW)
    monkeypatch.setattr(sd_folder, "SMALL", sd_folder.UNET | NARROW)
    monkeypatch.setattr(sd_folder, "CODER", sd_folder.CODER | {"block_out_channels": [32] * 4})
    monkeypatch.setattr(sd_folder, "TEXT", sd_folder.TEXT | {"hidden_size": 16})
    monkeypatch.setattr(sd_unet, "SIDE", 16)
    write = {"unet": lambda place: sd_folder.write_part(place, sd_folder.UNET)}
    write |= {"pipeline": sd_folder.write_pipeline}
    monkeypatch.setattr(sd_folder, "write_elsewhere", lambda folder, what: write[what](Path(folder)))
    monkeypatch.setattr(sd_picture, "STEPS", 2)


def test_both_call_the_same_unet(small_sd, monkeypatch, tmp_path):
    sd_folder.write_elsewhere(tmp_path, "unet")
    monkeypatch.setenv(sd_unet.FOLDER, str(tmp_path))
    ours = sd_unet.build("tinygen")
    assert list(ours) == ["batch 1, 16×16", "batch 2, 16×16"]
    found = [step() for step in ours.values()]
    assert [out.shape for out in found] == [(1, 4, 16, 16), (2, 4, 16, 16)]
    assert min(out.std() for out in found) > 0.01
    pytest.importorskip("diffusers")
    for step, out in zip(sd_unet.build("diffusers").values(), found, strict=True):
        np.testing.assert_allclose(step(), out, atol=1e-4 * np.abs(out).max())


def test_both_draw_the_same_picture(small_sd):
    [(case, step)] = sd_picture.build("tinygen").items()
    assert case == "2 steps, 64×64"
    found = step()
    assert found.shape == (1, 3, 64, 64)
    assert found.std() > 0.01
    pytest.importorskip("diffusers")
    [step] = sd_picture.build("diffusers").values()
    np.testing.assert_allclose(step(), found, atol=1e-3)


def test_the_unet_is_measured_one_side_after_the_other(small_sd, monkeypatch):
    """The first ends before the second begins; both work for each round."""
    running, calls = [], []

    class Side:
        cases, memory, version, result = ["a", "b"], 7, "1", [[1.0, 2.0]]

        def __init__(self, workload, side):
            if side == "none":
                raise paired.Missing(side)
            assert (Path(os.environ[sd_unet.FOLDER]) / "config.json").exists()
            assert running == []
            running.append(side)
            self.side = side

        def run(self, case, count, warm=True, compare=False):
            calls.append((self.side, case, compare))
            return 2.0 if self.side == "tinygen" else 4.0

        def close(self):
            running.remove(self.side)

    monkeypatch.setattr(sd_unet, "Worker", Side)
    report = sd_unet.measure("benchmarks.sd_unet", ["diffusers", "none"], 2, 0.3, "a")
    assert report.missing == ["none"]
    assert [c.ratios["tinygen / diffusers"].median for c in report.comparisons] == [0.5]
    assert [call for call in calls if call[0] == "tinygen"] == [("tinygen", "a", k == 0) for k in range(3)]


def test_products_are_the_same_on_all_sides():
    assert len(set(gemm.SHAPES)) == len(gemm.SHAPES) == 40
    assert paired.GEMM[2] in gemm.build("numpy")
    for shape in ((77, 768, 30), (17, 409, 17)):
        expected = gemm.product("numpy", *shape)()
        np.testing.assert_allclose(gemm.product("tinygen", *shape)(), expected, rtol=1e-3, atol=1e-4)


def test_slopes_are_powers():
    times = {"tinygen": {case: [0.0] for case in scaling.sizes()}}
    for axis, power in zip(scaling.AXES, (2.0, 1.0, 1.5, 0.5), strict=True):
        for n in scaling.AXES[axis]:
            times["tinygen"][f"{axis} {n}"] = [3 * n**power, 5 * n**power]
    found = [scaling.compare_slopes(axis, times, rounds=2).times for axis in scaling.AXES]
    assert [c["tinygen"].median for c in found] == pytest.approx([2.0, 1.0, 1.5, 0.5])
    width, layers, context, batch = (c["FLOPs"].median for c in found)
    assert 1.8 < width < 2  # its square in the layers, but not in the logits and attention
    assert 0.9 < layers < 1
    assert 1 < context < 1.5
    assert batch == pytest.approx(1)


# -- several processes ------------------------------------------------------------------------------


def test_one_process_trains_alone():
    size = gpt.Size(1, 1, 8, 5, 3)
    ours, beside = parallel.steps(size, None)["alone"], gpt.tinygen_step(size)
    assert [ours() for _ in range(3)] == [beside() for _ in range(3)]


@pytest.mark.slow
def test_two_processes_reach_the_same_loss():
    """`alternate_ways` compares the losses, and refuses others."""
    pytest.importorskip("mpi4py")
    found = parallel.measure("benchmarks.parallel", (), 1, 0.001, "4 layers")
    sums, steps = found.comparisons
    assert list(sums.times) == [f"a sum of {name}" for name in parallel.SUMS]
    ways = [
        "tinygen",
        "1 process, 1 thread",
        *(f"2 processes, buckets of {name}" for name in parallel.BUCKETS),
    ]
    assert list(steps.times)[: len(ways)] == ways
    assert found.memory["tinygen"] < found.memory["2 processes, buckets of 1 MB"]


def test_without_mpi_it_is_named(monkeypatch):
    monkeypatch.setattr(parallel, "mpiexec", lambda: None)
    report = parallel.measure("benchmarks.parallel", (), 1, 0.001)
    assert report.missing == ["mpi4py with mpich"]
    assert "mpi4py with mpich" in text("parallel", report)

"""The tables of docs/parallel.md are those of the model, and what its text says of them is true."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from in_threads import Communicator, run_processes
from pages.page import load

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import plan  # noqa: E402

PAGE = (ROOT / "docs" / "parallel.md").read_text("utf-8")


def test_the_tables_of_the_page_are_of_today():
    assert plan.written(PAGE) == PAGE


def test_the_table_of_the_ring():
    """What is bold has just come: the code of the page receives it, if names are its numbers."""

    class Recorder(Communicator):
        def sendrecv(self, x, dest, source):
            came[self.rank].append((x := super().sendrecv(x, dest, source)).item())
            return x

    came = {p: [] for p in range(3)}
    names = [np.array([f"{chunk}{p}" for chunk in "abc"], object) for p in range(3)]
    sums = run_processes(3, lambda comm: load("all_reduce").ring_all_reduce(names[comm.rank], comm), Recorder)
    assert {"".join(sorted(x)) for x in sums[0]} == {"012aaa", "012bbb", "012ccc"}
    for step in range(1, 5):
        [row] = re.findall(rf"\| after step {step} \| (.*) \|\n", PAGE)
        for p, cell in enumerate(row.split(" | ")):
            [bold] = re.findall(r"\*\*(.)(.*?)\*\*", cell)
            parts = {f"{bold[0]}{'₀₁₂'.index(digit)}" for digit in bold[1]}
            got = came[p][step - 1]
            assert {got[i : i + 2] for i in range(0, len(got), 2)} == parts - (
                {f"{bold[0]}{p}"} if step < 3 else set()
            )


def test_a_page_without_a_place_for_a_table():
    with pytest.raises(SystemExit, match="no place for this table: put <!-- plan here: start --> and"):
        plan.written("text")


def test_latency_and_bandwidth_are_found():
    """From times that are exactly 2 α + β n."""
    n = np.array([8, 1 << 16, 1 << 20, 1 << 26])
    found = plan.fitted(dict(zip(n, 1e3 * (2 * 3e-5 + n / 4e9), strict=True)))
    assert found.alpha == pytest.approx(3e-5, rel=1e-9)
    assert found.beta == pytest.approx(1 / 4e9, rel=1e-9)


def test_what_the_page_says_of_gpt2():
    """How much of their time 64 machines lose; and 1,024, which have one sequence each."""

    def lost(flops, network, machines):
        step = plan.gpt2_step(max(1, 480 / machines), flops)
        K = step.best_buckets(machines, network)
        return round(100 * (1 - step.efficiency(machines, network, K)))

    assert lost(plan.TWO_CORES, plan.ETHERNET_1, 64) == 0
    assert lost(plan.A100, plan.ETHERNET_10, 64) == 92
    assert lost(plan.A100, plan.INFINIBAND_GPU, 64) == 2
    assert lost(plan.A100, plan.INFINIBAND_GPU, 1024) == 81


def test_what_the_page_says_of_gpt3():
    assert math.ceil(16 * plan.GPT3.parameters / plan.MEMORY) == 35
    plans = plan.PLANS
    fits = {name: p.bytes <= plan.MEMORY for name, p in plans.items()}
    assert [name for name in fits if not fits[name]] == ["data alone", "tensor", "tensor, ZeRO 1"]
    whole = plans["tensor, pipeline"]
    assert whole.t * whole.p * whole.d == 1024
    assert round(plan.KERNELS * whole.computing / whole.seconds / 1e12) == 154
    assert plans["ZeRO 3, 2 sequences each"].data / plans[
        "ZeRO 3, 2 sequences each"
    ].seconds == pytest.approx(1 / 3, abs=0.02)
    assert plan.Plan(1, 1, 1024, 3, 3 * 1024).data == 0
    days = plan.Plan(1, 1, 64, 3).computing * 300e9 / (1536 * 2048) / 86400
    assert 366 < days < 450


@pytest.mark.parametrize(
    ("seconds", "text"), [(85.83, "85.8 s"), (0.0363, "36.3 ms"), (2.5e-5, "25 µs"), (1, "1 s")]
)
def test_durations(seconds, text):
    assert plan.duration(seconds) == text

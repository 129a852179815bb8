"""The examples in several processes: found by being started so, equal to one process, and resumed with any
number of processes after one was killed."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi import mpi

for needed in ("mpi4py", "matplotlib", "tqdm"):
    pytest.importorskip(needed)
EXAMPLES = Path(__file__).parents[2] / "examples"
GPT_TEXT = EXAMPLES / "gpt_text.py"
GPT = ["--layers", 1, "--heads", 1, "--width", 8, "--block", 8, "--batch", 5, "--dropout", 0.2, "--sample", 1]
GPT += ["--eval-every", 3, "--eval-batches", 1, "--save-every", 2, "--steps", 9, "--seed", 3]

FAULT = """
import os, runpy, sys
sys.path.insert(0, {examples!r})
from shared.run import Run

log = Run.log

def with_fault(run, **row):
    if row.get("step") == 5 and run.comm.rank == 1:
        {fault}
    log(run, **row)

Run.log = with_fault
runpy.run_path({examples!r} + "/gpt_text.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(np.random.default_rng(0).choice([*"ab c"], 1500)))
    return path


def start(size, script, *words):
    if size > 1:
        return mpi(size, script, *words)
    command = [sys.executable, *map(str, (script, *words))]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def numbers(out):
    """The rows of metrics.csv."""
    with (out / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def require_same_run(out, expected):
    rows, others = numbers(out), numbers(expected)
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-3)


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    done = start(1, GPT_TEXT, "--out", out, "--data", text, *GPT)
    assert done.returncode == 0, done.stderr
    return out


def test_gpt_in_two_processes(text, alone, tmp_path):
    """5 rows: 3 and 2. One process prints and writes."""
    done = start(2, GPT_TEXT, "--out", tmp_path, "--data", text, *GPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("expectations met") == 1
    require_same_run(tmp_path, alone)


@pytest.mark.parametrize(
    ("fault", "told", "then", "saved"),
    [
        ("raise ZeroDivisionError('planted')", "in process 1 of 2", 1, {"24", "246"}),
        ("os.kill(os.getpid(), 9)", "", 4, {"24", "246"}),
        ("os.kill(os.getpid(), 15)", "stopped by SIGTERM at step 6", 2, {"246"}),
    ],
    ids=["an exception", "a kill", "a signal"],
)
def test_a_lost_process(text, alone, tmp_path, fault, told, then, saved):
    """All end; the last checkpoint is whole, and any number of processes goes on from it. After a signal to
    one process all stop after the same step, which is saved. When process 1 is lost in that step, process 0
    has its part of it, and may save it or not."""
    script = tmp_path / "faulty.py"
    script.write_text(FAULT.format(examples=str(EXAMPLES), fault=fault))
    out = tmp_path / "run"
    done = start(2, script, "--out", out, "--data", text, *GPT)
    assert done.returncode != 0
    assert told in done.stderr
    assert "".join(sorted(p.name[-1] for p in (out / "checkpoints").glob("*-step-*"))) in saved
    done = start(then, GPT_TEXT, "--out", out, "--data", text, *GPT, "--resume")
    assert done.returncode == 0, done.stderr
    require_same_run(out, alone)


def test_the_loops_of_eight_examples(tmp_path):
    """Two processes log the losses of one: each plays with its carts, draws its noise, has its pictures."""
    for size in (1, 2):
        done = start(size, Path(__file__).parent / "loops.py", tmp_path / str(size))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" s\n") == 8
    for out in sorted((tmp_path / "1").iterdir()):
        require_same_run(tmp_path / "2" / out.name, out)


def test_wrong_flags_are_told_once(tmp_path):
    done = start(2, GPT_TEXT, "--out", tmp_path, "--steps", "no")
    assert done.returncode != 0
    assert done.stderr.count("--steps") == 1


def test_an_example_that_trains_in_one_process_says_so(tmp_path):
    done = start(2, EXAMPLES / "pictures/gan_ring.py", "--out", tmp_path, "--quick")
    assert done.returncode != 0
    assert done.stderr.count("start it without mpiexec") == 1


def test_without_mpi4py_one_line_says_what_to_install(tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('planted')")
    env = {**os.environ, "PMI_SIZE": "2", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, str(EXAMPLES / "gpt_text.py"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert '2 processes need mpi4py: pip install "tinygen[mpi]"' in line

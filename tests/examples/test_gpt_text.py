"""The main job as a person runs it: in a process of its own, from its command line."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ["--layers", "1", "--width", "16", "--heads", "2", "--block", "16", "--batch", "4", "--sample", "30"]


def command(*flags, example="gpt_text.py"):
    return [sys.executable, str(EXAMPLES / example), *map(str, flags)]


def run(*flags, example="gpt_text.py"):
    return subprocess.run(
        command(*flags, example=example), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log\n" * 60)
    return path


def test_a_short_run(tmp_path, text):
    done = run(
        "--data", text, "--out", tmp_path / "out", "--steps", 80, "--eval-every", 40, "--lr", 0.01, *TINY
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["val_loss"] < result["ngram"]["1"]
    assert result["val_loss"] == result["val_loss_whole"]
    assert result["steps"] == 80
    assert len(result["sample"]) == 31
    assert set(result["ngram"]) == set("123456")
    for order, loss in result["ngram"].items():
        assert f"{order}-gram" in done.stdout
        assert f"{loss:.3f}" in done.stdout
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["val_loss"]] == [0, 40, 80]
    assert sum(bool(row["batch_loss"]) for row in rows) == 80
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "out" / "model.npz") as model:
        assert model["wte.weight"].shape == (len(set(text.read_text())), 16)


def test_the_same_seed_gives_the_same_run(tmp_path, text):
    results = []
    for name in ("a", "b"):
        run("--data", text, "--out", tmp_path / name, "--steps", 10, "--dropout", 0.1, *TINY)
        result = json.loads((tmp_path / name / "result.json").read_text())
        results.append((result["val_loss"], result["sample"]))
    assert results[0] == results[1]


def test_ctrl_c_stops_cleanly(tmp_path, text):
    flags = ["--data", text, "--out", tmp_path / "out", "--steps", 100_000, *TINY]
    process = subprocess.Popen(
        command(*flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's "&" has it ignored
    )
    metrics = tmp_path / "out" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text().count("\n") > 20):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)  # kernels may be compiled first
    assert process.returncode == 0, stderr
    assert "stopped" in stdout
    assert "Traceback" not in stderr
    assert 10 < json.loads((tmp_path / "out" / "result.json").read_text())["steps"] < 100_000
    assert (tmp_path / "out" / "loss.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "many"], "argument --steps: must be an int at least 1, not 'many'"),
        (["--lr", "-1"], "argument --lr: must be a float at least 0, not '-1'"),
        (["--dropout", "1"], "argument --dropout: must be a float from 0 to 0.99, not '1'"),
        (["--heads", "3"], "--heads 3 does not divide --width 128"),
        (["--preset", "huge"], "argument --preset: invalid choice"),
        (["--depth", "3"], "unrecognized arguments: --depth 3"),
        (["--data", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["--data", "EMPTY"], "is empty"),
        (["--data", "SHORT"], "has 50 characters; --block 128 needs"),
        (["--data", "BINARY"], "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    contents = {"EMPTY": b"", "SHORT": b"a" * 50, "BINARY": b"ab\xff\xfe"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    flags = [str(tmp_path / flag) if flag in contents else flag for flag in flags]
    done = run(*flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_shows_the_defaults():
    help_text = run("--help").stdout
    assert "nanogpt-cpu" in help_text
    assert "(default: 0.003)" in help_text


def test_flags_win_over_the_preset(tmp_path, text):
    done = run("--data", text, "--out", tmp_path, "--preset", "nanogpt-cpu", "--steps", 4, *TINY)
    assert done.returncode == 0, done.stderr
    flags = json.loads((tmp_path / "result.json").read_text())["flags"]
    assert (flags["steps"], flags["block"], flags["eval_batches"], flags["expected"]) == (4, 16, 20, 1.88)
    assert "published" in done.stdout


def test_sorting_is_learned_a_little(tmp_path):
    flags = ["--task", "sorting", "--steps", "100", "--width", "32", "--layers", "2", "--out", tmp_path]
    done = run(*flags, example="gpt_algorithms.py")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "sorting" / "result.json").read_text())
    assert result["final_loss"] < 1.0  # ln 3 = 1.099 is a guess
    assert result["test_inputs"] == 180

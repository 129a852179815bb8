"""gpt_text.py as a user runs it: in its own process, from the command line."""

import csv
import json
import re
import signal

import pytest
from example_runs import outcome, run, saved, stopped

from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLE, OTHER = "gpt_text.py", "gpt_algorithms.py"
TINY = ["--layers", "1", "--width", "16", "--heads", "2", "--block", "16", "--batch", "4", "--sample", "30"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log\n" * 60)
    return path


def test_a_short_run(tmp_path, text):
    flags = ["--data", text, "--out", tmp_path / "out", "--steps", 80, "--eval-every", 40, "--lr", 0.01]
    done = run(EXAMPLE, *flags, *TINY)
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
    model = load_file(tmp_path / "out" / "model.safetensors")
    assert model["wte.weight"].shape == (len(set(text.read_text())), 16)


def test_the_same_seed_gives_the_same_run(tmp_path, text):
    results = []
    for name in ("a", "b"):
        run(EXAMPLE, "--data", text, "--out", tmp_path / name, "--steps", 10, "--dropout", 0.1, *TINY)
        result = json.loads((tmp_path / name / "result.json").read_text())
        results.append((result["val_loss"], result["sample"]))
    assert results[0] == results[1]


# -- stopped and resumed ---------------------------------------------------------------------------


def test_ctrl_c_stops_cleanly(tmp_path, text):
    flags = ["--data", text, "--out", tmp_path / "out", "--steps", 100_000, *TINY]
    metrics = tmp_path / "out" / "metrics.csv"
    stdout, stderr, code = stopped(
        signal.SIGINT, lambda: metrics.exists() and metrics.read_text().count("\n") > 20, EXAMPLE, *flags
    )
    assert code == 130, stderr
    assert "Traceback" not in stdout + stderr
    step = Checkpoints(tmp_path / "out" / "checkpoints").load().step
    assert 10 < step < 100_000
    assert stderr.endswith(f"{EXAMPLE}: stopped at step {step}; --resume goes on from there\n")
    assert not (tmp_path / "out" / "result.json").exists()

    before = metrics.read_bytes()
    for more, message in (
        ([], f"the run in it is not finished: expected --resume, another --out, .* step {step} of 100000"),
        (["--resume", "--lr", "0.1"], "saved with another lr: expected 0.003, found 0.1"),
    ):
        done = run(EXAMPLE, *flags, *more)
        assert done.returncode == 2
        assert re.search(message, done.stderr), done.stderr
        assert done.stderr.count("\n") == 1
    assert metrics.read_bytes() == before


def test_stopped_killed_and_resumed_it_is_the_same_run(tmp_path, text):
    """Dropout is on, and evaluations draw their batches, so that there are generators to remember."""
    flags = ["--data", text, "--steps", 300, "--eval-every", 50, "--save-every", 10, *TINY]
    flags += ["--dropout", 0.2, "--eval-batches", 2, "--weight-decay", 0.3]
    checkpoints = Checkpoints(tmp_path / "parts" / "checkpoints")

    def at(step):
        return lambda: saved(tmp_path / "parts", step)

    parts = [*flags, "--out", tmp_path / "parts"]
    _, stderr, code = stopped(signal.SIGINT, at(20), EXAMPLE, *parts)
    assert code == 130, stderr
    _, _, code = stopped(signal.SIGKILL, at(checkpoints.load().step + 50), EXAMPLE, *parts, "--resume")
    assert code == -signal.SIGKILL
    step = checkpoints.load().step
    assert 70 <= step < 300
    done = run(EXAMPLE, *parts, "--resume")
    assert done.returncode == 0, done.stderr
    assert checkpoints.load().step == 300

    done = run(EXAMPLE, *flags, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    parts, whole = checkpoints.load(), Checkpoints(tmp_path / "whole" / "checkpoints").load()
    assert str(parts.state["things"]) == str(whole.state["things"])
    best = Checkpoints(tmp_path / "whole" / "checkpoints").best_checkpoint()
    rows = [row for row in whole.state["rows"] if row.get("val_loss") is not None and row["step"]]
    assert checkpoints.load(best).score == min(row["val_loss"] for row in rows)


@pytest.mark.slow
def test_the_other_example_resumes_too(tmp_path):
    flags = ["--task", "sorting", "--steps", 120, "--save-every", 10, "--width", 8, "--layers", 1]
    flags += ["--dropout", 0.1]
    checkpoints = Checkpoints(tmp_path / "parts" / "sorting" / "checkpoints")
    parts = [*flags, "--out", tmp_path / "parts"]
    _, _, code = stopped(signal.SIGKILL, checkpoints.paths, OTHER, *parts)
    assert code == -signal.SIGKILL
    assert checkpoints.load().step < 120
    for out in (tmp_path / "parts", "--resume"), (tmp_path / "whole",):
        done = run(OTHER, *flags, "--out", *out)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "parts" / "sorting") == outcome(tmp_path / "whole" / "sorting")


def test_a_finished_run_is_finished(tmp_path, text):
    """To resume it tells its results again; to start it anew is allowed."""
    flags = ["--data", text, "--out", tmp_path, "--steps", 20, *TINY]
    assert run(EXAMPLE, *flags).returncode == 0
    first = outcome(tmp_path)
    for more in ["--resume"], []:
        done = run(EXAMPLE, *flags, *more)
        assert done.returncode == 0, done.stderr
        assert outcome(tmp_path) == first
    for path in (tmp_path / "checkpoints").rglob("arrays.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    done = run(EXAMPLE, *flags, "--resume")
    assert done.returncode == 2
    assert "arrays.safetensors: another size: expected" in done.stderr
    done = run(EXAMPLE, "--data", text, "--out", tmp_path / "none", "--resume", *TINY)
    assert done.returncode == 2
    assert "no checkpoint" in done.stderr


# -- flags -----------------------------------------------------------------------------------------


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
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_shows_the_defaults():
    help_text = run(EXAMPLE, "--help").stdout
    assert "nanogpt-cpu" in help_text
    assert "(default: 0.003)" in help_text


def test_flags_win_over_the_preset(tmp_path, text):
    done = run(EXAMPLE, "--data", text, "--out", tmp_path, "--preset", "nanogpt-cpu", "--steps", 4, *TINY)
    assert done.returncode == 0, done.stderr
    flags = json.loads((tmp_path / "result.json").read_text())["flags"]
    assert (flags["steps"], flags["block"], flags["eval_batches"], flags["expected"]) == (4, 16, 20, 1.88)
    assert "published" in done.stdout


def test_sorting_is_learned_a_little(tmp_path):
    flags = ["--task", "sorting", "--steps", "100", "--width", "32", "--layers", "2", "--out", tmp_path]
    done = run(OTHER, *flags)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "sorting" / "result.json").read_text())
    assert result["final_loss"] < 1.0  # ln 3 = 1.099 is a guess
    assert result["test_inputs"] == 180

"""Text to image as a person runs it, from its command line, with networks too small to draw anything."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygen.checkpoints import Checkpoints
from tinygen.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image")

ALONE = {**os.environ, "NUMBA_NUM_THREADS": "1"}  # at these sizes threads only wait for one another
EXAMPLE = Path(__file__).parents[2] / "examples" / "latent_diffusion_shapes.py"
TINY = ["--ae-steps", 12, "--diffusion-steps", 40, "--ae-channels", 4, "--channels", 8, "--drawings", 9]
TINY += ["--batch", 2, "--judged", 2, "--sampler-steps", 2]


def command(*flags):
    return [sys.executable, str(EXAMPLE), *map(str, flags)]


def run(*flags):
    return subprocess.run(
        command(*flags), capture_output=True, text=True, timeout=300, check=False, env=ALONE
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the start to the end: what it printed, and its folder."""
    out = tmp_path_factory.mktemp("whole")
    done = run(*TINY, "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def test_a_short_run(whole):
    stdout, out = whole
    result = json.loads((out / "result.json").read_text())
    for split, title in (("train", "pairs as in training"), ("held_out", "pairs never seen")):
        assert result[split]["drawings"]["all"] == 1
        assert {"0", "1", "3"} <= result[split].keys()
        assert f"{title}: shape and colour (%)" in stdout
    for name in ("loss.png", "guidance.png", "prompts.png", "denoising.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    with Image.open(out / "denoising.gif") as film:
        assert film.n_frames == 3  # noise, and two steps
    assert stdout.count("is read as") == 24


def test_drawing_only_is_the_same_drawing(whole, tmp_path):
    """The weights that are saved are those that were judged."""
    stdout, out = whole
    before = (out / "prompts.png").read_bytes()
    done = run(*TINY, "--out", out, "--draw-only")
    assert done.returncode == 0, done.stderr
    assert (out / "prompts.png").read_bytes() == before
    assert all(line in stdout.splitlines() for line in done.stdout.splitlines())
    prompts = ["--prompt", "a large purple circle at the top left", "--prompt", "a red cross"]
    done = run(*TINY, "--out", out, "--draw-only", *prompts)
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[:2]] == prompts[1::2]


@pytest.mark.slow
def test_stopped_in_either_training_and_resumed_it_is_the_same_run(whole, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def stop_at(step, *more):
        process = subprocess.Popen(
            command(*TINY, "--save-every", 1, "--out", tmp_path, *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ALONE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's "&" has it ignored
        )
        deadline = time.monotonic() + 300
        while not any(int(path.name.split("-")[-1]) >= step for path in checkpoints.paths()):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        return stdout

    assert "--resume goes on from there" in stop_at(2)
    assert checkpoints.load().step < 12
    stop_at(14, "--resume")
    assert 14 <= checkpoints.load().step < 52
    done = run(*TINY, "--out", tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    _, out = whole
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path, out))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (tmp_path, out))
    assert ours["train"] == theirs["train"]
    assert ours["held_out"] == theirs["held_out"]
    assert (tmp_path / "metrics.csv").read_text() == (out / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--prompt", "a pink circle"],
            "unknown word 'pink' in 'a pink circle': the words are a, small, ",
        ),
        (["--prompt", "a " * 9], "has 9 words, and 8 are the most"),
        (["--channels", 4], "argument --channels: must be an int at least 8, not '4'"),
        (["--draw-only"], "model.safetensors"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(*flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

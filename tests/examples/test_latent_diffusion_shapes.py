"""Text to image as a user runs it, from the command line, with networks too small to draw anything."""

import json
import signal

import pytest
from example_runs import outcome, run, saved, stopped

from tinygen.storage.checkpoints import Checkpoints

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image")

EXAMPLE = "latent_diffusion_shapes.py"
TINY = ["--ae-steps", 12, "--diffusion-steps", 40, "--ae-channels", 4, "--channels", 8, "--drawings", 9]
TINY += ["--batch", 2, "--judged", 2, "--sampler-steps", 2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the start to the end: what it printed, and its folder."""
    out = tmp_path_factory.mktemp("whole")
    done = run(EXAMPLE, *TINY, "--out", out)
    assert done.returncode == 0, done.stderr
    return done.stdout, out


@pytest.mark.slow
def test_a_short_run(whole):
    stdout, out = whole
    result = json.loads((out / "result.json").read_text())
    for split, title in (("train", "pairs as in training"), ("held_out", "pairs never seen")):
        assert result[split]["drawings"]["all"] == 1
        assert {"0", "1", "3"} <= result[split].keys()
        assert f"{title}: shape and color (%)" in stdout
    for name in ("loss.png", "guidance.png", "prompts.png", "denoising.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    with Image.open(out / "denoising.gif") as film:
        assert film.n_frames == 3  # noise, and two steps
    assert stdout.count("is read as") == 24


@pytest.mark.slow
def test_drawing_only_is_the_same_drawing(whole, tmp_path):
    """The weights that are saved are those that were judged."""
    stdout, out = whole
    before = (out / "prompts.png").read_bytes()
    done = run(EXAMPLE, *TINY, "--out", out, "--draw-only")
    assert done.returncode == 0, done.stderr
    assert (out / "prompts.png").read_bytes() == before
    assert all(line in stdout.splitlines() for line in done.stdout.splitlines())
    prompts = ["--prompt", "a large purple circle at the top left", "--prompt", "a red cross"]
    done = run(EXAMPLE, *TINY, "--out", out, "--draw-only", *prompts)
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[:2]] == prompts[1::2]


@pytest.mark.slow
def test_stopped_in_either_training_and_resumed_it_is_the_same_run(whole, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def stop_at(step, *more):
        flags = [*TINY, "--save-every", 1, "--out", tmp_path, *more]
        _, stderr, code = stopped(signal.SIGINT, lambda: saved(tmp_path, step), EXAMPLE, *flags)
        assert code == 130, stderr
        assert "--resume goes on from there" in stderr

    stop_at(2)
    assert checkpoints.load().step < 12
    stop_at(14, "--resume")
    assert 14 <= checkpoints.load().step < 52
    done = run(EXAMPLE, *TINY, "--out", tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path) == outcome(whole[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--prompt", "a pink circle"],
            "unknown word 'pink' in 'a pink circle': the words are a, small, ",
        ),
        (["--prompt", "a " * 9], "has 9 words: at most 8 are allowed"),
        (["--channels", 4], "argument --channels: must be an int at least 8, not '4'"),
        (["--draw-only"], "model.safetensors"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

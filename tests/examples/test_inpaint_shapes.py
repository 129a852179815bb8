"""Inpainting: the holes, measurements whose results are known, and the whole run."""

import numpy as np
import pytest
from example_runs import module, outcome, require_average, require_pictures, require_same_from, run

from tinygen.data.shapes import SCENES, Scene, draw

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("PIL")

EXAMPLE = "inpaint_shapes.py"
TINY = ["--channels", "8", "--batch", "8", "--timesteps", "20", "--paint-steps", "8", "--pictures", "4"]
TINY += ["--eval-every", "3", "--repeats", "2", "--jump", "2"]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- what is measured ------------------------------------------------------------------------------


def test_holes(example):
    """Rows from the top. Of the shape at the left, in the middle, its right half is missing."""
    masks = example.holes(
        [Scene("square", "red", "large", "left"), Scene("cross", "blue", "small", "bottom")], 16
    )
    for mask in masks.values():
        assert mask.shape == (2, 1, 16, 16)
        assert mask.dtype == bool
    quarter, half, three = masks.values()
    np.testing.assert_array_equal(half[0, 0], np.tile(np.arange(16) < 4, (16, 1)))
    np.testing.assert_array_equal(np.flatnonzero(quarter[1, 0, :, 15]), np.arange(12))
    np.testing.assert_array_equal(np.flatnonzero(quarter[1, 0, :, 7]), np.arange(16))
    np.testing.assert_array_equal(three, quarter & half & quarter[..., -1:])


def test_what_is_right(example):
    """Drawings of any words are right. Drawings of another size, with much noise or without a half, are
    not."""
    scenes, rng = SCENES[::5], np.random.default_rng(0)
    pictures = draw(scenes, 16, rng)
    assert example.share_read_right(pictures, scenes) == 1
    assert example.share_read_right(pictures, scenes[::-1]) < 0.1
    assert example.share_read_right(pictures + rng.standard_normal(pictures.shape), scenes) < 0.1
    half = np.where(example.holes(scenes, 16)["a half"], pictures, example.PAPER)
    assert example.share_read_right(half, scenes) < 0.1


def test_error_in_the_hole(example):
    hole = np.zeros((2, 1, 16, 16), bool)
    hole[0, :, 3] = True
    pictures, truth = np.ones((2, 3, 16, 16)), np.ones((2, 3, 16, 16))
    pictures[1] = 7  # outside of the hole
    pictures[0, :, 3] = 0.5
    assert example.error_in(hole, pictures, truth) == 0.5


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 3 steps, as if it had been killed at step 3."""
    flags = ["--steps", 6, "--out", tmp_path / "out", *TINY]
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert (result["steps"], result["real"]) == (6, 1.0)
    assert 0.1 < result["val_loss"] < 1.5
    for missing in ("a quarter", "a half", "three quarters"):
        assert f"{missing} away, RePaint: read right" in done.stdout
        for figures in result[missing].values():
            assert figures.keys() == {"as it is", "blending", "RePaint"}
            assert all(0 <= figure < 2 for figure in figures.values())
    require_pictures(tmp_path / "out", "loss", "paintings")
    require_average(tmp_path / "out")
    require_same_from(3, tmp_path / "out", EXAMPLE, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--paint-steps", "300"], "--paint-steps 300 is more than --timesteps 200"),
        (["--channels", "12"], "--channels 12 is not a multiple of 8"),
        (["--repeats", "0"], "argument --repeats: must be an int at least 1, not '0'"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

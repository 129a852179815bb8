"""Digits on demand: measurements whose results are known, and the whole run."""

import numpy as np
import pytest
from example_runs import module, outcome, require_average, require_pictures, require_same_from, run

from tinygen.data import digits

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

EXAMPLE = "ddpm_digits.py"
TINY = ["--channels", 8, "--batch", 16, "--timesteps", 12, "--sampler-steps", 3]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- what is measured ------------------------------------------------------------------------------


def test_distance_to_nearest(example):
    """The median over the pictures, each to its nearest: 0, 3 and 5 here."""
    others = np.zeros((2, 1, 1, 2))
    others[1] = [6, 0]
    pictures = np.array([[6.0, 0], [0, 3], [3, 4]]).reshape(3, 1, 1, 2)
    assert example.distance_to_nearest(pictures, others) == pytest.approx(3)
    assert example.distance_to_nearest(pictures[:1], others) == pytest.approx(0, abs=1e-6)
    assert example.distance_to_nearest(pictures[2:], others) == pytest.approx(5)


def test_pixelwise_bits(example):
    """Two pixels, three pictures: with one added to each level, levels seen three times have 4/20."""
    train = np.full((3, 1, 1, 2), -1.0)
    assert example.pixelwise_bits(train, train) == pytest.approx(np.log2(20 / 4))
    assert example.pixelwise_bits(train, -train) == pytest.approx(np.log2(20))
    mixed = np.array([-1.0, 1.0]).reshape(1, 1, 1, 2)
    assert example.pixelwise_bits(train, mixed) == pytest.approx((np.log2(5) + np.log2(20)) / 2)


def test_pixelwise_bits_of_digits(example):
    """Between nothing known, log2 17 = 4.09, and the entropy of the test pixels, which is a bound."""
    train, test = digits.load()
    bits = example.pixelwise_bits(train.pictures, test.pictures)
    levels = np.rint((test.pictures.reshape(500, 64) + 1) * 8).astype(int)
    p = np.array([np.bincount(levels[:, i], minlength=17) for i in range(64)]) / 500
    entropy = -np.sum(p * np.log2(np.maximum(p, 1e-300))) / 64
    assert entropy < bits < np.log2(17)


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 6 steps, as if it had been killed at step 6."""
    flags = ["--steps", 12, "--save-every", 6, "--out", tmp_path / "out", *TINY]
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 12
    assert list(result["sweep"]) == ["0.0", "1.0", "1.5", "2.0", "3.0", "5.0"]
    assert 0.1 < result["judge_accuracy"] <= 1
    assert 0 < result["frechet_floor"] < result["frechet_ceiling"]
    assert result["bits_per_pixel_blind"] < result["bits_per_pixel"]  # 12 steps teach nothing
    assert f"{result['bits_per_pixel']:.4g}" in done.stdout
    require_pictures(tmp_path / "out", "loss", "guidance", "digits", "real")
    with Image.open(tmp_path / "out" / "denoising.gif") as film:
        assert film.n_frames == 13  # noise, and 12 steps
    require_average(tmp_path / "out")
    require_same_from(6, tmp_path / "out", EXAMPLE, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--drop", 2], "argument --drop: must be a float from 0 to 1, not '2'"),
        (["--channels", 2], "argument --channels: must be an int at least 4, not '2'"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert message in done.stderr

"""Diffusion of points: its measurements on points with known results, and the whole run."""

import math

import numpy as np
import pytest
from example_runs import module, outcome, require_average, require_pictures, require_same_from, run

from tinygen.data.mixtures import ring
from tinygen.diffusion import Process, ddim, linear_schedule

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLE = "diffusion_2d.py"
TINY = ["--timesteps", "30", "--width", "16", "--batch", "64", "--samples", "500", "--eval-every", "20"]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- what is measured ------------------------------------------------------------------------------


def test_excess_of_known_predictors(example):
    """The best one has none; one that says a tenth more is above by 0.01·E|E[ε|x_t]|² = 0.01·(1 - floor), as
    are the losses that it makes. Each within 6 standard errors: false alarms 2e-9 a step."""
    data, process = ring(), Process(linear_schedule(30))
    best = example.exact_denoiser(data, process)
    above, error, _ = example.excess_loss(best, data, process, 300, 0)
    assert np.all(above == 0)
    assert np.all(error == 0)
    above, error, sampled = example.excess_loss(lambda x, t: 1.1 * best(x, t), data, process, 3000, 0)
    s = process.schedule
    floor = np.array([data.eps_floor(*level) for level in zip(s.alpha[1:], s.sigma[1:], strict=True)])
    assert np.all(np.abs(above - 0.01 * (1 - floor)) < 6 * error)
    assert abs(np.mean(sampled - floor - above)) < 6 * math.sqrt(2 / (30 * 3000))  # Var of a loss: 2 at most


def test_distance(example):
    """A move by d has the length d·|cos| of its angle to a direction, 2d/π on average. The order of points
    does not matter."""
    x = ring().sample(500, np.random.default_rng(0))
    assert example.sliced_wasserstein(x, x[::-1]) == 0
    assert example.sliced_wasserstein(x, x + np.array([0.3, 0.4])) == pytest.approx(
        0.5 * 2 / math.pi, rel=1e-3
    )
    along = x @ np.stack([np.cos(np.arange(64) * math.pi / 64), np.sin(np.arange(64) * math.pi / 64)])
    assert example.sliced_wasserstein(x, 1.5 * x) == pytest.approx(0.5 * np.mean(np.abs(along)))


def test_judged(example):
    """Of 8000 true points, 98.9 % are within 3 stds of a mean: 6 standard deviations are 0.7 %."""
    data, rng = ring(), np.random.default_rng(0)
    truth = data.sample(8000, rng)
    got = example.quality_of(truth, truth, data)
    assert got["distance"] == 0
    assert got["near a mean"] == pytest.approx(1 - math.exp(-9 / 2), abs=0.007)
    assert got["modes"] == 8
    three = example.quality_of(data.part([0, 3, 4]).sample(8000, rng), truth, data)
    assert three["modes"] == 3
    assert three["distance"] > 0.2
    outside = example.quality_of(1.3 * data.means, data.means, data)
    assert (outside["near a mean"], outside["modes"]) == (0.0, 0)


def test_paths_end_where_ddim_does(example):
    process = Process(linear_schedule(30))
    model, x = example.exact_denoiser(ring(), process), np.random.default_rng(0).standard_normal((5, 2))
    way = example.paths(process, model, x)
    assert way.shape == (31, 5, 2)
    np.testing.assert_array_equal(way[0], x)
    np.testing.assert_array_equal(way[1:], list(ddim(process, model, x)))


# -- the run ---------------------------------------------------------------------------------------


def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 40 steps, as if it had been killed at step 40."""
    flags = ["--steps", 80, "--out", tmp_path / "out", *TINY]
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 80
    assert result["loss"] == pytest.approx(result["floor"] * (1 + result["excess_percent"] / 100))
    assert 0.1 < result["floor"] < result["loss"] < 0.7  # 1 is what it starts with
    assert result["sampled_loss"] == pytest.approx(result["loss"], abs=0.06)
    assert np.mean(result["at_each_step"]["loss"]) == pytest.approx(result["loss"])
    assert f"{result['loss']:.4g}" in done.stdout
    assert result["quality"]["DDPM, 30 steps, exact score"]["modes"] == 8
    require_pictures(tmp_path / "out", "loss", "floor", "samples")
    require_average(tmp_path / "out")
    require_same_from(40, tmp_path / "out", EXAMPLE, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ddim-steps", "300"], "--ddim-steps 300 is more than --timesteps 200"),
        (["--data", "square"], "argument --data: invalid choice: 'square'"),
        (["--timesteps", "20"], "argument --timesteps: must be an int at least 21, not '20'"),
        (["--resume"], "no checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

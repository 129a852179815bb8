"""CartPole against its equations of motion and Gymnasium's; and the example, whole, stopped and resumed."""

import json

import numpy as np
import pytest
from example_runs import module, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("ppo_cartpole.py")


def carts(state):
    made = example.CartPole(len(state), np.random.default_rng(0))
    made.state = np.array(state, np.float64)
    return made


def some_states(n):
    """Some of them so far out that the next step ends the episode."""
    return np.random.default_rng(1).uniform(-1.3, 1.3, (n, 4)) * [2, 3, 0.18, 3]


# -- the carts -------------------------------------------------------------------------------------


def test_the_equations_of_motion():
    """The accelerations solve both: the forces along the track, and the torques about the pivot."""
    state = some_states(50) * [0.1, 1, 0.5, 1]  # nobody falls
    actions = np.arange(50) % 2
    world = carts(state)
    assert not world.step(actions).any()
    place, velocity, angle, spin = state.T
    np.testing.assert_allclose(world.state[:, 0], place + 0.02 * velocity, rtol=1e-12)
    np.testing.assert_allclose(world.state[:, 2], angle + 0.02 * spin, rtol=1e-12)
    pull, turn = ((world.state[:, i] - state[:, i]) / 0.02 for i in (1, 3))
    force = np.where(actions == 1, 10.0, -10.0)
    along = 1.1 * pull + 0.1 * 0.5 * (turn * np.cos(angle) - spin**2 * np.sin(angle))
    np.testing.assert_allclose(along, force, rtol=1e-9)
    about = 4 / 3 * 0.5 * turn + pull * np.cos(angle)
    np.testing.assert_allclose(about, 9.8 * np.sin(angle), rtol=1e-9, atol=1e-9)


def test_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("CartPole-v1").unwrapped
    state, actions = some_states(300), np.random.default_rng(2).integers(0, 2, 300)
    fallen = []
    for row, action in zip(state, actions, strict=True):
        env.reset(seed=0)
        env.state = tuple(row)
        _, _, ended, _, _ = env.step(int(action))
        world = carts(row[None])
        assert world.step(np.array([action])) == ended
        if not ended:
            np.testing.assert_allclose(world.state[0], env.state, rtol=1e-12)
        fallen.append(ended)
    assert 50 < sum(fallen) < 250


@pytest.mark.parametrize(
    ("state", "falls"),
    [
        ([2.39, 0.0, 0.0, 0.0], False),
        ([2.41, 0.0, 0.0, 0.0], True),
        ([-2.41, 0.0, 0.0, 0.0], True),
        ([0.0, 0.0, 0.209, 0.0], False),
        ([0.0, 0.0, 0.210, 0.0], True),
        ([0.0, 0.0, -0.210, 0.0], True),
    ],
)
def test_when_an_episode_ends(state, falls):
    world = carts([state])
    assert world.step(np.array([1])) == falls
    if falls:
        assert np.abs(world.state).max() <= 0.05
        assert world.returns == [1]
        assert world.age == 0


def test_an_episode_ends_after_500_steps():
    world = carts([[0.0, 0.0, 0.0, 0.0]])
    for step in range(1, 501):
        angle, spin = world.state[0, 2:]
        ended = world.step(np.array([int(angle + 0.2 * spin + 0.02 * world.state[0, 1] > 0)]))
        assert ended == (step == 500)
    assert world.returns == [500]


# -- the example -----------------------------------------------------------------------------------

TINY = ["--seeds", "2", "--steps", "2048", "--horizon", "64", "--save-every", "3"]


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, example, "--out", tmp_path / "whole", *TINY)
    assert "mean return of the seeds" in capsys.readouterr().out
    parts = ("--out", tmp_path / "parts", *TINY)
    assert run_here(monkeypatch, example, *parts, stop_after=5) == 130  # of 8 rounds a seed
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY, stop_after=5)
    run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["returns"] == results[1]["returns"]
    assert len(results[0]["returns"]) == 2
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]
    assert (tmp_path / "whole" / "loss.png").read_bytes().startswith(b"\x89PNG")

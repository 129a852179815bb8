"""The example, complete, stopped and resumed; and relations that its figures must satisfy after any
training."""

import csv
import json
import sys

import numpy as np
import pytest
from example_runs import module, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("rlhf_exact.py")
world = sys.modules[example.Lab.__module__]  # shared/rlhf_world.py

STEPS = {"sft": 6, "reward": 5, "rl": 4, "dpo": 5}  # 28 for each seed
TINY = ["--seeds", "2", "--layers", "1", "--width", "8", "--batch", "16"]
TINY += ["--eval-every", "2", "--save-every", "5"]
TINY += [word for name, n in STEPS.items() for word in (f"--{name}-steps", str(n))]


def test_the_reward():
    responses = np.array([[1, 2, 1, 3, 1], [1, 1, 1, 1, 1], [0, 2, 0, 2, 0], [3, 3, 4, 4, 1]])
    np.testing.assert_array_equal(world.reward_program(np.array([1]), responses), [2, 0, 0, -1])


def test_demonstrations():
    """A token repeats the one before it with probability 0.4 + 0.6/6 = 0.5: within 6 standard deviations."""
    texts = world.demonstrations(20_000, np.random.default_rng(0))
    repeats = np.mean(texts[:, 1:] == texts[:, :-1])
    assert abs(repeats - 0.5) < 6 * 0.5 / np.sqrt(100_000)


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, example, "--out", tmp_path / "whole", *TINY)
    assert "reward model: right about" in capsys.readouterr().out
    parts = ("--out", tmp_path / "parts", *TINY)
    assert run_here(monkeypatch, example, *parts, stop_after=8) == 130  # amid the reward model
    assert "--resume" in capsys.readouterr().err
    for steps in (3, 9):  # at its end, and at the beginning of GRPO
        run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY, stop_after=steps)
    for _ in range(2):  # the second time all is done: only the results again
        run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["methods"] == results[1]["methods"]
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert (tmp_path / "whole" / "frontier.png").read_bytes().startswith(b"\x89PNG")

    rows = list(csv.DictReader(texts[0].splitlines()))
    placed = [row for row in rows if row["kl"]]
    assert len(placed) == 2 * (6 + 3 * 3 + 4)  # best-of-n; three looks at each of three methods; four at DPO
    for row in placed:
        assert float(row["kl"]) > 0
        assert float(row["reward"]) <= float(row["frontier"]) + 0.01  # interpolated
    for row in rows:
        if row["accuracy"]:
            assert float(row["accuracy"]) <= float(row["bayes"])

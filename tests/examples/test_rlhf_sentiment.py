"""The example, whole, stopped and resumed; and the price that it compares with."""

import json

import numpy as np
import pytest
from example_runs import module, run_here

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("rlhf_sentiment.py")

STEPS = {"pretraining": 4, "sft": 3, "reward": 4, "rl": 2, "dpo": 3}
TINY = ["--samples", "40", "--width", "8", "--batch", "8", "--pairs", "50"]
TINY += ["--eval-every", "10", "--save-every", "3"]
TINY += [word for name, n in STEPS.items() for word in (f"--{name}-steps", str(n))]


def test_the_least_divergence():
    """To praise always, throw away what does not: -ln p. To praise as before costs nothing."""
    assert example.least_kl(1.0, 0.4) == pytest.approx(-np.log(0.4))
    assert example.least_kl(0.4, 0.4) == 0
    assert example.least_kl(0.9, 0.4) == pytest.approx(0.9 * np.log(0.9 / 0.4) + 0.1 * np.log(0.1 / 0.6))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, example, "--out", tmp_path / "whole", *TINY)
    assert "reward model: agrees with" in capsys.readouterr().out
    parts = ("--out", tmp_path / "parts", *TINY)
    assert run_here(monkeypatch, example, *parts, stop_after=9) == 130  # amid the reward model
    assert "--resume" in capsys.readouterr().err
    resumed = ("--out", tmp_path / "parts", "--resume", *TINY)
    run_here(monkeypatch, example, *resumed, stop_after=4)  # between PPO and PPO-ptx
    for _ in range(2):  # the second time all is done: only the results again
        run_here(monkeypatch, example, *resumed)
    whole, parts = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts"))
    assert whole["stages"] == parts["stages"]
    assert list(whole["stages"]) == ["SFT", "PPO", "PPO-ptx", "DPO"]
    assert whole["stages"]["SFT"]["kl"] == 0
    assert whole["stages"]["PPO"] != whole["stages"]["PPO-ptx"]
    for stage in whole["stages"].values():
        assert stage["perplexity"] > whole["floor"] > 1
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert (tmp_path / "whole" / "tax.png").read_bytes().startswith(b"\x89PNG")

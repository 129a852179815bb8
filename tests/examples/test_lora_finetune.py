"""The example, whole, stopped and resumed; its floor, and what it keeps of LoRA."""

import json

import numpy as np
import pytest
from example_runs import module, run_here

from tinygen.data.reviews import Reviews, sentiment
from tinygen.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("lora_finetune.py")

TINY = ["--width", "8", "--rank", "1", "--batch", "8", "--eval-every", "2", "--save-every", "3"]
TINY += ["--pretraining-steps", "4", "--steps-each", "4"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, example, "--out", tmp_path / "whole", *TINY)
    assert "the grammar's own loss" in capsys.readouterr().out
    parts = ("--out", tmp_path / "parts", *TINY)
    assert run_here(monkeypatch, example, *parts, stop_after=4) == 130  # before fine-tuning
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY, stop_after=6)  # amid LoRA
    run_here(monkeypatch, example, "--out", tmp_path / "parts", "--resume", *TINY)
    whole, parts = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts"))
    assert whole["stages"] == parts["stages"]
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert (tmp_path / "whole" / "loss.png").read_bytes().startswith(b"\x89PNG")

    stages = whole["stages"]
    assert all(row["loss"] > whole["floor"] for row in stages.values())
    assert stages["full"]["loss"] < stages["pretraining"]["loss"]
    assert stages["LoRA"]["loss"] != stages["pretraining"]["loss"]
    adapters = load_file(tmp_path / "whole" / "adapters.safetensors")
    assert sum(x.size for x in adapters.values()) == stages["LoRA"]["trained"]
    assert any(np.any(x != 0) for name, x in adapters.items() if name.endswith("lora_b"))


def test_the_floor_is_the_entropy_of_reviews_that_praise(monkeypatch):
    """Bayes' rule, word by word, for some reviews: ln p(review) - ln P(praise), over the words after the
    first."""
    monkeypatch.setattr("sys.argv", ["lora_finetune.py", *TINY])
    lab = example.Lab(example.flags())
    assert np.all(sentiment(lab.held_out) > 0)
    few = lab.held_out = lab.held_out[:3]
    lengths = [int(np.argmax(row == example.STOP)) + 1 for row in few]
    nats = sum(Reviews().log_probs(row[None, :n]).sum() for row, n in zip(few, lengths, strict=True))
    assert lab.floor() == pytest.approx(-(nats - 3 * np.log(lab.share)) / (sum(lengths) - 3))

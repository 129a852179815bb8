"""The example, complete, stopped and resumed; the lower bound of its loss, and the adapters that it saves."""

import json

import numpy as np
import pytest
from example_runs import module, run_here

from tinygen.data.reviews import Reviews, sentiment
from tinygen.models.huggingface.peft import load_adapters
from tinygen.models.language.gpt import GPT
from tinygen.optim import Adam
from tinygen.storage.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("lora_finetune.py")

TINY = ["--width", "8", "--rank", "1", "--batch", "8", "--eval-every", "2", "--save-every", "3"]
TINY += ["--pretraining-steps", "4", "--steps-each", "4"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    run_here(monkeypatch, example, "--out", tmp_path / "whole", *TINY)
    assert "the grammar's is" in capsys.readouterr().out
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
    adapters = load_file(tmp_path / "whole" / "adapters" / "adapter_model.safetensors")
    assert sum(x.size for x in adapters.values()) == stages["LoRA"]["trained"]
    for name in ("base", "merged", "adapters"):
        first, second = (sorted((tmp_path / out / name).iterdir()) for out in ("whole", "parts"))
        assert [path.name for path in first] == [path.name for path in second]
        for a, b in zip(first, second, strict=True):
            assert a.name == "adapter_config.json" or a.read_bytes() == b.read_bytes()


def lab_of(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["lora_finetune.py", *TINY, *flags])
    return example.Lab(example.parse_args())


def test_what_it_leaves_is_loaded_elsewhere_and_goes_on(tmp_path, monkeypatch):
    """Pretrain, fine-tune adapters, save; then load each folder, and train what comes of it."""
    lab = lab_of(monkeypatch, "--rank", "2", "--alpha", "3")
    lab.held_out = lab.held_out[:100]
    for _ in range(3):
        lab.step(0, 0.02)
    lab.begin(2)
    pretrained, _, adapted = lab.models
    assert lab.held_out_loss(adapted) == lab.held_out_loss(pretrained)  # B is 0
    for _ in range(3):
        lab.step(2, 0.02)
    beside = lab.held_out_loss(adapted)
    assert beside < lab.held_out_loss(pretrained) - 0.01
    lab.save(tmp_path)
    assert lab.held_out_loss(adapted) == pytest.approx(beside, rel=1e-6)

    base, merged = (GPT.from_pretrained(tmp_path / name) for name in ("base", "merged"))
    assert lab.held_out_loss(base) == lab.held_out_loss(pretrained)
    assert lab.held_out_loss(merged) == lab.held_out_loss(adapted)
    assert len(load_adapters(base, tmp_path / "adapters")) == 8
    assert lab.held_out_loss(base) == beside
    for model in (base, merged.train()):
        lab.models[1], before = model, lab.held_out_loss(model)
        lab.optimizers[1] = Adam([p for p in model.parameters() if p.requires_grad])
        for _ in range(10):
            lab.step(1, 0.02)
        assert lab.held_out_loss(model) < before - 0.001


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--rank", "9"], "--rank 9 is above --width 8"), (["--alpha", "0"], "--alpha: must be")],
)
def test_adapters_that_cannot_be_are_refused_at_the_door(tmp_path, monkeypatch, capsys, flags, message):
    assert run_here(monkeypatch, example, "--out", tmp_path / "new", *TINY, *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_floor_is_the_entropy_of_reviews_that_praise(monkeypatch):
    """Bayes' rule, word by word, for some reviews: ln p(review) - ln P(praise), over the words after the
    first."""
    lab = lab_of(monkeypatch)
    assert np.all(sentiment(lab.held_out) > 0)
    few = lab.held_out = lab.held_out[:3]
    lengths = [int(np.argmax(row == example.STOP)) + 1 for row in few]
    nats = sum(Reviews().log_probs(row[None, :n]).sum() for row, n in zip(few, lengths, strict=True))
    assert lab.floor() == pytest.approx(-(nats - 3 * np.log(lab.share)) / (sum(lengths) - 3))

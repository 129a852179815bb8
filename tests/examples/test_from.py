"""`--from RUN`: the first stage is equal to the other run's, to the bit; a wrong folder gives one line."""

import json

import numpy as np
import pytest
from example_runs import module, run_here

from tinygen.storage.safetensors import load_file, save_file

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

STAGES = {
    "lora_finetune": "pretraining",
    "rlhf_sentiment": "pretraining",
    "latent_diffusion_shapes": "autoencoder",
}
TINY = {
    "lora_finetune": [
        *("--width", 8, "--rank", 1, "--batch", 8, "--pretraining-steps", 3, "--steps-each", 2),
        *("--samples", 50),
    ],
    "rlhf_sentiment": [
        *("--width", 8, "--batch", 8, "--samples", 8, "--pairs", 16, "--pretraining-steps", 2),
        *("--sft-steps", 1, "--reward-steps", 1, "--rl-steps", 1, "--dpo-steps", 1),
    ],
    "latent_diffusion_shapes": [
        *("--ae-steps", 2, "--diffusion-steps", 2, "--ae-channels", 4, "--channels", 8, "--drawings", 9),
        *("--batch", 2, "--judged", 2, "--sampler-steps", 2, "--prompt", "a red cross"),
    ],
}
STEPS = {"lora_finetune": 4, "rlhf_sentiment": 5, "latent_diffusion_shapes": 2}  # without the first stage


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_of_another_run(tmp_path, monkeypatch, name):
    """The second run makes the later steps only, leaves the same stage in its folder, can be resumed, and
    tells how long each stage took."""
    example, stage = module(f"{name}.py"), f"{STAGES[name]}.safetensors"
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_here(monkeypatch, example, "--out", first, *TINY[name]) == 0
    flags = ("--out", second, *TINY[name], "--from", first, "--save-every", 1)
    assert run_here(monkeypatch, example, *flags, stop_after=1) == 130
    assert run_here(monkeypatch, example, *flags, "--resume") == 0
    ours, theirs = (load_file(folder / stage) for folder in (second, first))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key])
    result = json.loads((second / "result.json").read_text())
    assert result["flags"]["steps" if "steps" in result["flags"] else "source"] in (STEPS[name], str(first))
    seconds = result["run"]["seconds_of_stages"]
    assert sum(seconds.values()) == pytest.approx(result["seconds"])
    assert {"preparation", STAGES[name], "evaluation"} <= seconds.keys()
    assert run_here(monkeypatch, example, "--out", second, *TINY[name], "--resume") == 2  # its own stage


@pytest.mark.parametrize("name", STAGES)
def test_a_folder_that_will_not_do_is_one_line(tmp_path, monkeypatch, capsys, name):
    example, out, run = module(f"{name}.py"), tmp_path / "out", tmp_path / "run"
    run.mkdir()
    for message in ("a finished run has", "is of a run with other flags"):
        assert run_here(monkeypatch, example, "--out", out, *TINY[name], "--from", run) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not out.exists()
        save_file(run / f"{STAGES[name]}.safetensors", {"a": np.zeros(3, np.float32)})

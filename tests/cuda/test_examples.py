"""`--device cuda` without a GPU is refused; and the examples run on an array type in place of CuPy's, from
their first step to their last figure."""

import json
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest
from example_runs import command, module, run_here
from foreign import Foreign

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
TINY = {
    "diffusion_2d": ["--steps", 2, "--timesteps", 21, "--width", 8, "--batch", 8, "--samples", 100],
    "flows_2d": [
        *("--steps", 2, "--channels", 8, "--couplings", 2, "--width", 8, "--batch", 8, "--samples", 100),
        *("--solver-steps", 4),
    ],
    "gan_ring": ["--steps", 2, "--width", 8, "--batch", 8, "--response", 2, "--samples", 100],
    "gan_digits": ["--steps", 2, "--channels", 8, "--batch", 8, "--judged", 100],
    "clip_guided_shapes": [
        *("--steps", 2, "--channels", 8, "--batch", 2, "--judged", 4, "--timesteps", 20),
        *("--evaluations", 8),
    ],
    "clip_shapes": ["--steps", 2, "--channels", 4, "--layers", 1, "--batch", 4, "--judged", 1],
    "controlnet_shapes": [
        *("--ae-steps", 2, "--diffusion-steps", 2, "--control-steps", 2, "--ae-channels", 4, "--channels", 8),
        *("--drawings", 9, "--batch", 2, "--judged", 2, "--sampler-steps", 2),
    ],
    "gan_shapes": [
        *("--steps", 2, "--channels", 4, "--batch", 4, "--drawings", 64, "--judged", 2),
    ],
    "density_ladder": [
        *("--steps", 2, "--width", 8, "--latent", 4, "--batch", 4, "--draws", 2, "--solver-steps", 1),
        *("--judged", 100),
    ],
    "ddpm_digits": [
        *("--steps", 2, "--channels", 4, "--batch", 4, "--timesteps", 3, "--sampler-steps", 2),
    ],
    "in_context": [
        *("--steps", 20, "--copy-steps", 1, "--dim", 1, "--channels", 8, "--layers", 1, "--batch", 4),
    ],
    "inpaint_shapes": [
        *("--steps", 2, "--channels", 8, "--batch", 4, "--timesteps", 4, "--paint-steps", 2),
        *("--pictures", 2, "--repeats", 1),
    ],
    "palette_shapes": [
        *("--steps", 1, "--channels", 8, "--batch", 4, "--timesteps", 4, "--sample-steps", 1),
        *("--pictures", 2, "--greys", 1, "--draws", 2, "--compared", 1, "--repeats", 1),
    ],
    "scaling_laws": [
        *("--sizes", 3, "--smallest", 10, "--budgets", 3, "--bootstrap", 2, "--table", "none"),
    ],
    "style_transfer": ["--steps", 1, "--batch", 2, "--side", 16, "--evaluations", 1],
    "vae_digits": ["--steps", 2, "--batch", 4, "--draws", 2],
    "vqvae_shapes": ["--width", 8, "--dim", 4, "--codes", 8, "--batch", 4, "--test", 8, "--steps", 2],
    "latent_diffusion_shapes": [
        *("--ae-steps", 2, "--diffusion-steps", 2, "--ae-channels", 4, "--channels", 8, "--drawings", 9),
        *("--batch", 2, "--judged", 2, "--sampler-steps", 2, "--prompt", "a red cross"),
    ],
    "rlhf_exact": [
        *("--seeds", 1, "--layers", 1, "--width", 8, "--batch", 16, "--pairs", 50, "--eval-every", 2),
        *("--sft-steps", 2, "--reward-steps", 2, "--rl-steps", 2, "--dpo-steps", 2),
    ],
    "rlhf_sentiment": [
        *("--width", 8, "--batch", 8, "--samples", 8, "--pairs", 16, "--pretraining-steps", 1),
        *("--sft-steps", 1, "--reward-steps", 1, "--rl-steps", 2, "--dpo-steps", 2),
    ],
    "lora_finetune": [
        *("--width", 8, "--rank", 1, "--batch", 8, "--pretraining-steps", 1, "--steps-each", 2),
    ],
    "wavenet_tones": [
        *("--steps", 2, "--channels", 4, "--layers", 3, "--batch", 2, "--length", 20, "--seconds", 0.25),
        *("--sounds", 2),
    ],
    "language_ladder": [
        *("--steps", 2, "--width", 8, "--window", 8, "--batch", 2, "--tokens", 1000, "--draws", 2),
    ],
    "gpt_to_llama": [
        *("--steps", 2, "--layers", 1, "--heads", 3, "--width", 6, "--batch", 2, "--rounds", 1),
    ],
    "word_vectors": ["--steps", 2, "--channels", 4, "--batch", 4, "--sentences", 20, "--bert-batch", 2],
    "bert_reviews": [
        *("--steps", 2, "--width", 4, "--layers", 1, "--length", 5, "--batch", 2, "--tuning-steps", 2),
        *("--tests", 10),
    ],
    "tasks_in_words": [
        *("--layers", 1, "--width", 4, "--batch", 2, "--pretraining-steps", 2, "--steps-each", 2),
        *("--questions", 10, "--tests", 10),
    ],
    "translate_numbers": [
        *("--largest", 999, "--train", 100, "--layers", 1, "--heads", 2, "--width", 4, "--batch", 2),
        *("--merges", 0, "--steps", 2, "--tests", 6, "--beam", 2),
    ],
    "ppo_cartpole": ["--seeds", 1, "--steps", 64, "--carts", 2, "--horizon", 16, "--epochs", 2],
}
LONG = (
    "controlnet_shapes",
    "ddpm_digits",
    "gpt_to_llama",
    "inpaint_shapes",
    "latent_diffusion_shapes",
    "lora_finetune",
    "palette_shapes",
    "rlhf_sentiment",
)
WITH_A_DEVICE = [
    "gpt_text.py",
    "gpt_algorithms.py",
    "generate.py",
    "stable_diffusion.py",
    *(f"{name}.py" for name in TINY),
]


@pytest.fixture
def cupy(monkeypatch):
    """A module that stands in for CuPy, with a GPU."""
    there = types.ModuleType("cupy")
    there.asarray, there.cuda = Foreign, types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", there)
    return there


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is there, and so may be a GPU")
@pytest.mark.parametrize("example", WITH_A_DEVICE)
def test_it_ends_in_one_line(example):
    done = subprocess.run(command(example, "--device", "cuda"), capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'error: argument --device: device "cuda" needs CuPy: pip install "tinygen[cuda13]"' in done.stderr


def test_a_device_that_is_none():
    done = subprocess.run(command(WITH_A_DEVICE[0], "--device", "gpu"), capture_output=True, text=True)
    assert 'argument --device: unknown device \'gpu\': use "cpu" or "cuda"' in done.stderr


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in TINY]
)
def test_on_a_stand_in(cupy, monkeypatch, tmp_path, name):
    for package in ("PIL", "sklearn"):
        pytest.importorskip(package)
    example, moved = module(f"{name}.py"), []
    monkeypatch.setattr(cupy, "asarray", lambda x: moved.append(x.shape) or Foreign(x))
    run_here(monkeypatch, example, "--device", "cuda", "--out", tmp_path, *TINY[name])
    assert len(moved) > 5  # the parameters
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["flags"]["device"] == "cuda"

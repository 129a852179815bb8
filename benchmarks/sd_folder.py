"""Writes folders of Stable Diffusion with random weights, for `sd_unet.py` and `sd_picture.py`:

    python -m benchmarks.sd_folder FOLDER unet
    python -m benchmarks.sd_folder FOLDER pipeline

It runs in a process of its own, so that its memory does not count for a side.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

UNET: dict[str, Any] = {  # the options of Stable Diffusion 1
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SMALL = UNET | {"block_out_channels": [64, 128, 256, 256], "cross_attention_dim": 128, "sample_size": 32}
CODER: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 64, 128, 128],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 514,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "eos_token_id": 513,
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_elsewhere(folder: str, what: str) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.sd_folder", folder, what], check=True)


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def weights(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """Uniform in ±1/sqrt(fan_in); 1 in norms, 0 for biases."""
    rng, found = np.random.default_rng(0), {}
    for name, shape in shapes:
        if len(shape) > 1:
            bound = np.float32(np.prod(shape[1:]) ** -0.5)
            found[name] = rng.random(shape, dtype=np.float32)
            found[name] *= 2 * bound
            found[name] -= bound
        else:
            found[name] = np.full(shape, float(name.endswith("weight")), np.float32)
    return found


def write_part(folder: Path, options: dict[str, Any]) -> None:
    """A model of diffusers."""
    from tinygen.models.huggingface import diffusers
    from tinygen.models.huggingface.diffusers_config import read_config
    from tinygen.nn import init
    from tinygen.storage.safetensors import save_file

    put(folder / "config.json", options)
    with init.skipped():
        model = diffusers.new_model(read_config(folder / "config.json")[0], rng=0)
    shapes = [
        (name, (p.shape[0] // len(names), *p.shape[1:]))
        for p, names in diffusers.sources(model)
        for name in names
    ]
    projections = (".proj_in.weight", ".proj_out.weight")  # 1×1 convolutions
    shapes = [(name, (*shape, 1, 1) if name.endswith(projections) else shape) for name, shape in shapes]
    save_file(folder / diffusers.WEIGHTS, weights(shapes), {"format": "pt"})


def write_text_encoder(folder: Path) -> None:
    from tinygen.models.huggingface.clip import norm_places, tower_places
    from tinygen.storage.safetensors import save_file

    put(folder / "config.json", TEXT)
    c, sizes = TEXT["hidden_size"], {"hidden": TEXT["intermediate_size"], "layers": TEXT["num_hidden_layers"]}
    places = tower_places("", "", {"channels": c, **sizes}) | norm_places("norm", "final_layer_norm", c)
    shapes = [(name, shape) for names, shape in places.values() for name in names]
    tables = {"token": TEXT["vocab_size"], "position": TEXT["max_position_embeddings"]}
    shapes += [(f"embeddings.{name}_embedding.weight", (rows, c)) for name, rows in tables.items()]
    tensors = {f"text_model.{name}": array for name, array in weights(shapes).items()}
    save_file(folder / "model.safetensors", tensors, {"format": "pt"})


def write_pipeline(folder: Path) -> None:
    """All parts, small; the tokenizer has bytes alone."""
    from tinygen.text.bpe import BYTES, LETTERS
    from tinygen.text.clip_bpe import BEGIN, END, LAST

    letters = [LETTERS[byte] for byte in BYTES]
    names = [*letters, *(letter + LAST for letter in letters), BEGIN, END]
    put(folder / "tokenizer" / "vocab.json", {name: i for i, name in enumerate(names)})
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    put(folder / "tokenizer" / "tokenizer_config.json", {"model_max_length": 77})
    write_text_encoder(folder / "text_encoder")
    write_part(folder / "unet", SMALL)
    write_part(folder / "vae", CODER)
    put(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    put(folder / "model_index.json", INDEX)


if __name__ == "__main__":
    place, kind = Path(sys.argv[1]), sys.argv[2]
    write_part(place, UNET) if kind == "unet" else write_pipeline(place)

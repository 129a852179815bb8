"""Stable Diffusion in small for tests: a model, and folders that are written without another library."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.diffusion import linear_schedule
from tinygen.models.huggingface import diffusers
from tinygen.models.huggingface.clip import norm_places, tower_places
from tinygen.models.huggingface.folders import split_parts
from tinygen.models.huggingface.scheduler_steps import StepScheduler
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig
from tinygen.models.text_to_image.stable_diffusion import StableDiffusion
from tinygen.storage.safetensors import save_file
from tinygen.text.bpe import BYTES, LETTERS
from tinygen.text.clip_bpe import BEGIN, END, LAST, CLIPTokenizer

MERGES = [("r", "e"), ("re", f"d{LAST}"), ("c", "a"), ("ca", f"t{LAST}"), ("t", "h"), ("th", f"e{LAST}")]

CODER = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 4,
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "sample_size": 4,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 520,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "eos_token_id": 519,
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """{name: id} and the merges of a tokenizer of CLIP's kind, in the published order: bytes, bytes at the
    end of a word, merges, begin and end."""
    letters = [LETTERS[byte] for byte in BYTES]
    names = [*letters, *(letter + LAST for letter in letters), *(a + b for a, b in MERGES), BEGIN, END]
    return {name: i for i, name in enumerate(names)}, MERGES


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def shaken(model: Any) -> Any:
    """The model with every weight changed, so that those which start as 0 have an effect, too."""
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def write_text_encoder(folder: Path, dtype: str = "float32") -> None:
    put(folder / "config.json", TEXT)
    config = TowerConfig(2, 2, 8, 12)
    tower = shaken(TextTower(520, 77, 519, config, None, rng=0))
    places = {
        **tower_places("", "", {"channels": 8, "hidden": 12, "layers": 2}),
        **norm_places("norm", "final_layer_norm", 8),
        "token.weight": (("embeddings.token_embedding.weight",), ()),
        "place.weight": (("embeddings.position_embedding.weight",), ()),
    }
    tensors: dict[str, Any] = {}
    for name, p in tower.named_parameters():
        tensors |= split_parts(p.numpy().astype(dtype), places[name][0])
    save_file(folder / "model.safetensors", {f"text_model.{name}": a for name, a in tensors.items()})


def write_part(folder: Path, options: dict[str, Any], dtype: str = "float32") -> None:
    """A model of diffusers with these options."""
    put(folder / "config.json", options)
    model = shaken(diffusers.new_model(diffusers.read_config(folder / "config.json")[0], rng=0))
    tensors: dict[str, Any] = {}
    for p, names in diffusers.sources(model):
        tensors |= split_parts(p.numpy().astype(dtype), names)
    save_file(folder / diffusers.WEIGHTS, tensors)


def write_tokenizer(folder: Path) -> None:
    vocab, merges = vocabulary()
    put(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def write_folder(folder: Path, channels: int = 4, dtype: str = "float32") -> None:
    """A whole folder. The UNet has 4 `channels`, or 9 for inpainting."""
    write_tokenizer(folder / "tokenizer")
    write_text_encoder(folder / "text_encoder", dtype)
    write_part(folder / "unet", UNET | {"in_channels": channels}, dtype)
    write_part(folder / "vae", CODER, dtype)
    put(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    put(folder / "model_index.json", INDEX)


def small(rng: Any, channels: int = 2) -> StableDiffusion:
    """A model with codes of 2 channels, for pictures of 8 × 8."""
    rng = np.random.default_rng(rng)
    return StableDiffusion(
        CLIPTokenizer(*vocabulary(), length=9),
        TextTower(520, 9, 519, TowerConfig(1, 2, 8), None, rng=rng),
        UNet(UNetConfig(channels, 2, 8, (1, 2), 1, groups=2, context=8), rng=rng),
        AutoencoderKL(AutoencoderConfig(latent=2, channels=8, multipliers=(1, 2), groups=2), rng=rng),
        StepScheduler(linear_schedule(60), "eps", "leading", 1, order=1, last=1),
        8,
    )

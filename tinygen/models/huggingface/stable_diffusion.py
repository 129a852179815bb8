"""Reads a folder of Stable Diffusion, as a StableDiffusionPipeline of `diffusers` is saved:

    model_index.json      the classes of the parts
    tokenizer/            CLIPTokenizer (`text/clip_bpe.py`)
    text_encoder/         CLIPTextModel (`clip_text.py`)
    unet/, vae/           UNet2DConditionModel, AutoencoderKL (`diffusers.py`)
    scheduler/            how noise becomes data (`schedulers.py`)

`safety_checker/`, a classifier of the pictures, and `feature_extractor/`, which prepares them for it, are
not read: they change nothing but pictures that they find unsafe, which become black there. Who publishes
pictures has to look at them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tinygen.models.huggingface import clip_text, diffusers, schedulers
from tinygen.models.huggingface.folders import CONFIG, CONFIG_LIMIT
from tinygen.models.pictures.autoencoder import AutoencoderKL
from tinygen.models.pictures.unet import UNet
from tinygen.models.text_to_image.stable_diffusion import StableDiffusion
from tinygen.ops.random import RNGLike
from tinygen.storage.files import CheckpointError, read_json, short_repr
from tinygen.text.clip_bpe import CLIPTokenizer

INDEX = "model_index.json"
PIPELINES = ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"]
PARTS: dict[str, tuple[str, ...]] = {
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "text_encoder": ("CLIPTextModel",),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "scheduler": tuple(schedulers.KINDS),
}
IGNORED = ("safety_checker", "feature_extractor", "requires_safety_checker", "image_encoder")
STEPS_OFFSET = 1
"""The steps_offset of these pipelines: diffusers replaces another one of an older folder, too."""

SIDE = 64  # of codes, where the UNet's config.json does not say it


def from_pretrained(folder: str | Path, *, rng: RNGLike = 0) -> StableDiffusion:
    """The model in a folder, in evaluation mode. Weights that the folder has in float16 stay in float16
    (`Module.astype`): they need half of the memory, and layers compute in float32. `rng` is for dropout in
    later training.

    Raises CheckpointError, naming the part, file, option or tensor, when something is missing, damaged, or
    not supported."""
    folder = Path(folder)
    index = folder / INDEX
    read_index(index)
    scheduler = replace(schedulers.from_pretrained(folder / "scheduler"), offset=STEPS_OFFSET)
    tokenizer = CLIPTokenizer.load(folder / "tokenizer")
    text_encoder = clip_text.from_pretrained(folder / "text_encoder", keep_half=True, rng=rng)
    unet = diffusers.from_pretrained(folder / "unet", keep_half=True, rng=rng)
    autoencoder = diffusers.from_pretrained(folder / "vae", keep_half=True, rng=rng)
    if not isinstance(unet, UNet) or not isinstance(autoencoder, AutoencoderKL):
        raise CheckpointError(index, "another class in unet or vae", "a UNet and an AutoencoderKL", "others")
    side = read_json(folder / "unet" / CONFIG, CONFIG_LIMIT).get("sample_size") or SIDE
    if type(side) is not int or not 1 <= side < 2**16:
        raise CheckpointError(
            folder / "unet" / CONFIG, "the option sample_size", "a whole number", short_repr(side)
        )
    try:
        model = StableDiffusion(
            tokenizer, text_encoder, unet, autoencoder, scheduler, side * autoencoder.config.factor
        )
    except ValueError as error:
        raise CheckpointError(index, "parts that do not fit together", "parts of one model", error) from error
    return model.eval()


def read_index(path: Path) -> None:
    """Raise CheckpointError unless a model_index.json describes a pipeline that can be read, and its parts
    are there."""
    found = read_json(path, CONFIG_LIMIT)

    def refuse(name: str, expected: object, value: Any) -> None:
        raise CheckpointError(path, f"the part {name}", expected, short_repr(value))

    if (kind := found.pop("_class_name", None)) not in PIPELINES:
        raise CheckpointError(path, "the option _class_name", " or ".join(PIPELINES), short_repr(kind))
    for name, classes in PARTS.items():
        part = found.pop(name, None)
        if not isinstance(part, list) or len(part) != 2 or part[1] not in classes:
            refuse(name, " or ".join(classes), part)
        if not (path.parent / name).is_dir():
            raise CheckpointError(path.parent, "lacks a part", f"the folder {name}", "none")
    for name, part in found.items():
        if not name.startswith("_") and name not in IGNORED and part not in (None, [None, None]):
            refuse(name, "no such part: tinygen does not know what it does", part)

"""Folders of Stable Diffusion: what they hold, float16, and what is refused, in one line."""

import json
import shutil

import numpy as np
import pytest
from sd_folders import CODER, INDEX, SCHEDULER, UNET, put, write_folder, write_part

from tinygen.models.huggingface.stable_diffusion import PARTS, from_pretrained
from tinygen.storage.files import CheckpointError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    write_folder(folder)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "sd")


def refused(folder, message):
    with pytest.raises(CheckpointError, match=message) as info:
        from_pretrained(folder)
    assert "\n" not in str(info.value)


def test_the_side_is_the_unets(folder):
    assert from_pretrained(folder).side == 32
    options = {name: value for name, value in UNET.items() if name != "sample_size"}
    put(folder / "unet" / "config.json", options)
    assert from_pretrained(folder).side == 512
    put(folder / "unet" / "config.json", options | {"sample_size": [4, 4]})
    refused(folder, "config.json: the option sample_size: expected a whole number")


def test_float16_is_kept(tmp_path):
    """All weights take half of the memory; pictures are nearly those of the same numbers in float32."""
    write_folder(tmp_path, dtype="float16")
    model = from_pretrained(tmp_path)
    assert {p.dtype.name for p in model.parameters()} == {"float16"}
    assert not model.training
    kept = model.sample(["a red cat"], rng=0, steps=2)
    assert kept.dtype == np.float32
    wide = model.astype(np.float32).sample(["a red cat"], rng=0, steps=2)
    np.testing.assert_allclose(wide, kept, atol=1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, f"lacks a part: expected the folder {part}")
    put(folder / "model_index.json", {name: value for name, value in INDEX.items() if name != part})
    refused(folder, f"model_index.json: the part {part}: expected")


@pytest.mark.parametrize("name", ["model_index.json", *(f"{part}/config.json" for part in ("unet", "vae"))])
def test_a_file_that_is_missing_or_damaged(folder, name):
    (folder / name).write_text("{")
    refused(folder, f"{name}: cannot be read")
    (folder / name).unlink()
    refused(folder, f"{name}: cannot be read")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("unet", ["diffusers", "SD3Transformer2DModel"]),
        ("text_encoder", ["transformers", "T5EncoderModel"]),
        ("text_encoder", None),
        ("tokenizer", "CLIPTokenizer"),
        ("scheduler", ["diffusers", "HeunDiscreteScheduler"]),
        ("text_encoder_2", ["transformers", "CLIPTextModelWithProjection"]),
    ],
)
def test_other_parts(folder, part, value):
    put(folder / "model_index.json", INDEX | {part: value})
    refused(folder, f"model_index.json: the part {part}: expected")


def test_what_is_ignored(folder):
    more = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
        "_diffusers_version": "0.6.0",
        "controlnet": [None, None],
    }
    put(folder / "model_index.json", INDEX | more)
    from_pretrained(folder)
    put(folder / "model_index.json", INDEX | {"_class_name": "StableDiffusionXLPipeline"})
    refused(folder, "model_index.json: the option _class_name: expected .* found 'StableDiffusionXLPipeline'")


def test_a_scheduler_or_a_block_that_is_not_known(folder):
    path = folder / "scheduler" / "scheduler_config.json"
    put(path, SCHEDULER | {"_class_name": "HeunDiscreteScheduler"})
    refused(folder, "scheduler_config.json: the option _class_name: expected one of DDIMScheduler")
    put(path, SCHEDULER)
    options = json.loads((folder / "unet" / "config.json").read_text())
    put(folder / "unet" / "config.json", options | {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 2})
    refused(folder, "unet/config.json: the option down_block_types")


def test_the_offset_of_older_folders_is_replaced(folder):
    """As diffusers' pipelines do it: their steps are 1, 51, … of 1000, whatever the folder says."""
    put(folder / "scheduler" / "scheduler_config.json", SCHEDULER | {"steps_offset": 0})
    numbers = from_pretrained(folder).scheduler.numbers(20)
    assert numbers.tolist() == list(range(951, 0, -50))


def test_parts_of_different_models(folder):
    write_part(folder / "vae", CODER | {"latent_channels": 3})
    refused(folder, "model_index.json: parts that do not fit together: .*codes have 3 channels")
    write_part(folder / "vae", UNET)
    refused(folder, "model_index.json: another class in unet or vae")

"""Damaged folders, in every family that can be read: the error names the file, the option or the tensor. Good
folders of several files are read. A new family is a row of FAMILIES."""

import contextlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sd_folders import write_text_encoder

from tinygen.align.lora import add_lora
from tinygen.models import BART, BERT, CLIP, GPT, T5, Llama
from tinygen.models.huggingface import clip_text, diffusers
from tinygen.models.huggingface.peft import load_adapters, save_adapters
from tinygen.models.language.bart import BARTConfig
from tinygen.models.language.bert import BERTConfig
from tinygen.models.language.gpt import GPTConfig
from tinygen.models.language.llama import LlamaConfig
from tinygen.models.language.t5 import T5Config
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

CODER = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 12],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 3,
    "norm_num_groups": 4,
}


def gpt() -> GPT:
    return GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, gelu="tanh"), rng=0)


def llama() -> Llama:
    return Llama(LlamaConfig(11, 8, layers=2, heads=4, kv_heads=2, channels=8, hidden=12), rng=0)


def bert(**changes: Any) -> BERT:
    return BERT(BERTConfig(11, 8, layers=2, heads=2, channels=8, hidden=12, dropout=0.0, **changes), rng=0)


SIZES = {"layers": 2, "decoder_layers": 1, "heads": 2, "channels": 8, "hidden": 12}


def t5() -> T5:
    return T5(T5Config(11, **SIZES, head_channels=4, dropout=0.0), rng=0)


def bart() -> BART:
    return BART(BARTConfig(11, 8, **SIZES, dropout=0.0, inner_dropout=0.0), rng=0)


def clip() -> CLIP:
    image, text = (TowerConfig(layers=1, heads=h, channels=c, hidden=12) for h, c in ((2, 8), (3, 6)))
    return CLIP(VisionTransformer(8, 4, 3, image, 5, rng=0), TextTower(11, 7, 5, text, 5, rng=0))


def write_coder(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CODER))
    model = diffusers.new_model(diffusers.read_config(folder / "config.json")[0], rng=0)
    parts = [(names, np.split(p.data, len(names))) for p, names in diffusers.sources(model)]
    tensors = {name: part for names, cut in parts for name, part in zip(names, cut, strict=True)}
    save_file(folder / "diffusion_pytorch_model.safetensors", tensors)


def write_adapters(folder: Path) -> None:
    model = gpt()
    add_lora(model, rank=2, alpha=5, rng=0)
    save_adapters(model, folder)


class Family(NamedTuple):
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    lost: str  # a tensor, of which the file lacks one
    turned: str  # a matrix that is not square
    kinds: tuple[str, ...]  # the options that name the class
    convert: str  # in the advice for a pickle
    config: str = "config.json"
    weights: str = "model.safetensors"

    def index(self, folder: Path) -> Path:
        return folder / f"{self.weights}.index.json"


FAMILIES = {
    "gpt2": Family(
        lambda folder: gpt().save_pretrained(folder),
        GPT.from_pretrained,
        *("transformer.ln_f.bias", "transformer.h.0.mlp.c_fc.weight"),
        *(("model_type", "architectures"), "AutoModelForCausalLM"),
    ),
    "llama": Family(
        lambda folder: llama().save_pretrained(folder),
        Llama.from_pretrained,
        *("model.norm.weight", "model.layers.0.mlp.up_proj.weight"),
        *(("model_type", "architectures"), "AutoModelForCausalLM"),
    ),
    "bert": Family(
        lambda folder: bert().save_pretrained(folder),
        BERT.from_pretrained,
        *("bert.pooler.dense.bias", "bert.encoder.layer.0.output.dense.weight"),
        *(("model_type", "architectures"), "AutoModelForPreTraining"),
    ),
    "roberta": Family(
        lambda folder: bert(next_sentence=False, pad=1, segments=1).save_pretrained(folder),
        BERT.from_pretrained,
        *("lm_head.dense.bias", "roberta.encoder.layer.0.output.dense.weight"),
        *(("model_type", "architectures"), "AutoModelFor"),
    ),
    "t5": Family(
        lambda folder: t5().save_pretrained(folder),
        T5.from_pretrained,
        *("decoder.final_layer_norm.weight", "encoder.block.0.layer.1.DenseReluDense.wi.weight"),
        *(("model_type", "architectures"), "AutoModelForSeq2SeqLM"),
    ),
    "bart": Family(
        lambda folder: bart().save_pretrained(folder),
        BART.from_pretrained,
        *("model.encoder.layernorm_embedding.bias", "model.decoder.layers.0.fc1.weight"),
        *(("model_type", "architectures"), "AutoModelForSeq2SeqLM"),
    ),
    "clip": Family(
        lambda folder: clip().save_pretrained(folder),
        CLIP.from_pretrained,
        *("logit_scale", "text_model.encoder.layers.0.mlp.fc1.weight"),
        *(("model_type", "architectures"), "CLIPModel"),
    ),
    "clip_text": Family(
        write_text_encoder,
        clip_text.from_pretrained,
        *("text_model.final_layer_norm.bias", "text_model.encoder.layers.0.mlp.fc1.weight"),
        *(("model_type", "architectures"), "CLIPTextModel"),
    ),
    "diffusers": Family(
        write_coder,
        diffusers.from_pretrained,
        *("decoder.conv_in.bias", "decoder.mid_block.resnets.0.conv1.weight"),
        *(("_class_name",), ""),
        weights="diffusion_pytorch_model.safetensors",
    ),
    "peft": Family(
        write_adapters,
        lambda folder: load_adapters(gpt(), folder),
        *("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight",) * 2,
        *(("peft_type",), ""),
        config="adapter_config.json",
        weights="adapter_model.safetensors",
    ),
}
MODELS = [name for name in FAMILIES if name != "peft"]  # peft writes one file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A good folder of each family."""
    folders = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    for name, family in FAMILIES.items():
        family.write(folders[name])
    return folders


@pytest.fixture(params=FAMILIES)
def case(request, written, tmp_path):
    return FAMILIES[request.param], Path(shutil.copytree(written[request.param], tmp_path / "model"))


@pytest.fixture(params=MODELS)
def several(request, written, tmp_path):
    """The weights in two files and an index."""
    family, folder = (
        FAMILIES[request.param],
        Path(shutil.copytree(written[request.param], tmp_path / "model")),
    )
    arrays = load_file(folder / family.weights)
    (folder / family.weights).unlink()
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(arrays)}
    for part in set(places.values()):
        save_file(folder / part, {name: arrays[name] for name in arrays if places[name] == part})
    family.index(folder).write_text(json.dumps({"weight_map": places}))
    return family, folder, places


def refuse(family: Family, folder: Path, message: str) -> str:
    with pytest.raises(CheckpointError, match=message) as info:
        family.read(folder)
    return str(info.value)


# -- config.json -----------------------------------------------------------------------------------


def edit(path: Path, option: str, value: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {option: value}))


def test_an_unknown_option(case):
    family, folder = case
    edit(folder / family.config, "an_option_of_the_future", 1)
    refuse(family, folder, rf"{family.config}: the option an_option_of_the_future: expected")


@pytest.mark.parametrize("value", ["Another", ["Another"], 7])
def test_an_unknown_class(case, value):
    family, folder = case
    good = (folder / family.config).read_text()
    for option in family.kinds:
        (folder / family.config).write_text(good)
        edit(folder / family.config, option, value)
        refuse(family, folder, rf"{family.config}: the option {option}: expected")


@pytest.mark.parametrize("value", [{"quant_method": "gptq"}, {"load_in_8bit": True}, "fp8"])
def test_quantized_weights(case, value):
    family, folder = case
    edit(folder / family.config, "quantization_config", value)
    refuse(family, folder, rf"{family.config}: the option quantization_config: expected none, and float32")


def numbers(options: Any, *place: str) -> list[tuple[str, ...]]:
    """The places of all whole numbers in the options."""
    if isinstance(options, dict):
        return [found for name, value in options.items() for found in numbers(value, *place, name)]
    return [place] if type(options) is int else []


def test_sizes_that_the_file_does_not_have(case):
    """Nothing is allocated by a size in the options before it has been compared with the tensors."""
    family, folder = case
    text, limit = (folder / family.config).read_text(), 30_000_000
    for *outer, last in numbers(json.loads(text)):
        options = json.loads(text)
        inner = options
        for name in outer:
            inner = inner[name]
        inner[last] = 2**30
        (folder / family.config).write_text(json.dumps(options))
        tracemalloc.start()
        with contextlib.suppress(CheckpointError):
            family.read(folder)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < limit, (outer, last)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1' + "0" * 5000 + "}", "[" * 100_000, "\udc80"])
def test_a_config_that_is_no_json_object(case, text):
    family, folder = case
    (folder / family.config).write_text(text, errors="surrogateescape")
    refuse(family, folder, rf"{family.config}: cannot be read: expected")


# -- files -----------------------------------------------------------------------------------------


def test_files_that_are_not_there(case):
    family, folder = case
    refuse(family, folder / "none", rf"none.*{family.config}: cannot be read")
    (folder / family.weights).unlink()
    refuse(family, folder, rf"no weights: expected .*{family.weights}")


def put(path: Path, kind: str) -> None:
    """A file that must not be read: a pipe would wait for ever, /dev/zero has no end, and a terabyte of zeros
    takes no room on the disk."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        os.symlink("/dev/zero", path)
    elif kind == "bytes":
        path.write_bytes(b"[" * 100_000 + b"\xff")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "bytes", "long"])
def test_files_that_must_not_be_read(case, kind):
    family, folder = case
    for name in (family.weights, family.config):
        put(folder / name, kind)
        refuse(family, folder, name)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "bytes", "long"])
def test_an_index_that_must_not_be_read(several, kind):
    family, folder, _ = several
    put(family.index(folder), kind)
    refuse(family, folder, f"{family.weights}.index.json")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "model.ckpt"])
def test_a_pickle_is_never_read(case, name):
    family, folder = case
    (folder / family.weights).rename(folder / name)
    refuse(family, folder, rf"{name}: a pickle.*expected {family.weights}.*{family.convert}")


def test_a_disk_that_refuses(written, tmp_path):
    (tmp_path / "file").write_text("")
    for name in MODELS[:-2]:  # tinygen writes no folders of diffusers, and no text encoders alone
        for path, file in ((tmp_path / "file", "file"), (tmp_path / "file" / "below", "below")):
            with pytest.raises(CheckpointError, match=f"{file}: cannot be written"):
                FAMILIES[name].write(path)


# -- tensors ---------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_the_tensors_is_listed(case):
    family, folder = case
    arrays = load_file(folder / family.weights)
    turned, lost = arrays[family.turned], arrays[family.lost]
    arrays |= {family.turned: turned.T, "score.weight": np.zeros((2, 8), np.float32)}
    if family.lost != family.turned:
        del arrays[family.lost]
    save_file(folder / family.weights, arrays)
    text = refuse(family, folder, rf"{family.weights}: another model")
    if family.lost != family.turned:
        assert f"\n  {family.lost} {lost.shape} is missing" in text
    assert f"\n  {family.turned} should be {turned.shape} by {family.config}, and is {turned.T.shape}" in text
    assert "\n  'score.weight' (2, 8) has no place in it" in text
    assert text.count("\n") == 2 + (family.lost != family.turned)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_weights_that_are_no_floating_point_numbers(case, dtype):
    """Quantized weights: a rule in the options turns them into the real ones."""
    family, folder = case
    arrays = load_file(folder / family.weights)
    save_file(folder / family.weights, arrays | {family.turned: arrays[family.turned].astype(dtype)})
    refuse(family, folder, rf"{family.turned}'?: not a weight: .*found {dtype}")


def test_weights_that_float32_cannot_hold(case):
    family, folder = case
    arrays = {name: array.astype(np.float64) for name, array in load_file(folder / family.weights).items()}
    arrays[family.turned].flat[3] = -3.5e38
    save_file(folder / family.weights, arrays)
    refuse(family, folder, rf"{family.turned}'?: too large for float32")


# -- several files ---------------------------------------------------------------------------------


def test_several_files(several, written):
    family, folder, _ = several
    name = next(name for name, each in FAMILIES.items() if each is family)
    one, loaded = family.read(written[name]).state_dict(), family.read(folder).state_dict()
    assert one.keys() == loaded.keys()
    assert all(loaded[name].tobytes() == array.tobytes() for name, array in one.items())


def test_a_damaged_or_missing_shard(several):
    family, folder, _ = several
    shard = folder / "model-1.safetensors"
    whole = shard.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", whole + b"0", b"\xff" * 8 + whole[8:]):
        shard.write_bytes(damaged)
        refuse(family, folder, r"model-1\.safetensors")
    shard.unlink()
    refuse(family, folder, r"model-1\.safetensors: cannot be read")


@pytest.mark.parametrize("name", ["../model-0.safetensors", "/etc/passwd", "model-0.bin", "", "..", "a/b"])
def test_an_index_that_points_elsewhere(several, name):
    family, folder, places = several
    family.index(folder).write_text(json.dumps({"weight_map": places | {family.turned: name}}))
    refuse(family, folder, "not a file of this folder")


def test_an_index_that_is_wrong(several):
    family, folder, places = several
    index, name = family.index(folder), family.turned
    other = "model-1.safetensors" if places[name] == "model-0.safetensors" else "model-0.safetensors"
    for changed, message in (
        (places | {name: other}, f"{name}'?: a file lacks a tensor"),
        (places | {name: "model-2.safetensors"}, r"model-2\.safetensors: cannot be read"),
        ([], "no weight_map"),
        ({"a": 1}, "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        refuse(family, folder, message)

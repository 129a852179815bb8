"""Reads and writes LoRA adapters in the format of Hugging Face's `peft`, a folder of two files:

    adapter_config.json             r, lora_alpha, lora_dropout, which layers, and options of other methods
    adapter_model.safetensors       two matrices a layer, A (r, in) and B (out, r), by the layer's name there:
                                    base_model.model.transformer.h.0.attn.c_attn.lora_A.weight

The folder does not contain the weights of the model. `load_adapters` adds the adapters to a model that has
these weights already; the weights must be the same as in the training of the adapters. The layers of a GPT
have the names of `transformers` in the folder; the layers of any other model have the same names as here.
`transformers` stores GPT-2's matrices as (in, out), and `fan_in_fan_out` says so; A and B have the same
layout there and here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.align.lora import LoRALinear, adaptable_layers, attach
from tinygen.arrays import to_device
from tinygen.models.huggingface.folders import ADAPTERS as CONFIG
from tinygen.models.huggingface.folders import (
    json_file,
    read_options,
    read_tensors,
    require_floats,
    require_same,
    write_folder,
)
from tinygen.models.huggingface.gpt2 import LAYERS
from tinygen.models.language.gpt import GPT
from tinygen.nn import Linear, Module
from tinygen.ops.random import RNGLike, as_generator
from tinygen.storage.files import CheckpointError, short_repr
from tinygen.types import NumpyArray

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."

FREE = (
    "auto_mapping",  # these six are notes
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
    "task_type",
    "fan_in_fan_out",  # the layout of the layer's own weight in the model's file
    "megatron_core",  # these three are settings of methods that must be off
    "qalora_group_size",
    "runtime_config",
)
"""Options of `peft` that do not change the output of an adapter."""

STARTS = (True, False, "gaussian", "orthogonal")
"""Values of init_lora_weights, the initialization of A and B, that leave the layer's own weight unchanged.
The other values (PiSSA, OLoRA, LoftQ, ...) change that weight too, so their adapters do not fit the
original one."""


def transformers_name(model: Module, name: str) -> str:
    """The name of the model's layer in `transformers`; for a model other than GPT, its own name."""
    block = re.fullmatch(r"(h\.\d+)\.(.+)", name)
    if isinstance(model, GPT) and block and block[2] in LAYERS:
        return f"transformer.{block[1]}.{LAYERS[block[2]]}"
    return name


# -- writing ---------------------------------------------------------------------------------------


def save_adapters(model: Module, folder: str | Path, base_model: str | None = None) -> None:
    """Write the adapters of the model, merged or not, as a folder that `load_adapters` and `peft` can read.

    `base_model` is a note for `peft`: the name or the folder of the model without adapters. Raises
    ValueError when the model has no adapters, or when they differ in rank, alpha or dropout;
    CheckpointError when writing fails."""
    found = {
        transformers_name(model, path): m for path, m in model.named_modules() if isinstance(m, LoRALinear)
    }
    settings = {(m.rank, number_of(m.alpha.numpy()), m.drop.p) for m in found.values()}
    if len(settings) != 1:
        has = sorted(settings) or "none: add_lora(model, ...) puts some beside its layers"
        raise ValueError(f"adapters of one rank, alpha and dropout are needed, the model has {has}")
    [(rank, alpha, dropout)] = settings
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if isinstance(model, GPT) else None,
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": list(found),
        "fan_in_fan_out": any(name.startswith("transformer.h.") for name in found) and isinstance(model, GPT),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    tensors = {}
    for name, m in found.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = m.lora_a.numpy()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = m.lora_b.numpy()
    write_folder(folder, WEIGHTS, tensors, {CONFIG: json_file(config)})


def number_of(scalar: Any) -> int | float:
    """The shortest decimal number that rounds to this one in its own precision: 0.1, not 0.10000000149."""
    value = float(str(scalar))
    return int(value) if value.is_integer() else value


# -- reading ---------------------------------------------------------------------------------------


def load_adapters(model: Module, folder: str | Path, *, rng: RNGLike = 0) -> list[str]:
    """Add the adapters in a folder to a model that has none. As after `add_lora`, everything except the
    adapters is frozen, and they can be trained further. Returns the names of the layers with an adapter.

    Dropout in the adapters draws from `rng`. Raises CheckpointError, which names the option or tensor, when
    something is missing or damaged, does not fit the model, or needs more than tinygen's LoRA; then the model
    has not changed. Raises ValueError when the model has adapters already."""
    folder, layers = Path(folder), adaptable_layers(model)
    config = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder, WEIGHTS)
    require_floats(path, tensors)
    names = {transformers_name(model, ours): ours for ours in layers}
    if any(name.startswith(f"{PREFIX}h.") for name in tensors):  # from a GPT-2 without a head (GPT2Model)
        names = {theirs.removeprefix("transformer."): ours for theirs, ours in names.items()}
    ends = tuple(f".{target}" for target in config["target_modules"])
    chosen = {theirs: layers[ours] for theirs, ours in names.items() if f".{theirs}".endswith(ends)}
    require_fit(folder, config, chosen, tensors)
    beside, rng = {names[theirs]: layer for theirs, layer in chosen.items()}, as_generator(rng)
    start = np.random.default_rng(0)  # draws matrices that are replaced below, so that `rng` stays unused
    placed = attach(model, beside, config["r"], config["lora_alpha"], config["lora_dropout"], start)
    for theirs in chosen:
        adapter = placed[names[theirs]]
        adapter.drop.rng = rng
        for side, p in (("A", adapter.lora_a), ("B", adapter.lora_b)):
            array = np.array(tensors[f"{PREFIX}{theirs}.lora_{side}.weight"], p.dtype)
            p.data = to_device(array, p.device)
    return list(placed)


def require_fit(
    folder: Path, config: Mapping[str, Any], layers: Mapping[str, Linear], tensors: Mapping[str, NumpyArray]
) -> None:
    """Raise CheckpointError unless the tensors are adapters for these layers, given by their names in the
    file. For an adapted head, peft also writes the head's own weight: it must be equal to the model's."""
    path, rank, targets = folder / WEIGHTS, config["r"], short_repr(config["target_modules"])
    if not layers:
        raise CheckpointError(folder / CONFIG, "the option target_modules", "layers of the model", targets)
    wanted = {}
    for name, layer in layers.items():
        out_features, in_features = layer.weight.shape
        wanted[f"{PREFIX}{name}.lora_A.weight"] = rank, in_features
        wanted[f"{PREFIX}{name}.lora_B.weight"] = out_features, rank
        if (base := f"{PREFIX}{name}.base_layer.weight") in tensors:
            wanted[base] = out_features, in_features
            if not np.array_equal(tensors[base].astype(layer.weight.dtype), layer.weight.numpy()):
                raise CheckpointError(path, "beside another weight", "the model's own", "other numbers", base)
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()}, CONFIG)
    most = min(min(layer.weight.shape) for layer in layers.values())
    if rank > most:
        raise CheckpointError(folder / CONFIG, "the option r", f"at most {most}, a side of a matrix", rank)


def read_config(path: Path) -> dict[str, Any]:
    """The options of LoRA. Raises CheckpointError for the first option that is wrong, or that needs more than
    tinygen's LoRA."""
    found = {"lora_dropout": 0.0, "bias": "none", "init_lora_weights": True, **read_options(path)}

    def check(name: str, good: bool, expected: str) -> None:
        if not good:
            raise CheckpointError(path, f"the option {name}", expected, short_repr(found.get(name)))

    numbers, targets = (int, float), found.get("target_modules")
    check("peft_type", found.get("peft_type") == "LORA", "'LORA'")
    check("r", type(found.get("r")) is int and 0 < found["r"] < 2**31, "a whole number from 1")
    alpha: Any = found.get("lora_alpha")
    dropout = found["lora_dropout"]
    check("lora_alpha", type(alpha) in numbers and 1e-30 < alpha < 1e30, "a number above 0, below 1e30")
    check("lora_dropout", type(dropout) in numbers and 0 <= dropout < 1, "a number from 0, below 1")
    good = isinstance(targets, list) and targets and all(isinstance(name, str) and name for name in targets)
    check("target_modules", bool(good), "a list of names; a regular expression is not run here")
    check("bias", found["bias"] == "none", "'none': adapters here train no biases")
    start = found["init_lora_weights"]
    check("init_lora_weights", type(start) in (bool, str) and start in STARTS, f"one of {list(STARTS)}")
    checked = ("peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "bias", "init_lora_weights")
    for name, value in found.items():
        if name not in (*FREE, *checked):
            off = value is None or value is False or value == [] or value == {}  # 0 may be a layer's number
            check(name, off, "off: LoRA here can do nothing of the kind")
    return found

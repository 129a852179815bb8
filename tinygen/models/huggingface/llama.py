"""Reads and writes Llama and its relatives in folders of Hugging Face's format, for `language/llama.py`:

    config.json           the sizes, and options of the architecture (`llama_config.py`)
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)

Tensors have the names of `transformers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.models.huggingface.folders import (
    CONFIG,
    CONVERT_LANGUAGE_MODEL,
    LANGUAGE_MODEL,
    differences,
    json_file,
    read_tensors,
    require_floats,
    require_same,
    write_folder,
)
from tinygen.models.huggingface.llama_config import options_of, read_config
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

# -- names -----------------------------------------------------------------------------------------

LAYERS = {
    "norm1": "input_layernorm",
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "attn.proj": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
"""The layers of a block: their names here, and their names in the file."""

FREQUENCIES = re.compile(r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""The frequencies of the rotation, which older files also hold for each block. They follow from
rope_theta."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{a parameter's name here: (its name in the file, its shape)} for a model with these complete
    options."""
    c, d, hidden = config["channels"], config["head_channels"], config["hidden"]
    q, kv = config["heads"] * d, config["kv_heads"] * d
    qkv_bias, mlp_bias = config["qkv_bias"], config["mlp_bias"]
    layers: dict[str, tuple[int, int, bool]] = {  # (outputs, inputs, bias)
        "attn.q": (q, c, qkv_bias),
        "attn.k": (kv, c, qkv_bias),
        "attn.v": (kv, c, qkv_bias),
        "attn.proj": (c, q, config["proj_bias"]),
        "mlp.gate": (hidden, c, mlp_bias),
        "mlp.up": (hidden, c, mlp_bias),
        "mlp.down": (c, hidden, mlp_bias),
    }
    norms = {"norm1": c, "norm2": c} | ({"attn.q_norm": d, "attn.k_norm": d} if config["qk_norm"] else {})
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "wte.weight": ("model.embed_tokens.weight", (config["vocab_size"], c)),
        "norm.weight": ("model.norm.weight", (c,)),
    }
    for i in range(config["layers"]):
        for ours, theirs in LAYERS.items():
            name, their_name = f"h.{i}.{ours}", f"model.layers.{i}.{theirs}"
            if ours in norms:
                found[f"{name}.weight"] = f"{their_name}.weight", (norms[ours],)
            elif ours in layers:
                outputs, inputs, bias = layers[ours]
                found[f"{name}.weight"] = f"{their_name}.weight", (outputs, inputs)
                if bias:
                    found[f"{name}.bias"] = f"{their_name}.bias", (outputs,)
    if not config["tie_weights"]:
        found["lm_head.weight"] = "lm_head.weight", (config["vocab_size"], c)
    return found


# -- reading and writing ---------------------------------------------------------------------------


def read(folder: str | Path, block_size: int | None = None) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The fields of a LlamaConfig, and {name: array} of every parameter, with the names in `Llama`.

    Raises CheckpointError when something is missing or damaged, or `Llama` does not support the model."""
    folder = Path(folder)
    config = read_config(folder / CONFIG, block_size)
    path, tensors = read_tensors(folder, LANGUAGE_MODEL, CONVERT_LANGUAGE_MODEL)
    tensors = {name: a for name, a in tensors.items() if not FREQUENCIES.fullmatch(name)}
    if "embed_tokens.weight" in tensors:  # saved without a head, and without the prefix
        tensors = {name if name == "lm_head.weight" else f"model.{name}": a for name, a in tensors.items()}
    require_floats(path, tensors)
    if config["layers"] > len(tensors):  # checked before `shapes` makes a list of that length
        raise CheckpointError(path, "too few tensors", f"{config['layers']} layers", len(tensors))
    names = shapes(config)
    wanted = dict(names.values())
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    if config["tie_weights"] and head in tensors:
        wanted[head] = wanted[table]
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    tied = config["tie_weights"] and head in tensors
    if tied and not np.array_equal(tensors[head], tensors[table], equal_nan=True):
        problem = "tie_word_embeddings is on, and the two differ"
        raise CheckpointError(path, problem, table, "other values", head)
    return config, {ours: tensors.pop(theirs) for ours, (theirs, _) in names.items()}


def write(folder: str | Path, config: Mapping[str, Any], state: Mapping[str, NumpyArray]) -> None:
    """Write model.safetensors, then config.json, from a LlamaConfig and all arrays by their names in `Llama`.

    Raises ValueError, before anything is written, if an array is missing, unexpected or of another shape;
    CheckpointError if writing fails."""
    options, names = options_of(config), shapes(config)
    head = state.get("lm_head.weight")
    if config["tie_weights"] and head is not None:
        if not np.array_equal(head, state.get("wte.weight", []), equal_nan=True):
            raise ValueError("lm_head.weight is not wte.weight, as config.tie_weights says")
        state = {name: array for name, array in state.items() if name != "lm_head.weight"}
    needed = {ours: shape for ours, (_, shape) in names.items()}
    if listed := differences(needed, {ours: a.shape for ours, a in state.items()}, "the config"):
        raise ValueError(f"this is not the Llama of its config, which has {len(needed)} tensors:{listed}")
    tensors = {theirs: state[ours] for ours, (theirs, _) in names.items()}
    write_folder(folder, LANGUAGE_MODEL, tensors, {CONFIG: json_file(options)})

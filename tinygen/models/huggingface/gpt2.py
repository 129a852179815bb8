"""Reads and writes GPT-2 in a folder of Hugging Face's format, for `GPT` (`language/gpt.py`):

    config.json           the sizes, and options of the architecture
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)
    vocab.json, merges.txt    the tokenizer: `tinygen.text.BPE` reads and writes those

Options and tensors have their names from `transformers` (GPT2Config, GPT2LMHeadModel), which follow the
code of Radford et al. 2019. Each block has four matrices. They are (in, out) in the file, because that code
computes x W; they are (out, in) here, so reading and writing transposes them. Only JSON and safetensors are
ever read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.models.huggingface.folders import (
    ADAPTERS,
    CONFIG,
    CONVERT_LANGUAGE_MODEL,
    LANGUAGE_MODEL,
    Options,
    differences,
    json_file,
    read_tensors,
    require_floats,
    require_same,
    write_folder,
)
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

# -- names -----------------------------------------------------------------------------------------

LAYERS = {
    "ln1": "ln_1",
    "attn.qkv": "attn.c_attn",
    "attn.proj": "attn.c_proj",
    "ln2": "ln_2",
    "mlp.fc": "mlp.c_fc",
    "mlp.proj": "mlp.c_proj",
}
"""The layers of a block: their names here, and their names in the file."""

MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
"""The causal mask of each block, a constant that older files also hold. It is not read."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{a parameter's name here: (its name in the file, its shape in the file)} for a model with this
    config."""
    c = config["n_embd"]
    widths = {"attn.qkv": (c, 3 * c), "attn.proj": (c, c), "mlp.fc": (c, 4 * c), "mlp.proj": (4 * c, c)}
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "wte.weight": ("wte.weight", (config["vocab_size"], c)),
        "wpe.weight": ("wpe.weight", (config["n_positions"], c)),
        "ln_f.weight": ("ln_f.weight", (c,)),
        "ln_f.bias": ("ln_f.bias", (c,)),
    }
    for i in range(config["n_layer"]):
        for ours, theirs in LAYERS.items():
            weight = widths.get(ours, (c,))  # in, out; in a layer norm the channels alone
            found[f"h.{i}.{ours}.weight"] = f"h.{i}.{theirs}.weight", weight
            found[f"h.{i}.{ours}.bias"] = f"h.{i}.{theirs}.bias", weight[-1:]
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = "lm_head.weight", (config["vocab_size"], c)
    return found


def transpose_matrices(name: str, array: NumpyArray) -> NumpyArray:
    """The tensor in the layout of the other side: matrices of a block are (in, out) in the file, (out, in)
    here."""
    return array.T if name.startswith("h.") and array.ndim == 2 else array


# -- config.json -----------------------------------------------------------------------------------

DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "layer_norm_epsilon": 1e-5,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
}
"""The options of the smallest GPT-2: defaults for options that are not in config.json."""

GELU = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""Values of activation_function, and the argument of `ops.gelu` for each."""

CLASS = "GPT2LMHeadModel"

ALIASES = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}
"""Other names of options, which `transformers` also reads."""

FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "is_decoder": False,
}
"""Options for which `GPT` supports only the usual value."""

FREE = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "use_cache"),
    *("torch_dtype", "dtype", "transformers_version", "gradient_checkpointing", "output_past"),
    *("task_specific_params", "id2label", "label2id", "n_ctx", "reorder_and_upcast_attn"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *("summary_first_dropout", "output_attentions", "output_hidden_states"),
)
"""Options that do not change the logits if the other options have supported values."""


def read_config(path: Path) -> dict[str, Any]:
    """The options of a GPT-2. Raises CheckpointError for the first that is wrong or that `GPT` does not
    support."""
    o = Options(path)
    o.choice("model_type", None, "gpt2")
    o.choice("architectures", [CLASS], None, [CLASS], ["GPT2Model"])
    for name, alias in ALIASES.items():
        if alias in o.left:
            found = o.left.pop(alias)
            if o.left.setdefault(name, found) != found:
                o.refuse(alias, f"the same as {name}", found)
    config: dict[str, Any] = {
        name: o.size(name, DEFAULTS[name]) for name in ("vocab_size", "n_positions", "n_embd", "n_layer")
    }
    channels = config["n_embd"]
    config["n_head"] = o.size("n_head", DEFAULTS["n_head"])
    if channels % config["n_head"]:
        o.refuse("n_head", f"a divisor of n_embd={channels}", config["n_head"])
    for name in ("layer_norm_epsilon", "embd_pdrop", "attn_pdrop", "resid_pdrop"):
        config[name] = o.rate(name, DEFAULTS[name])
    config["activation_function"] = o.choice("activation_function", DEFAULTS["activation_function"], *GELU)
    config["tie_word_embeddings"] = o.flag("tie_word_embeddings", DEFAULTS["tie_word_embeddings"])
    for name, value in FIXED.items():
        o.choice(name, value)
    o.choice("n_inner", None, None, 4 * channels)
    o.choice("pruned_heads", None, None, {})
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    return config


# -- reading ---------------------------------------------------------------------------------------


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The options in config.json, and {name: array} of every parameter, with names and shapes as in `GPT`.

    Raises CheckpointError when something is missing or damaged, or `GPT` does not support the model."""
    folder = Path(folder)
    if (folder / ADAPTERS).exists() and not (folder / CONFIG).exists():
        way = f"{CONFIG}; load_adapters(model, folder) puts adapters beside the layers of a model"
        raise CheckpointError(folder, "adapters, and no model", way, ADAPTERS)
    config = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder, LANGUAGE_MODEL, CONVERT_LANGUAGE_MODEL)
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    tensors = {name: a for name, a in tensors.items() if not MASKS.fullmatch(name.removeprefix(prefix))}
    require_floats(path, tensors)
    if config["n_layer"] > len(tensors):  # checked before `shapes` makes a list of n_layer · 12 names
        raise CheckpointError(path, "too few tensors", f"n_layer={config['n_layer']} blocks", len(tensors))
    head = (
        tensors["lm_head.weight"] if config["tie_word_embeddings"] and "lm_head.weight" in tensors else None
    )
    names = {
        ours: (theirs if theirs.startswith("lm_head") else prefix + theirs, shape)
        for ours, (theirs, shape) in shapes(config).items()
    }
    wanted = dict(names.values())
    if head is not None:
        wanted["lm_head.weight"] = wanted[f"{prefix}wte.weight"]
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    if head is not None and not np.array_equal(head, tensors[f"{prefix}wte.weight"], equal_nan=True):
        raise CheckpointError(
            path,
            "tie_word_embeddings is on, and the two differ",
            "wte.weight",
            "other values",
            "lm_head.weight",
        )
    return config, {ours: transpose_matrices(ours, tensors[theirs]) for ours, (theirs, _) in names.items()}


# -- writing ---------------------------------------------------------------------------------------


def write(
    folder: str | Path,
    options: Mapping[str, Any],
    state: Mapping[str, NumpyArray],
    bias: bool = True,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write model.safetensors, then `files` (of a tokenizer), then config.json with these `options`. GPT-2
    always has biases: if the model has none (`bias` is False), zeros are written for them.

    `state` has every array of the model by its name in `GPT`. Raises ValueError, before anything is written,
    when an array is missing or there is another one; CheckpointError when writing fails."""
    tensors = tensors_of(shapes(options), state, bias, options["tie_word_embeddings"])
    about = {"architectures": [CLASS], "model_type": "gpt2"}
    write_folder(folder, LANGUAGE_MODEL, tensors, {**(files or {}), CONFIG: json_file({**about, **options})})


def tensors_of(
    wanted: Mapping[str, tuple[str, tuple[int, ...]]], state: Mapping[str, NumpyArray], bias: bool, tied: bool
) -> dict[str, NumpyArray]:
    """The tensors for the file. The state must have each of them, except the biases (without `bias`) and a
    head that is `tied` to the embedding. Raises ValueError otherwise."""
    head = state.get("lm_head.weight")
    if tied and head is not None:
        if not np.array_equal(head, state.get("wte.weight", []), equal_nan=True):
            raise ValueError("lm_head.weight is not wte.weight, as config.tie_weights says")
        state = {name: array for name, array in state.items() if name != "lm_head.weight"}
    zeros = {
        ours: np.zeros(shape, np.float32)
        for ours, (_, shape) in wanted.items()
        if not bias and ours.endswith(".bias") and ours not in state
    }
    found = {ours: transpose_matrices(ours, array) for ours, array in {**state, **zeros}.items()}
    needed = {ours: shape for ours, (_, shape) in wanted.items()}
    if listed := differences(needed, {ours: array.shape for ours, array in found.items()}, "the config"):
        raise ValueError(f"this is not the GPT of its config, which has {len(needed)} tensors:{listed}")
    return {
        (theirs if theirs.startswith("lm_head") else f"transformer.{theirs}"): found[ours]
        for ours, (theirs, _) in wanted.items()
    }

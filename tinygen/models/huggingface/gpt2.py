"""GPT-2 as the rest of the world keeps it: a folder in Hugging Face's format, read and written.

    config.json           the sizes, and options of the architecture
    model.safetensors     the weights (or several files, and model.safetensors.index.json says what is where)
    vocab.json, merges.txt    the tokenizer: `tinygen.text.BPE` reads and writes those

The names of options and tensors are those of `transformers` (GPT2Config, GPT2LMHeadModel), which follow
Radford et al. 2019's own code. Its four matrices a block are (in, out), as that code multiplies x W; here
they are (out, in), so they are transposed on the way. Nothing but JSON and safetensors is ever read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.models.huggingface.weights import (
    CONFIG,
    CONFIG_LIMIT,
    differences,
    read_shards,
    require_floats,
    require_no_quantization,
    require_same,
)
from tinygen.storage.files import (
    CheckpointError,
    disk_errors,
    make_folder,
    read_json,
    replace_file,
    short,
)
from tinygen.storage.safetensors import load_file, save_file
from tinygen.types import NumpyArray

if TYPE_CHECKING:
    from tinygen.models.language.gpt import GPTConfig
    from tinygen.text.bpe import BPE

ADAPTERS = "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# -- names -----------------------------------------------------------------------------------------

LAYERS = {
    "ln1": "ln_1",
    "attn.qkv": "attn.c_attn",
    "attn.proj": "attn.c_proj",
    "ln2": "ln_2",
    "mlp.fc": "mlp.c_fc",
    "mlp.proj": "mlp.c_proj",
}
"""The layers of a block by their names here, and by GPT-2's."""

MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
"""Older files also hold the causal mask, block by block. It is a constant."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{the name of a parameter here: (its name there, its shape there)} of a model with this config.json."""
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
            weight = widths.get(ours, (c,))  # (in, out), or of a layer norm (C,)
            found[f"h.{i}.{ours}.weight"] = f"h.{i}.{theirs}.weight", weight
            found[f"h.{i}.{ours}.bias"] = f"h.{i}.{theirs}.bias", weight[-1:]
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = "lm_head.weight", (config["vocab_size"], c)
    return found


def turned(name: str, array: NumpyArray) -> NumpyArray:
    """A tensor of the other side: a block's matrices are (in, out) there and (out, in) here."""
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
"""What an option is that config.json leaves out: the smallest GPT-2."""

GELU = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""activation_function, and what `ops.gelu` calls it."""

ALIASES = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}
"""Other names that `transformers` takes for an option."""

FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
"""Options for which `GPT` has but one value, the usual one."""


def read_config(path: Path) -> dict[str, Any]:
    """The options of a GPT-2. CheckpointError names the first that is wrong, or that `GPT` cannot express."""
    found = read_json(path, CONFIG_LIMIT)
    require_no_quantization(path, found)

    def check(name: str, good: bool, expected: object) -> None:
        if not good:
            raise CheckpointError(path, f"the option {name}", expected, short(found.get(name)))

    check("model_type", found.get("model_type") == "gpt2", "'gpt2'")
    for name, alias in ALIASES.items():
        if alias in found:
            check(alias, found.setdefault(name, found[alias]) == found[alias], f"the same as {name}")
    config = {name: found.get(name, value) for name, value in DEFAULTS.items()}
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
        check(name, type(config[name]) is int and 0 < config[name] < 2**31, "a whole number from 1")
    check("n_head", config["n_embd"] % config["n_head"] == 0, f"a divisor of n_embd={config['n_embd']}")
    for name in ("layer_norm_epsilon", "embd_pdrop", "attn_pdrop", "resid_pdrop"):
        check(name, type(config[name]) in (int, float) and 0 <= config[name] < 1, "a number from 0, below 1")
    activation = config["activation_function"]
    check("activation_function", isinstance(activation, str) and activation in GELU, f"one of {list(GELU)}")
    check("tie_word_embeddings", type(config["tie_word_embeddings"]) is bool, "true or false")
    for name, value in FIXED.items():
        check(name, found.get(name, value) is value, f"{value}, all that tinygen's GPT can do")
    wide = 4 * config["n_embd"]
    check("n_inner", found.get("n_inner") in (None, wide), f"null or 4 n_embd = {wide}")
    check("pruned_heads", found.get("pruned_heads") in (None, {}), "none")
    return config


# -- reading ---------------------------------------------------------------------------------------


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The options of config.json, and {name: array} of every parameter, named and shaped as in `GPT`.

    Raises CheckpointError for what is missing, damaged, or not a model that `GPT` can express."""
    folder = Path(folder)
    if (folder / ADAPTERS).exists() and not (folder / CONFIG).exists():
        way = f"{CONFIG}; load_adapters(model, folder) puts adapters beside the layers of a model"
        raise CheckpointError(folder, "adapters, and no model", way, ADAPTERS)
    config = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder)
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    tensors = {name: a for name, a in tensors.items() if not MASKS.fullmatch(name.removeprefix(prefix))}
    require_floats(path, tensors)
    if config["n_layer"] > len(tensors):  # before a list of names is made that is as long as config.json says
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
    return config, {ours: turned(ours, tensors[theirs]) for ours, (theirs, _) in names.items()}


def read_tensors(folder: Path) -> tuple[Path, dict[str, NumpyArray]]:
    """The file, or the index of several, and {name: array} of all."""
    single, index = folder / WEIGHTS, folder / INDEX
    if single.exists():
        return single, load_file(single)
    if index.exists():
        return index, read_shards(index)
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise CheckpointError(
            folder / pickles[0],
            "a pickle, which can run any program when it is loaded, and is never read here",
            f"{WEIGHTS}: download that, or convert this one where you trust it, with transformers: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)",
            ", ".join(pickles),
        )
    raise CheckpointError(folder, "no weights", f"{WEIGHTS} or {INDEX}", "neither")


# -- writing ---------------------------------------------------------------------------------------


def write(
    folder: str | Path,
    config: GPTConfig,
    state: Mapping[str, NumpyArray],
    tokenizer: BPE | None = None,
    end: int | None = None,
) -> None:
    """Write config.json and model.safetensors, and the tokenizer's files. GPT-2 always has biases: a model
    whose config has none gets zeros.

    `state` has every array of the model by its name in `GPT`, `end` is the id of the token that ends a text.
    ValueError, before anything is written, when it has not, or has others; CheckpointError when the disk
    refuses."""
    options = {
        **{name: getattr(config, name) for name in ("vocab_size", "n_embd", "n_layer", "n_head")},
        "n_positions": config.block_size,
        "layer_norm_epsilon": config.norm_eps,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "activation_function": {"tanh": "gelu_new", "none": "gelu"}[config.gelu],
        "tie_word_embeddings": config.tie_weights,
    }
    tensors = tensors_of(config, shapes(options), state)
    texts = {} if tokenizer is None else tokenizer.files()
    folder = Path(folder)
    about = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    text = json.dumps({**about, **options, "bos_token_id": end, "eos_token_id": end}, indent=2)
    with disk_errors(folder):
        make_folder(folder)
        # The weights first: where the disk is full, it is here that it says so, and nothing has changed.
        save_file(folder / WEIGHTS, tensors, {"format": "pt"})  # so transformers wants it
        for name, content in {**texts, CONFIG: f"{text}\n".encode()}.items():
            replace_file(folder / name, [content])


def tensors_of(
    config: GPTConfig, wanted: Mapping[str, tuple[str, tuple[int, ...]]], state: Mapping[str, NumpyArray]
) -> dict[str, NumpyArray]:
    """The tensors of the file, of which each is in the state but for biases that the model does not have, and
    the head that it is tied to. ValueError when that is not so."""
    head = state.get("lm_head.weight")
    if config.tie_weights and head is not None:
        if not np.array_equal(head, state.get("wte.weight", []), equal_nan=True):
            raise ValueError("lm_head.weight is not wte.weight, as config.tie_weights says")
        state = {name: array for name, array in state.items() if name != "lm_head.weight"}
    zeros = {
        ours: np.zeros(shape, np.float32)
        for ours, (_, shape) in wanted.items()
        if not config.bias and ours.endswith(".bias") and ours not in state
    }
    found = {ours: turned(ours, array) for ours, array in {**state, **zeros}.items()}
    needed = {ours: shape for ours, (_, shape) in wanted.items()}
    if listed := differences(needed, {ours: array.shape for ours, array in found.items()}, "the config"):
        raise ValueError(f"this is not the GPT of its config, which has {len(needed)} tensors:{listed}")
    return {
        (theirs if theirs.startswith("lm_head") else f"transformer.{theirs}"): found[ours]
        for ours, (theirs, _) in wanted.items()
    }

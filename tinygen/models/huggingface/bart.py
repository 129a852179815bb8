"""Reads and writes BART in a folder of Hugging Face's format, for `BART` (`language/bart.py`):

    config.json           the sizes, and options of the architecture
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)

Options and tensors have their names from `transformers` (BartConfig, BartForConditionalGeneration). Queries,
keys and values have a matrix each in the file; here those of self-attention are one matrix, and keys and
values of cross-attention are one. Only JSON and safetensors are ever read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.models.huggingface.folders import (
    CONFIG,
    LANGUAGE_MODEL,
    Options,
    differences,
    join_parts,
    joined_shape,
    json_file,
    read_tensors,
    require_floats,
    require_same,
    split_parts,
    write_folder,
)
from tinygen.models.huggingface.t5 import CONVERT
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

# -- names -----------------------------------------------------------------------------------------

TABLE, BIAS = "model.shared.weight", "final_logits_bias"
COPIES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
"""Copies of the embedding, which older files also hold."""

LAYERS = {
    "attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.proj": ("self_attn.out_proj",),
    "norm1": ("self_attn_layer_norm",),
    "cross.q": ("encoder_attn.q_proj",),
    "cross.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross.proj": ("encoder_attn.out_proj",),
    "norm_cross": ("encoder_attn_layer_norm",),
    "fc": ("fc1",),
    "proj": ("fc2",),
    "norm2": ("final_layer_norm",),
}
"""The layers of a block: their names here, and the names of their parts in the file."""

UNUSED = 2
"""Rows of the tables of positions before the row of position 0."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """{an array's name here: (the names of its parts in the file, the shape of each part)} for a model with
    these fields of a BARTConfig."""
    c, v, hidden = config["channels"], config["vocab_size"], config["hidden"]
    found: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
        "embedding.weight": ((TABLE,), (v, c)),
        "logits_bias": ((BIAS,), (1, v)),
    }

    def add(ours: str, theirs: tuple[str, ...], weight: tuple[int, ...]) -> None:
        found[f"{ours}.weight"] = tuple(f"{their}.weight" for their in theirs), weight
        found[f"{ours}.bias"] = tuple(f"{their}.bias" for their in theirs), weight[:1]

    for stack, layers in (("encoder", config["layers"]), ("decoder", config["decoder_layers"])):
        table = (f"model.{stack}.embed_positions.weight",)
        found[f"{stack}_positions.weight"] = table, (UNUSED + config["block_size"], c)
        add(f"{stack}_norm", (f"model.{stack}.layernorm_embedding",), (c,))
        for i in range(layers):
            for ours, theirs in LAYERS.items():
                if stack == "decoder" or "cross" not in ours:
                    weight = {"fc": (hidden, c), "proj": (c, hidden)}.get(ours, (c, c))
                    there = tuple(f"model.{stack}.layers.{i}.{their}" for their in theirs)
                    add(f"{stack}.{i}.{ours}", there, (c,) if "norm" in ours else weight)
    return found


# -- config.json -----------------------------------------------------------------------------------

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""Values of activation_function, and the argument of `ops.gelu` for each."""

CLASS = "BartForConditionalGeneration"

FREE = (
    *("init_std", "use_cache", "torch_dtype", "dtype", "transformers_version", "gradient_checkpointing"),
    *(
        "classifier_dropout",
        "classif_dropout",
        "num_labels",
        "id2label",
        "label2id",
        "output_past",
        "save_step",
    ),
    *("bos_token_id", "forced_bos_token_id", "forced_eos_token_id", "force_bos_token_to_be_generated"),
    *("task_specific_params", "early_stopping", "length_penalty", "max_length", "min_length", "num_beams"),
    *("no_repeat_ngram_size", "prefix", "encoder_layerdrop", "decoder_layerdrop", "num_hidden_layers"),
    *("output_attentions", "output_hidden_states"),
)
"""Options that do not change the logits if the other options have supported values."""

FIXED = {
    "scale_embedding": False,
    "is_encoder_decoder": True,
    "is_decoder": False,
    "tie_word_embeddings": True,
    "normalize_before": False,
    "normalize_embedding": True,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "static_position_embeddings": False,
    "extra_pos_embeddings": UNUSED,
}
"""Options for which `BART` supports only the usual value; those from `normalize_before` on are in older
files."""


def read_config(path: Path, dropout: float | None) -> dict[str, Any]:
    """The fields of the BARTConfig that a config.json describes. `dropout` replaces the folder's rates.

    Raises CheckpointError for the first option that `BART` does not support, ValueError if attention weights
    and the feed-forward network have different rates of dropout."""
    o = Options(path)
    o.choice("model_type", None, "bart")
    o.choice("architectures", [CLASS])
    vocab_size, channels = o.size("vocab_size", 50265), o.size("d_model", 1024)
    heads, hidden = o.size("encoder_attention_heads", 16), o.size("encoder_ffn_dim", 4096)
    if channels % heads:
        o.refuse("encoder_attention_heads", f"a divisor of d_model={channels}", heads)
    for name, same in (("decoder_attention_heads", heads), ("decoder_ffn_dim", hidden)):
        if (found := o.size(name, same)) != same:
            o.refuse(name, f"{same}, as in the encoder", found)
    rate, inner = o.rate("dropout", 0.1), o.rate("attention_dropout", 0.0)
    if dropout is None and inner != (other := o.rate("activation_dropout", 0.0)):
        raise ValueError(
            f"BART has one rate of dropout for attention and feed-forward, {path.parent} has {inner} and "
            f"{other}: pass dropout="
        )
    o.left.pop("activation_dropout", None)
    fields = {
        "vocab_size": vocab_size,
        "block_size": o.size("max_position_embeddings", 1024),
        "layers": o.size("encoder_layers", 12),
        "decoder_layers": o.size("decoder_layers", 12),
        "heads": heads,
        "channels": channels,
        "hidden": hidden,
        "dropout": rate if dropout is None else dropout,
        "inner_dropout": inner if dropout is None else dropout,
        "gelu": GELU[o.choice("activation_function", "gelu", *GELU)],
        "pad": o.token("pad_token_id", 1, vocab_size),
        "begin": o.token("decoder_start_token_id", 2, vocab_size),
        "end": o.token("eos_token_id", 2, vocab_size),
    }
    for name, value in FIXED.items():
        o.choice(name, value)
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    return fields


# -- reading and writing ---------------------------------------------------------------------------


def read(folder: str | Path, dropout: float | None = None) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The fields of a BARTConfig, and {name: array} of every array, with the names in `BART`.

    Raises CheckpointError when something is missing or damaged, or `BART` does not support the model."""
    folder = Path(folder)
    fields = read_config(folder / CONFIG, dropout)
    path, tensors = read_tensors(folder, LANGUAGE_MODEL, CONVERT)
    require_floats(path, tensors)
    if max(fields["layers"], fields["decoder_layers"]) > len(tensors):  # before `shapes` makes a list of them
        expected = f"{fields['layers']} and {fields['decoder_layers']} layers"
        raise CheckpointError(path, "too few tensors", expected, len(tensors))
    names = shapes(fields)
    same = [name for name in COPIES if name in tensors]
    wanted = {name: shape for parts, shape in names.values() for name in parts}
    wanted |= dict.fromkeys(same, wanted[TABLE])
    if BIAS not in tensors:  # in older files: it is 0
        del wanted[BIAS]
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    for name in same:
        if not np.array_equal(tensors[name], tensors[TABLE], equal_nan=True):
            problem = "the embedding and its copies are one matrix, and the two differ"
            raise CheckpointError(path, problem, TABLE, "other values", name)
    if BIAS not in tensors:
        tensors[BIAS] = np.zeros((1, fields["vocab_size"]), np.float32)
    state = {ours: join_parts([tensors[name] for name in parts]) for ours, (parts, _) in names.items()}
    return fields, state | {"logits_bias": tensors[BIAS].squeeze(0)}


def write(folder: str | Path, config: Mapping[str, Any], state: Mapping[str, NumpyArray]) -> None:
    """Write model.safetensors, then config.json, for the fields of a BARTConfig and every array of the model
    by its name in `BART`.

    Raises ValueError, before anything is written, when an array is missing, or has another shape, or is not
    in the config; CheckpointError when writing fails."""
    names = shapes(config)
    found = {name: array[None] if name == "logits_bias" else array for name, array in state.items()}
    needed = {ours: joined_shape(shape, parts) for ours, (parts, shape) in names.items()}
    if listed := differences(needed, {name: array.shape for name, array in found.items()}, "the config"):
        raise ValueError(f"this is not the BART of its config, which has {len(needed)} tensors:{listed}")
    tensors: dict[str, NumpyArray] = {}
    for ours, (parts, _) in names.items():
        tensors |= split_parts(found[ours], parts)
    write_folder(folder, LANGUAGE_MODEL, tensors, {CONFIG: json_file(options_of(config))})


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json for the fields of a BARTConfig."""
    sizes = {"layers": "layers", "attention_heads": "heads", "ffn_dim": "hidden"}
    return {
        "architectures": [CLASS],
        "model_type": "bart",
        "is_encoder_decoder": True,
        "vocab_size": config["vocab_size"],
        "max_position_embeddings": config["block_size"],
        **{f"encoder_{theirs}": config[ours] for theirs, ours in sizes.items()},
        **{
            f"decoder_{theirs}": config[ours]
            for theirs, ours in (sizes | {"layers": "decoder_layers"}).items()
        },
        "d_model": config["channels"],
        "dropout": config["dropout"],
        "attention_dropout": config["inner_dropout"],
        "activation_dropout": config["inner_dropout"],
        "activation_function": {"none": "gelu", "tanh": "gelu_new"}[config["gelu"]],
        "pad_token_id": config["pad"],
        "decoder_start_token_id": config["begin"],
        "eos_token_id": config["end"],
        "tie_word_embeddings": True,
    }

"""Reads and writes T5 in a folder of Hugging Face's format, for `T5` (`language/t5.py`):

    config.json           the sizes, and options of the architecture
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)

Options and tensors have their names from `transformers` (T5Config, T5ForConditionalGeneration). Version 1.1
and Flan-T5 have a head of their own, whose input is not scaled; then `tie_word_embeddings` is false. Newer
versions of `transformers` write true instead, and `scale_decoder_outputs` false. Only JSON and safetensors
are ever read.
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
    json_file,
    read_tensors,
    require_floats,
    require_same,
    write_folder,
)
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

CONVERT = (
    ": download that, or convert this one where you trust it, with transformers: "
    "AutoModelForSeq2SeqLM.from_pretrained(folder).save_pretrained(folder)"
)
"""What to do with a folder that has the weights in another file."""

# -- names -----------------------------------------------------------------------------------------

TABLE, HEAD = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Copies of the embedding, which older files also hold."""

UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""A tensor of older files that nothing uses. It is not read."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{a parameter's name here: (its name in the file, its shape)} for a model with these fields of a
    T5Config."""
    c, hidden = config["channels"], config["hidden"]
    inner = config["heads"] * config["head_channels"]
    found: dict[str, tuple[str, tuple[int, ...]]] = {"embedding.weight": (TABLE, (config["vocab_size"], c))}

    def add_attention(ours: str, theirs: str) -> None:
        for part in "qkv":
            found[f"{ours}.{part}.weight"] = f"{theirs}.{part}.weight", (inner, c)
        found[f"{ours}.proj.weight"] = f"{theirs}.o.weight", (c, inner)

    for stack, layers in (("encoder", config["layers"]), ("decoder", config["decoder_layers"])):
        for i in range(layers):
            ours, theirs = f"{stack}.{i}", f"{stack}.block.{i}.layer"
            norms = (
                {"norm1": 0, "norm_cross": 1, "norm2": 2} if stack == "decoder" else {"norm1": 0, "norm2": 1}
            )
            for norm, place in norms.items():
                found[f"{ours}.{norm}.weight"] = f"{theirs}.{place}.layer_norm.weight", (c,)
            add_attention(f"{ours}.attn", f"{theirs}.0.SelfAttention")
            if stack == "decoder":
                add_attention(f"{ours}.cross", f"{theirs}.1.EncDecAttention")
            mlp = f"{theirs}.{norms['norm2']}.DenseReluDense"
            found[f"{ours}.mlp.fc.weight"] = f"{mlp}.wi{'_0' * config['gated']}.weight", (hidden, c)
            if config["gated"]:
                found[f"{ours}.mlp.up.weight"] = f"{mlp}.wi_1.weight", (hidden, c)
            found[f"{ours}.mlp.proj.weight"] = f"{mlp}.wo.weight", (c, hidden)
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[f"{stack}_bias.table.weight"] = table, (config["buckets"], config["heads"])
        found[f"{stack}_norm.weight"] = f"{stack}.final_layer_norm.weight", (c,)
    if not config["tie_weights"]:
        found[HEAD] = HEAD, (config["vocab_size"], c)
    return found


# -- config.json -----------------------------------------------------------------------------------

GATED = {"relu": False, "gated-gelu": True}
"""Values of feed_forward_proj."""

CLASS = "T5ForConditionalGeneration"

FREE = (
    *("initializer_factor", "use_cache", "torch_dtype", "dtype", "transformers_version", "n_positions"),
    *("classifier_dropout", "gradient_checkpointing", "output_past", "task_specific_params", "bos_token_id"),
    *("tokenizer_class", "output_attentions", "output_hidden_states"),
)
"""Options that do not change the logits if the other options have supported values."""


def read_config(path: Path) -> dict[str, Any]:
    """The fields of the T5Config that a config.json describes. Raises CheckpointError for the first option
    that `T5` does not support."""
    o = Options(path)
    o.choice("model_type", None, "t5")
    o.choice("architectures", [CLASS], [CLASS], ["T5WithLMHeadModel"])  # its name in older files
    vocab_size, layers = o.size("vocab_size", 32128), o.size("num_layers", 6)
    gated = GATED[o.choice("feed_forward_proj", "relu", *GATED)]
    o.choice("dense_act_fn", "gelu_new" if gated else "relu")
    o.choice("is_gated_act", gated)
    buckets = o.size("relative_attention_num_buckets", 32)
    if buckets < 4:
        o.refuse("relative_attention_num_buckets", "at least 4", buckets)
    farthest = o.size("relative_attention_max_distance", 128)
    if farthest <= buckets // 2:
        o.refuse("relative_attention_max_distance", f"more than half of the {buckets} buckets", farthest)
    pad = o.token("pad_token_id", 0, vocab_size)
    fields = {
        "vocab_size": vocab_size,
        "layers": layers,
        "decoder_layers": o.size_or("num_decoder_layers", None, layers),
        "heads": o.size("num_heads", 8),
        "channels": o.size("d_model", 512),
        "head_channels": o.size("d_kv", 64),
        "hidden": o.size("d_ff", 2048),
        "buckets": buckets,
        "max_distance": farthest,
        "dropout": o.rate("dropout_rate", 0.1),
        "gated": gated,
        "tie_weights": o.flag("scale_decoder_outputs", o.flag("tie_word_embeddings", True)),
        "norm_eps": o.rate("layer_norm_epsilon", 1e-6),
        "pad": pad,
        "begin": o.token("decoder_start_token_id", pad, vocab_size),
        "end": o.token("eos_token_id", 1, vocab_size),
    }
    o.choice("is_encoder_decoder", True)
    o.choice("is_decoder", False)
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    return fields


# -- reading and writing ---------------------------------------------------------------------------


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The fields of a T5Config, and {name: array} of every parameter, with the names in `T5`.

    Raises CheckpointError when something is missing or damaged, or `T5` does not support the model."""
    folder = Path(folder)
    fields = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder, LANGUAGE_MODEL, CONVERT)
    tensors.pop(UNUSED, None)
    require_floats(path, tensors)
    if max(fields["layers"], fields["decoder_layers"]) > len(tensors):  # before `shapes` makes a list of them
        expected = f"{fields['layers']} and {fields['decoder_layers']} layers"
        raise CheckpointError(path, "too few tensors", expected, len(tensors))
    same = [name for name in (*COPIES, *([HEAD] if fields["tie_weights"] else [])) if name in tensors]
    wanted = dict(shapes(fields).values())
    wanted |= dict.fromkeys(same, wanted[TABLE])
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    for name in same:
        if not np.array_equal(tensors[name], tensors[TABLE], equal_nan=True):
            problem = "the embedding and its copies are one matrix, and the two differ"
            raise CheckpointError(path, problem, TABLE, "other values", name)
    return fields, {ours: tensors[theirs] for ours, (theirs, _) in shapes(fields).items()}


def write(folder: str | Path, config: Mapping[str, Any], state: Mapping[str, NumpyArray]) -> None:
    """Write model.safetensors, then config.json, for the fields of a T5Config and every array of the model by
    its name in `T5`.

    Raises ValueError, before anything is written, when an array is missing, or has another shape, or is not
    in the config; CheckpointError when writing fails."""
    names = shapes(config)
    needed = {ours: shape for ours, (_, shape) in names.items()}
    if listed := differences(needed, {name: array.shape for name, array in state.items()}, "the config"):
        raise ValueError(f"this is not the T5 of its config, which has {len(needed)} tensors:{listed}")
    tensors = {theirs: state[ours] for ours, (theirs, _) in names.items()}
    write_folder(folder, LANGUAGE_MODEL, tensors, {CONFIG: json_file(options_of(config))})


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json for the fields of a T5Config."""
    return {
        "architectures": [CLASS],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config["vocab_size"],
        "num_layers": config["layers"],
        "num_decoder_layers": config["decoder_layers"],
        "num_heads": config["heads"],
        "d_model": config["channels"],
        "d_kv": config["head_channels"],
        "d_ff": config["hidden"],
        "relative_attention_num_buckets": config["buckets"],
        "relative_attention_max_distance": config["max_distance"],
        "dropout_rate": config["dropout"],
        "feed_forward_proj": "gated-gelu" if config["gated"] else "relu",
        "layer_norm_epsilon": config["norm_eps"],
        "pad_token_id": config["pad"],
        "decoder_start_token_id": config["begin"],
        "eos_token_id": config["end"],
        "tie_word_embeddings": config["tie_weights"],
    }

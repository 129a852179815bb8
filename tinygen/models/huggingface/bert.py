"""Reads and writes BERT and RoBERTa in a folder of Hugging Face's format, for `BERT` (`language/bert.py`):

    config.json           the sizes, and options of the architecture
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)

Options and tensors have their names from `transformers` (BertConfig, BertForPreTraining, BertForMaskedLM;
RobertaConfig, RobertaForMaskedLM). Queries, keys and values have a matrix each in the file; here they are one
matrix, with the rows of all three. Only JSON and safetensors are ever read.
"""

from __future__ import annotations

import re
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
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

CONVERT = (
    ": download that, or convert this one where you trust it, with transformers: "
    "AutoModelForPreTraining.from_pretrained(folder).save_pretrained(folder)"
)
"""What to do with a folder that has the weights in another file."""

# -- names -----------------------------------------------------------------------------------------

LAYERS = {
    "attn.proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "fc": "intermediate.dense",
    "proj": "output.dense",
    "norm2": "output.LayerNorm",
}
"""The layers of a block, besides queries, keys and values: their names here, and in the file."""

QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))

TABLE, HEAD_BIAS = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
COPIES = {"cls.predictions.decoder.weight": TABLE, "cls.predictions.decoder.bias": HEAD_BIAS}
"""Tensors of the tied head, which older files also hold, and the tensors that they must equal."""

POSITIONS = "bert.embeddings.position_ids"
"""The numbers 0, 1, 2, ..., which older files also hold. They are not read."""

POOLER, NEXT_HEAD = "bert.pooler.dense", "cls.seq_relationship"

ROBERTA = {
    "bert.": "roberta.",
    "cls.predictions.transform.dense": "lm_head.dense",
    "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
    "cls.predictions": "lm_head",
}
"""How names begin in the file of a BERT, and in the file of a RoBERTa."""


def name_there(name: str, config: Mapping[str, Any]) -> str:
    """The name of BERT's tensor in the file of a model with these fields: RoBERTa's have another
    beginning."""
    if config["pad"] is None:
        return name
    begin = next(begin for begin in ROBERTA if name.startswith(begin))
    return ROBERTA[begin] + name.removeprefix(begin)


def copies(config: Mapping[str, Any]) -> dict[str, str]:
    """`COPIES` with the names in the file."""
    return {name_there(copy, config): name_there(original, config) for copy, original in COPIES.items()}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """{a parameter's name here: (the names of its parts in the file, the shape of each part)} for a model
    with these fields of a BERTConfig. All parameters but queries, keys and values have one part."""
    c, v, hidden = config["channels"], config["vocab_size"], config["hidden"]
    found: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}

    def add(ours: str, *theirs: str, weight: tuple[int, ...] = (c,)) -> None:
        there = [name_there(their, config) for their in theirs]
        found[f"{ours}.weight"] = tuple(f"{their}.weight" for their in there), weight
        found[f"{ours}.bias"] = tuple(f"{their}.bias" for their in there), weight[:1]

    embeddings = {"wte": ("word", v), "wpe": ("position", positions(config))}
    for ours, (theirs, rows) in (embeddings | {"segment": ("token_type", config["segments"])}).items():
        their = name_there(f"bert.embeddings.{theirs}_embeddings.weight", config)
        found[f"{ours}.weight"] = (their,), (rows, c)
    add("norm", "bert.embeddings.LayerNorm")
    widths = {"attn.proj": (c, c), "fc": (hidden, c), "proj": (c, hidden)}
    for i in range(config["layers"]):
        block = f"bert.encoder.layer.{i}"
        add(f"h.{i}.attn.qkv", *(f"{block}.{part}" for part in QKV), weight=(c, c))
        for ours, theirs in LAYERS.items():
            add(f"h.{i}.{ours}", f"{block}.{theirs}", weight=widths.get(ours, (c,)))
    add("transform", "cls.predictions.transform.dense", weight=(c, c))
    add("transform_norm", "cls.predictions.transform.LayerNorm")
    found["lm_head.bias"] = (name_there(HEAD_BIAS, config),), (v,)
    if config["next_sentence"]:
        add("pooler", POOLER, weight=(c, c))
        add("next_head", NEXT_HEAD, weight=(2, c))
    return found


def positions(config: Mapping[str, Any]) -> int:
    """Rows of the table of positions. RoBERTa does not use the first pad + 1."""
    unused = 0 if config["pad"] is None else config["pad"] + 1
    return int(config["block_size"]) + unused


def shapes_in_file(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{a tensor's name in the file: its shape}."""
    return {name: shape for names, shape in shapes(config).values() for name in names}


# -- config.json -----------------------------------------------------------------------------------

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""Values of hidden_act, and the argument of `ops.gelu` for each."""

PRETRAINING, MASKED_LM, ROBERTA_LM = "BertForPreTraining", "BertForMaskedLM", "RobertaForMaskedLM"

FREE = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "use_cache"),
    *("torch_dtype", "dtype", "transformers_version", "classifier_dropout", "gradient_checkpointing"),
    *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
    *("pooler_size_per_head", "pooler_type"),
)
"""Options that do not change the logits if the other options have supported values."""


def read_config(path: Path, dropout: float | None) -> tuple[dict[str, Any], bool]:
    """The fields of the BERTConfig that a config.json describes, without `next_sentence`; and whether the
    folder must have a next-sentence head. `dropout` replaces the folder's rates.

    Raises CheckpointError for the first option that `BERT` does not support, ValueError if there are two
    rates of dropout."""
    o = Options(path)
    roberta = o.choice("model_type", None, "bert", "roberta") == "roberta"
    classes = [[ROBERTA_LM]] if roberta else [[PRETRAINING], [MASKED_LM]]
    architectures = o.choice("architectures", classes[0], *classes)
    heads, channels = o.size("num_attention_heads", 12), o.size("hidden_size", 768)
    if channels % heads:
        o.refuse("num_attention_heads", f"a divisor of hidden_size={channels}", heads)
    rates = {name: o.rate(name, 0.1) for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    vocab_size = o.size("vocab_size", 50265 if roberta else 30522)
    block_size, pad = o.size("max_position_embeddings", 512), None
    if roberta:
        pad = o.token("pad_token_id", 1, vocab_size)
        if block_size <= pad + 1:
            o.refuse("max_position_embeddings", f"more than pad_token_id + 1 = {pad + 1}", block_size)
        block_size -= pad + 1
    fields = {
        "vocab_size": vocab_size,
        "block_size": block_size,
        "layers": o.size("num_hidden_layers", 12),
        "heads": heads,
        "channels": channels,
        "hidden": o.size("intermediate_size", 3072),
        "segments": o.size("type_vocab_size", 2),
        "dropout": rates["hidden_dropout_prob"] if dropout is None else dropout,
        "gelu": GELU[o.choice("hidden_act", "gelu", *(["gelu"] if roberta else GELU))],
        "norm_eps": o.rate("layer_norm_eps", 1e-12),
        "pad": pad,
    }
    o.choice("position_embedding_type", "absolute")
    o.choice("tie_word_embeddings", True)
    o.choice("is_decoder", False)
    o.choice("add_cross_attention", False)
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    if dropout is None and len(set(rates.values())) > 1:
        raise ValueError(f"BERT has one rate of dropout, {path.parent} has {rates}: pass dropout=")
    return fields, architectures == [PRETRAINING]


# -- reading and writing ---------------------------------------------------------------------------


def read(folder: str | Path, dropout: float | None = None) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The fields of a BERTConfig, and {name: array} of every parameter, with the names in `BERT`.

    Raises CheckpointError when something is missing or damaged, or `BERT` does not support the model."""
    folder = Path(folder)
    fields, pretraining = read_config(folder / CONFIG, dropout)
    path, tensors = read_tensors(folder, LANGUAGE_MODEL, CONVERT)
    tensors.pop(name_there(POSITIONS, fields), None)
    tensors = {newer_name(name): array for name, array in tensors.items()}
    fields["next_sentence"] = pretraining or f"{NEXT_HEAD}.weight" in tensors
    if not fields["next_sentence"]:  # older files of masked language models have a pooler that nothing uses
        pooler = name_there(POOLER, fields)
        tensors = {name: array for name, array in tensors.items() if not name.startswith(pooler)}
    require_floats(path, tensors)
    if fields["layers"] > len(tensors):  # checked before `shapes` makes a list of that length
        raise CheckpointError(path, "too few tensors", f"{fields['layers']} layers", len(tensors))
    wanted = shapes_in_file(fields)
    wanted |= {copy: wanted[original] for copy, original in copies(fields).items() if copy in tensors}
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    for copy, original in copies(fields).items():
        if copy in tensors and not np.array_equal(tensors[copy], tensors[original], equal_nan=True):
            problem = "tie_word_embeddings is on, and the two differ"
            raise CheckpointError(path, problem, original, "other values", copy)
    return fields, {
        ours: join_parts([tensors[name] for name in names]) for ours, (names, _) in shapes(fields).items()
    }


def newer_name(name: str) -> str:
    """Weight and bias of a layer norm are gamma and beta in older files."""
    return re.sub(
        r"LayerNorm\.beta$", "LayerNorm.bias", re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    )


def write(folder: str | Path, config: Mapping[str, Any], state: Mapping[str, NumpyArray]) -> None:
    """Write model.safetensors, then config.json, for the fields of a BERTConfig and every array of the model
    by its name in `BERT`.

    Raises ValueError, before anything is written, when an array is missing, or has another shape, or is not
    in the config; CheckpointError when writing fails."""
    head = state.get("lm_head.weight")
    if head is not None and not np.array_equal(head, state.get("wte.weight", []), equal_nan=True):
        raise ValueError("lm_head.weight is not wte.weight: in a BERT they are one matrix")
    found = {name: array for name, array in state.items() if name != "lm_head.weight"}
    if config["pad"] is not None and (config["next_sentence"] or config["gelu"] != "none"):
        raise ValueError(
            "transformers has no RoBERTa with a next-sentence head or another gelu: for a model that can be "
            'saved give BERTConfig(pad=..., next_sentence=False, gelu="none")'
        )
    names = shapes(config)
    needed = {ours: joined_shape(shape, parts) for ours, (parts, shape) in names.items()}
    if listed := differences(needed, {ours: array.shape for ours, array in found.items()}, "the config"):
        raise ValueError(f"this is not the BERT of its config, which has {len(needed)} tensors:{listed}")
    tensors: dict[str, NumpyArray] = {}
    for ours, (parts, _) in names.items():
        tensors |= split_parts(found[ours], parts)
    write_folder(folder, LANGUAGE_MODEL, tensors, {CONFIG: json_file(options_of(config))})


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json for the fields of a BERTConfig."""
    bert = {"architectures": [PRETRAINING if config["next_sentence"] else MASKED_LM], "model_type": "bert"}
    roberta = {"architectures": [ROBERTA_LM], "model_type": "roberta", "pad_token_id": config["pad"]}
    return {
        **(bert if config["pad"] is None else roberta),
        "vocab_size": config["vocab_size"],
        "max_position_embeddings": positions(config),
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "hidden_size": config["channels"],
        "intermediate_size": config["hidden"],
        "type_vocab_size": config["segments"],
        "hidden_dropout_prob": config["dropout"],
        "attention_probs_dropout_prob": config["dropout"],
        "hidden_act": {"none": "gelu", "tanh": "gelu_new"}[config["gelu"]],
        "layer_norm_eps": config["norm_eps"],
        "tie_word_embeddings": True,
    }

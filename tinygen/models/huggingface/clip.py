"""Reads and writes CLIP in a folder of Hugging Face's format, for `CLIP` (`text_to_image/clip.py`):

    config.json           the sizes, in two sections: text_config and vision_config
    model.safetensors     the weights (or several files, listed in model.safetensors.index.json)

Options and tensors have their names from `transformers` (CLIPConfig, CLIPModel). Queries, keys and values are
three layers in the file, and one here: their matrices are stacked. A model is described by its sizes:

    {"dim": D, "text": {"vocab_size", "block_size", "end", "config"},
     "image": {"side", "patch", "in_channels", "config"}}

where each "config" has the fields of a TowerConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygen.models.huggingface.folders import (
    CONFIG,
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

WEIGHTS = "model.safetensors"
CONVERT = (
    ": download that, or convert this one where you trust it, with transformers: "
    "CLIPModel.from_pretrained(folder).save_pretrained(folder)"
)
"""What to do with a folder that has the weights in another file."""

# -- names -----------------------------------------------------------------------------------------

QKV = tuple(f"self_attn.{letter}_proj" for letter in "qkv")

LAYERS = {
    "ln1": ("layer_norm1",),
    "attn.qkv": QKV,
    "attn.proj": ("self_attn.out_proj",),
    "ln2": ("layer_norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}
"""The layers of a block: their names here, and the names of their parts in the file."""

POSITIONS = re.compile(r"(text|vision)_model\.embeddings\.position_ids")
"""The numbers 0, 1, 2, …, which older files also hold. They are not read."""

Places = dict[str, tuple[tuple[str, ...], tuple[int, ...]]]
"""{a parameter's name here: (the names of its parts in the file, the shape of each part)}"""


def tower_places(ours: str, theirs: str, tower: Mapping[str, Any]) -> Places:
    """The layers that both towers have; `ours` and `theirs` are what their names begin with."""
    c, hidden = tower["channels"], tower["hidden"]
    shapes = {"ln1": (c,), "ln2": (c,), "mlp.fc": (hidden, c), "mlp.proj": (c, hidden)}
    found: Places = {}
    for i in range(tower["layers"]):
        for layer, parts in LAYERS.items():
            shape = shapes.get(layer, (c, c))
            for kind, wanted in (("weight", shape), ("bias", shape[:1])):
                names = tuple(f"{theirs}encoder.layers.{i}.{part}.{kind}" for part in parts)
                found[f"{ours}blocks.{i}.{layer}.{kind}"] = names, wanted
    return found


def norm_places(ours: str, theirs: str, channels: int) -> Places:
    return {f"{ours}.{kind}": ((f"{theirs}.{kind}",), (channels,)) for kind in ("weight", "bias")}


def places(sizes: Mapping[str, Any]) -> Places:
    """All parameters of a model of these sizes."""
    text, image, dim = sizes["text"], sizes["image"], sizes["dim"]
    t, v = text["config"], image["config"]
    c, patch, rows = v["channels"], image["patch"], (image["side"] // image["patch"]) ** 2 + 1
    token, place = "text_model.embeddings.token_embedding", "text_model.embeddings.position_embedding"
    first, patches = "vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding"
    one: dict[str, tuple[str, tuple[int, ...]]] = {
        "logit_scale": ("logit_scale", ()),
        "text_encoder.token.weight": (f"{token}.weight", (text["vocab_size"], t["channels"])),
        "text_encoder.place.weight": (f"{place}.weight", (text["block_size"], t["channels"])),
        "text_encoder.projection.weight": ("text_projection.weight", (dim, t["channels"])),
        "image_encoder.first": (first, (c,)),
        "image_encoder.patches.weight": (f"{patches}.weight", (c, image["in_channels"], patch, patch)),
        "image_encoder.place.weight": ("vision_model.embeddings.position_embedding.weight", (rows, c)),
        "image_encoder.projection.weight": ("visual_projection.weight", (dim, c)),
    }
    return {
        **{ours: ((theirs,), shape) for ours, (theirs, shape) in one.items()},
        **tower_places("text_encoder.", "text_model.", t),
        **norm_places("text_encoder.norm", "text_model.final_layer_norm", t["channels"]),
        **tower_places("image_encoder.", "vision_model.", v),
        **norm_places("image_encoder.first_norm", "vision_model.pre_layrnorm", c),
        **norm_places("image_encoder.norm", "vision_model.post_layernorm", c),
    }


# -- config.json -----------------------------------------------------------------------------------

LARGEST_ID = 2
"""As eos_token_id it means: read a text at its largest id. The published models have it, from a time when
the option was not read; their end token is the last id of the vocabulary."""

FREE = (
    *("bos_token_id", "pad_token_id", "sep_token_id", "projection_dim", "dropout", "model_type"),
    *("initializer_range", "initializer_factor", "torch_dtype", "dtype", "transformers_version"),
    *("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "use_cache"),
    *("torchscript", "use_bfloat16", "gradient_checkpointing", "attn_implementation", "tf_legacy_loss"),
    *("architectures", "finetuning_task", "id2label", "label2id", "problem_type", "task_specific_params"),
    *("prefix", "tokenizer_class", "tie_word_embeddings", "tie_encoder_decoder", "chunk_size_feed_forward"),
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups"),
    *("diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
    *("length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *("num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id"),
    *("forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty"),
    *("suppress_tokens", "begin_suppress_tokens", "decoder_start_token_id", "cross_attention_hidden_size"),
)
"""Options of a section that do not change the vectors: of training, of the form of results, and of writing
texts, which CLIP does not do."""


def read_config(path: Path) -> dict[str, Any]:
    """The sizes of the CLIP that a config.json describes.

    Raises CheckpointError for the first option that `CLIP` does not support."""
    o = Options(path)
    o.choice("model_type", None, "clip")
    o.choice("architectures", ["CLIPModel"], None, ["CLIPModel"])
    dim = o.size("projection_dim", 512)
    sections = {}
    for name in ("text_config", "vision_config"):
        older = f"{name}_dict"  # if it is there, transformers takes it, and not the other
        section, instead = o.section(name), o.section(older)
        sections[name] = instead if instead.left else section
    for name in ("logit_scale_init_value", "initializer_factor", "torch_dtype", "dtype"):
        o.left.pop(name, None)
    o.left.pop("transformers_version", None)
    o.choice("tie_word_embeddings", True, True, False)
    o.end()
    return {
        "dim": dim,
        "text": read_text(sections["text_config"]),
        "image": read_image(sections["vision_config"]),
    }


def read_text(o: Options) -> dict[str, Any]:
    """The sizes of the text tower."""
    vocab_size = o.size("vocab_size", 49408)
    end = o.left.pop("eos_token_id", 49407)
    if type(end) is not int or not 0 <= end < vocab_size:
        o.refuse("eos_token_id", f"a token from 0, below vocab_size={vocab_size}", end)
    return {
        "vocab_size": vocab_size,
        "block_size": o.size("max_position_embeddings", 77),
        "end": vocab_size - 1 if end == LARGEST_ID else end,
        "config": read_tower(o, channels=512, hidden=2048, heads=8),
    }


def read_image(o: Options) -> dict[str, Any]:
    """The sizes of the Vision Transformer."""
    side, patch = o.size("image_size", 224), o.size("patch_size", 32)
    if side % patch:
        o.refuse("patch_size", f"a divisor of image_size={side}", patch)
    return {
        "side": side,
        "patch": patch,
        "in_channels": o.size("num_channels", 3),
        "config": read_tower(o, channels=768, hidden=3072, heads=12),
    }


def read_tower(o: Options, channels: int, hidden: int, heads: int) -> dict[str, Any]:
    """The fields of a TowerConfig; the arguments are the defaults of the section's sizes."""
    channels, heads = o.size("hidden_size", channels), o.size("num_attention_heads", heads)
    if channels % heads:
        o.refuse("num_attention_heads", f"a divisor of hidden_size={channels}", heads)
    tower = {
        "layers": o.size("num_hidden_layers", 12),
        "heads": heads,
        "channels": channels,
        "hidden": o.size("intermediate_size", hidden),
        "activation": o.choice("hidden_act", "quick_gelu", "quick_gelu", "gelu"),
        "dropout": o.rate("attention_dropout", 0.0),
        "norm_eps": o.rate("layer_norm_eps", 1e-5),
    }
    o.choice("pruned_heads", {}, None, {})
    for name in ("is_decoder", "is_encoder_decoder", "add_cross_attention"):
        o.choice(name, False)
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    return tower


def options_of(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a model of these sizes. Raises ValueError for an end token that transformers would
    look for in another way."""
    text, image = sizes["text"], sizes["image"]
    if text["end"] == LARGEST_ID != text["vocab_size"] - 1:
        raise ValueError(
            f"the end token is {LARGEST_ID}, for which transformers reads a text at its largest id: "
            "give the end token another id"
        )
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes["dim"],
        "text_config": {
            **tower_options("clip_text_model", text["config"], sizes["dim"]),
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["block_size"],
            "bos_token_id": None,
            "pad_token_id": None,
            "eos_token_id": text["end"],
        },
        "vision_config": {
            **tower_options("clip_vision_model", image["config"], sizes["dim"]),
            "image_size": image["side"],
            "patch_size": image["patch"],
            "num_channels": image["in_channels"],
        },
    }


def tower_options(kind: str, tower: Mapping[str, Any], dim: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "projection_dim": dim,
        "hidden_size": tower["channels"],
        "intermediate_size": tower["hidden"],
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "hidden_act": tower["activation"],
        "layer_norm_eps": tower["norm_eps"],
        "attention_dropout": tower["dropout"],
    }


# -- reading and writing ---------------------------------------------------------------------------


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, NumpyArray]]:
    """The sizes of a CLIP, and {name: array} of every parameter, with the names in `CLIP`.

    Raises CheckpointError when something is missing or damaged, or `CLIP` does not support the model."""
    folder = Path(folder)
    sizes = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder, WEIGHTS, CONVERT)
    tensors = {name: a for name, a in tensors.items() if not POSITIONS.fullmatch(name)}
    require_floats(path, tensors)
    layers = sizes["text"]["config"]["layers"] + sizes["image"]["config"]["layers"]
    if layers > len(tensors):  # checked before `places` makes a list of that length
        raise CheckpointError(path, "too few tensors", f"{layers} layers", len(tensors))
    found = places(sizes)
    wanted = {name: shape for names, shape in found.values() for name in names}
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    return sizes, {ours: join_parts([tensors.pop(n) for n in names]) for ours, (names, _) in found.items()}


def write(folder: str | Path, sizes: Mapping[str, Any], state: Mapping[str, NumpyArray]) -> None:
    """Write model.safetensors, then config.json, from the sizes and all arrays by their names in `CLIP`.

    Raises ValueError, before anything is written, if an array is missing, unexpected or of another shape, or
    for an end token that transformers would not find; CheckpointError if writing fails."""
    options, found = options_of(sizes), places(sizes)
    needed = {ours: joined_shape(shape, names) for ours, (names, shape) in found.items()}
    if listed := differences(needed, {ours: a.shape for ours, a in state.items()}, "the encoders' sizes"):
        raise ValueError(f"this is not the CLIP of its encoders, which has {len(needed)} tensors:{listed}")
    tensors: dict[str, NumpyArray] = {}
    for ours, (names, _) in found.items():
        tensors |= split_parts(state[ours], names)
    write_folder(folder, WEIGHTS, tensors, {CONFIG: json_file(options)})

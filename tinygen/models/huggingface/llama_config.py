"""Reads and writes the options of Llama and its relatives, config.json: the fields of a `LlamaConfig`.

Four classes of `transformers` are the same computation with different options: LlamaForCausalLM (Llama 1 to
3, SmolLM2, TinyLlama), MistralForCausalLM without a sliding window, Qwen2ForCausalLM (queries, keys and
values have biases), Qwen3ForCausalLM (queries and keys have norms). Options have the names of these classes.
Unknown options and values that `Llama` does not support are refused: weights whose shapes fit may still
belong to another computation. `llama.py` reads the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygen.models.huggingface.folders import Options
from tinygen.nn import RopeScaling
from tinygen.storage.files import CheckpointError

DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"vocab": 32000, "hidden": 11008, "kv_heads": None, "positions": 2048, "head": None},
    "mistral": {"vocab": 32000, "hidden": 14336, "kv_heads": 8, "positions": 131072, "head": None},
    "qwen2": {"vocab": 151936, "hidden": 22016, "kv_heads": 32, "positions": 32768, "head": None},
    "qwen3": {"vocab": 151936, "hidden": 22016, "kv_heads": 32, "positions": 32768, "head": 128},
}
"""The families, by their model_type, with the defaults of sizes that are not in config.json. Their other
defaults are the same: 4096 channels, 32 heads, 32 layers, an epsilon of 1e-6, a rope_theta of 10,000."""

CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""The beginnings of the names of their classes."""

FREE = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "use_cache"),
    *("torch_dtype", "dtype", "transformers_version", "transformers.js_config"),
    *("pretraining_tp", "is_llama_config", "max_window_layers"),
)
"""Options that do not change the logits if the other options have supported values."""


def read_config(path: Path, block_size: int | None = None) -> dict[str, Any]:
    """The fields of the LlamaConfig that a config.json describes. `block_size` replaces the folder's own.

    Raises CheckpointError for the first option that `Llama` does not support."""
    o = Options(path)
    family = o.left.pop("model_type", None)
    if not isinstance(family, str) or family not in DEFAULTS:
        o.refuse("model_type", f"one of {list(DEFAULTS)}", family)
    models = [f"{CLASSES[family]}{kind}" for kind in ("ForCausalLM", "Model")]
    o.choice("architectures", [models[0]], None, *([name] for name in models))
    usual = DEFAULTS[family]
    heads = o.size("num_attention_heads", 32)
    channels = o.size("hidden_size", 4096)
    kv_heads = o.size_or("num_key_value_heads", usual["kv_heads"], heads)
    if heads % kv_heads:
        o.refuse("num_key_value_heads", f"a divisor of num_attention_heads={heads}", kv_heads)
    head_channels = o.size_or("head_dim", usual["head"], channels // heads)
    if head_channels == 0 or head_channels % 2:
        o.refuse("head_dim", "an even number: rotary positions turn pairs of entries", head_channels)
    length = o.size("max_position_embeddings", usual["positions"])
    base, scaling = read_rope(o, length)
    layers, positions = o.size("num_hidden_layers", 32), block_size or length
    config = {
        "vocab_size": o.size("vocab_size", usual["vocab"]),
        "block_size": positions,
        "layers": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "channels": channels,
        "head_channels": head_channels,
        "hidden": o.size("intermediate_size", usual["hidden"]),
        "dropout": o.rate("attention_dropout", 0.0),
        "rope_base": base,
        "rope_scaling": scaling,
        "norm_eps": o.rate("rms_norm_eps", 1e-6),
        "tie_weights": o.flag("tie_word_embeddings", False),
        "qk_norm": family == "qwen3",
        **read_biases(o, family),
    }
    o.choice("hidden_act", "silu")
    o.choice("use_mrope", False)  # positions in pictures
    o.choice("rope_interleaved", False)  # a pair is two neighbors, or one entry from each half of a head
    read_windows(o, family, positions, layers)
    for name in FREE:
        o.left.pop(name, None)
    o.end()
    return config


def read_biases(o: Options, family: str) -> dict[str, bool]:
    """Which linear layers have a bias."""
    if family == "llama":
        attention, mlp = o.flag("attention_bias", False), o.flag("mlp_bias", False)
        return {"qkv_bias": attention, "proj_bias": attention, "mlp_bias": mlp}
    o.choice("mlp_bias", False)
    if family == "qwen3":
        attention = o.flag("attention_bias", False)
        return {"qkv_bias": attention, "proj_bias": attention, "mlp_bias": False}
    o.choice("attention_bias", family == "qwen2")
    return {"qkv_bias": family == "qwen2", "proj_bias": False, "mlp_bias": False}


def read_windows(o: Options, family: str, block_size: int, layers: int) -> None:
    """Refuse a window that would hide a position: here, each position sees all earlier ones."""
    window = o.left.pop("sliding_window", 4096 if family == "mistral" else None)
    in_use = o.flag("use_sliding_window", family == "mistral")
    if in_use and window is not None and (type(window) is not int or window < block_size):
        way = f"from_pretrained(folder, block_size=N) shortens the context, here {block_size}"
        o.refuse("sliding_window", f"null, or no shorter than the longest context. {way}", window)
    o.choice("layer_types", None, None, ["full_attention"] * min(layers, 10_000))


SCALING = {
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original_length": "original_max_position_embeddings",
}
"""The fields of a RopeScaling, and their names in Llama 3's rope_scaling."""


def read_rope(o: Options, length: int) -> tuple[float, RopeScaling | None]:
    """The base and the scaling of rotary positions, from rope_theta and rope_scaling, or from
    rope_parameters, in which newer versions keep both."""
    base, name = o.left.pop("rope_theta", None), "rope_scaling"
    given, newer = o.left.pop(name, None), o.left.pop("rope_parameters", None)
    if given is not None and newer is not None and given != newer:
        o.refuse("rope_parameters", "null, or the same as rope_scaling", newer)
    if newer is not None:
        given, name = newer, "rope_parameters"
    if not isinstance(given, dict | None):
        o.refuse(name, "null or an object", given)
    rope = dict(given or {})
    base = rope.pop("rope_theta", 10_000.0 if base is None else base)
    if type(base) not in (int, float) or not 1 < base < 1e30:
        o.refuse("rope_theta", "a number above 1, and below 1e30", base)
    old = rope.pop("type", "default")
    kind = rope.pop("rope_type", old)
    if kind not in ("default", "llama3"):
        o.refuse(f"{name}.rope_type", "'default' or 'llama3': tinygen knows no others", kind)
    numbers = {SCALING["original_length"]: length} if kind == "llama3" else {}
    numbers |= rope
    wanted = set(SCALING.values()) if kind == "llama3" else set()
    if numbers.keys() != wanted or any(type(n) not in (int, float) for n in numbers.values()):
        o.refuse(name, f"numbers by the names {sorted(wanted)}, and no others", rope)
    if not wanted:
        return float(base), None
    try:
        return float(base), RopeScaling(**{ours: numbers[theirs] for ours, theirs in SCALING.items()})
    except ValueError as error:
        raise CheckpointError(o.path, f"the option {name}", "numbers that fit together", error) from error


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a complete LlamaConfig, in a family that has its biases and norms. ValueError if
    there is no such family."""
    scaling = config["rope_scaling"]
    biases = tuple(config[f"{layer}_bias"] for layer in ("qkv", "proj", "mlp"))
    even = config["channels"] % config["heads"] == 0
    if config["qk_norm"]:
        family = "qwen3" if biases in ((False,) * 3, (True, True, False)) else None
    elif biases == (True, False, False):
        family = "qwen2"
    elif even and biases[0] == biases[1]:
        family = "llama"
    else:
        family = "mistral" if not any(biases) else None
    if family is None:
        raise ValueError(f"no family of transformers has these biases, norms and widths together: {config}")
    options = {
        "architectures": [f"{CLASSES[family]}ForCausalLM"],
        "model_type": family,
        "vocab_size": config["vocab_size"],
        "hidden_size": config["channels"],
        "intermediate_size": config["hidden"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"],
        "head_dim": config["head_channels"],
        "max_position_embeddings": config["block_size"],
        "hidden_act": "silu",
        "rms_norm_eps": config["norm_eps"],
        "attention_dropout": config["dropout"],
        "tie_word_embeddings": config["tie_weights"],
        "rope_theta": config["rope_base"],
        "rope_scaling": scaling
        and {"rope_type": "llama3", **{theirs: getattr(scaling, ours) for ours, theirs in SCALING.items()}},
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if family in ("llama", "qwen3"):
        options["attention_bias"] = config["qkv_bias"]
    if family == "llama":
        options["mlp_bias"] = config["mlp_bias"]
    if family == "mistral":
        options["sliding_window"] = None
    return options

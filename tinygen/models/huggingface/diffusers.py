"""Reads autoencoders and UNets from folders in the format of Hugging Face's `diffusers`:

    config.json                                  the class of the model, and its options
    diffusion_pytorch_model.safetensors          the weights (or several files and an index: `folders.py`)

`from_pretrained(folder)` returns an `AutoencoderKL` for their AutoencoderKL, a `UNet` for their
UNet2DConditionModel (with attention to a text) or UNet2DModel (without), and a `ControlNet` for their
ControlNetModel, if tinygen supports the options in config.json (`diffusers_config.py`).

The layers are the same here and there, but have other names: `NAMES` lists them. Queries, keys and values are
three matrices there and one matrix here. Only JSON and safetensors are ever read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tinygen import nn
from tinygen.models.huggingface.diffusers_config import read_config
from tinygen.models.huggingface.folders import (
    CONFIG,
    as_weight,
    join_parts,
    read_tensors,
    require_floats,
    require_same,
)
from tinygen.models.pictures import autoencoder, unet
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.controlnet import ControlNet, ControlNetConfig
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.nn import spatial
from tinygen.ops.random import RNGLike
from tinygen.storage.files import CheckpointError
from tinygen.types import NumpyArray

WEIGHTS = "diffusion_pytorch_model.safetensors"

# -- names -----------------------------------------------------------------------------------------

NAMES: dict[type[nn.Module], dict[str, str]] = {
    nn.ResBlock: {"emb": "time_emb_proj", "skip": "conv_shortcut"},
    nn.SpatialAttention: {"norm": "group_norm", "attn": ""},
    nn.SpatialTransformer: {"blocks": "transformer_blocks"},
    spatial.ContextBlock: {
        "ln1": "norm1",
        "attn": "attn1",
        "ln2": "norm2",
        "cross": "attn2",
        "ln3": "norm3",
        "mlp": "ff",
    },
    spatial.GEGLU: {"fc": "net.0.proj", "proj": "net.2"},
    nn.MultiHeadAttention: {"qkv": "to_q to_k to_v", "proj": "to_out.0"},
    nn.CrossAttention: {"q": "to_q", "kv": "to_k to_v", "proj": "to_out.0"},
    AutoencoderKL: {"to_moments": "quant_conv", "from_code": "post_quant_conv"},
    autoencoder.Encoder: {
        "stem": "conv_in",
        "levels": "down_blocks",
        "middle": "mid_block",
        "norm": "conv_norm_out",
        "out": "conv_out",
    },
    autoencoder.Decoder: {
        "stem": "conv_in",
        "levels": "up_blocks",
        "middle": "mid_block",
        "norm": "conv_norm_out",
        "out": "conv_out",
    },
    UNet: {
        "steps": "time_embedding",
        "labels": "class_embedding",
        "down": "down_blocks",
        "middle": "mid_block",
        "up": "up_blocks",
        "norm_out": "conv_norm_out",
    },
    ControlNet: {
        "steps": "time_embedding",
        "labels": "class_embedding",
        "down": "down_blocks",
        "middle": "mid_block",
        "hint": "controlnet_cond_embedding",
        "zero_skips": "controlnet_down_blocks",
        "zero_middle": "controlnet_mid_block",
    },
    unet.TimestepEmbedding: {"fc": "linear_1", "proj": "linear_2"},
    unet.Down: {"downsample": "downsamplers.0"},
    unet.Up: {"upsample": "upsamplers.0"},
}
"""The names of a module's parts in diffusers, where they differ from ours. If several names are given, they
are layers there, whose weights are concatenated along the first axis here."""

KINDS: dict[type, str] = {
    nn.ResBlock: "resnets",
    nn.SpatialAttention: "attentions",
    autoencoder.Halve: "downsamplers",
    nn.Upsample: "upsamplers",
}
"""The lists in diffusers that hold the steps of our Sequential, by the class of a step."""

Names = tuple[str, ...]
Config = AutoencoderConfig | UNetConfig  # a ControlNetConfig is a UNetConfig, too
Model = AutoencoderKL | UNet | ControlNet

OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""The names of attention's layers in older files, and their names now."""


def sources(module: nn.Module, paths: Names = ("",)) -> Iterator[tuple[nn.Parameter, Names]]:
    """Each parameter below the module, with the names of the tensors in diffusers' file that are concatenated
    into it, in order. `paths` are the names of the module itself in that file."""
    counts: Counter[str] = Counter()
    for name, part in vars(module).items():
        if not isinstance(part, nn.Parameter | nn.Module):
            continue
        theirs = NAMES.get(type(module), {}).get(name, name)
        if isinstance(module, nn.Sequential):
            kind = KINDS[type(part)]
            theirs = f"{kind}.{counts[kind]}"
            counts[kind] += 1
        inner = tuple(f"{path}.{end}".strip(".") for path in paths for end in theirs.split(" "))
        if isinstance(part, nn.Parameter):
            yield part, inner
        else:
            yield from sources(part, inner)


# -- reading ---------------------------------------------------------------------------------------


def from_pretrained(folder: str | Path, keep_half: bool = False, *, rng: RNGLike = 0) -> Model:
    """The model in a folder of diffusers' format, in float32 and evaluation mode.

    With `keep_half`, weights that the folder has in float16 stay in float16 (`Module.astype`): the model
    needs half of the memory, and still computes in float32. An autoencoder's `scale` is the folder's
    scaling_factor. Dropout draws from `rng` if the model is trained further.

    Raises CheckpointError, which names the file, option or tensor, when something is missing or damaged, or
    when tinygen's blocks cannot express the model."""
    folder = Path(folder)
    config, scale = read_config(folder / CONFIG)
    path, tensors = read_tensors(folder, WEIGHTS, keep_half=keep_half)
    tensors = with_names_of_today(path, tensors)
    require_floats(path, tensors)
    require_enough(path, config, tensors)
    with nn.init.skipped():
        model = new_model(config, rng=rng)
    parts = list(sources(model))
    wanted = {name: (p.shape[0] // len(names), *p.shape[1:]) for p, names in parts for name in names}
    tensors = {name: as_matrix(array, wanted.get(name)) for name, array in tensors.items()}
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    for p, names in parts:
        p.replace(as_weight(join_parts([tensors.pop(name) for name in names])))
    if isinstance(model, AutoencoderKL):
        model.scale.data = np.asarray(scale, np.float32)
    return model.eval()


def new_model(config: Config, *, rng: RNGLike) -> Model:
    if isinstance(config, ControlNetConfig):
        return ControlNet(config, rng=rng)
    return UNet(config, rng=rng) if isinstance(config, UNetConfig) else AutoencoderKL(config, rng=rng)


def require_enough(path: Path, config: Config, tensors: dict[str, NumpyArray]) -> None:
    """Raise CheckpointError, before any array is allocated, if the model that config.json describes needs
    far more numbers than the file has. `least` counts some of the model's tensors, so that each size in the
    config plays a part; the whole model has more."""
    c = config
    least = 9 * (c.channels * c.in_channels + c.blocks * sum((c.channels * m) ** 2 for m in c.multipliers))
    if isinstance(c, UNetConfig):
        least += c.channels * (4 * (c.classes or 0) + (c.context or 0))
        if isinstance(c, ControlNetConfig):
            least += 9 * (c.hint_channels * c.hint_widths[0] + sum(n**2 for n in c.hint_widths[:-1]))
            least += 9 * c.hint_widths[-1] * c.channels
        else:
            least += 9 * c.channels * c.out_channels
    else:
        least += 4 * c.latent**2
    total = sum(array.size for array in tensors.values())
    if least > total:
        raise CheckpointError(path, "another model", f"at least {least} numbers by {CONFIG}", total)


def with_names_of_today(path: Path, tensors: dict[str, NumpyArray]) -> dict[str, NumpyArray]:
    """The tensors, with the old names of older files replaced. Raises CheckpointError if two tensors get the
    same name."""
    renamed = {present_name(name): array for name, array in tensors.items()}
    if len(renamed) < len(tensors):
        twice = next(name for name in tensors if present_name(name) != name and present_name(name) in tensors)
        raise CheckpointError(path, "an old name of another", "one of the two", present_name(twice), twice)
    return renamed


def present_name(name: str) -> str:
    """The present name for the name of a tensor in an older file."""
    path, _, kind = name.rpartition(".")
    above, _, layer = path.rpartition(".")
    return f"{above}.{OLDER[layer]}.{kind}" if ".attentions." in path and layer in OLDER else name


def as_matrix(array: NumpyArray, wanted: tuple[int, ...] | None) -> NumpyArray:
    """The weight of a 1×1 convolution as the matrix of a linear layer, if `wanted` is the shape of a
    matrix."""
    matrix = wanted is not None and array.ndim == 4 and array.shape == (*wanted, 1, 1)
    return array.reshape(wanted) if matrix else array

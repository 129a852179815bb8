"""The options of `diffusers`' models in config.json, translated into the configs of our AutoencoderKL, UNet
and ControlNet.

The classes of diffusers have many more options than ours. The code below lists every option with the values
that tinygen supports. Any other value and any unknown option raise an error that names it: weights may fit
by their shapes, and still be meant for another computation. If config.json lacks an option, it has the
default of diffusers' class. `diffusers.py` reads the weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tinygen.models.huggingface.folders import Options
from tinygen.models.pictures.autoencoder import AutoencoderConfig
from tinygen.models.pictures.controlnet import ControlNetConfig
from tinygen.models.pictures.unet import UNetConfig

CONTROLNET = "ControlNetModel"
UNETS = ["UNet2DConditionModel", "UNet2DModel", CONTROLNET]


class DiffusersOptions(Options):
    """The options of a model of diffusers, and its class."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kind = self.left.get("_class_name")

    def widths(self, default: list[int]) -> list[int]:
        """block_out_channels, which must be multiples of the number of groups of the norms."""
        name = "block_out_channels"
        widths = self.sizes(name, self.left.pop(name, default))
        groups = self.left.get("norm_num_groups", 32)
        if type(groups) is int and groups > 0 and (odd := [n for n in widths if n % groups]):
            self.refuse(name, f"multiples of norm_num_groups={groups}", odd[0])
        return widths


def read_config(path: Path) -> tuple[AutoencoderConfig | UNetConfig, float]:
    """The config of the model in a config.json, and the scale of an autoencoder's codes (1 for a UNet).

    Raises CheckpointError for the first option that tinygen's blocks cannot express."""
    o = DiffusersOptions(path)
    if o.kind == "AutoencoderKL":
        return autoencoder_config(o)
    if o.kind not in UNETS:
        o.refuse("_class_name", f"one of {['AutoencoderKL', *UNETS]}", o.kind)
    return controlnet_config(o) if o.kind == CONTROLNET else unet_config(o), 1.0


# -- AutoencoderKL ---------------------------------------------------------------------------------


def autoencoder_config(o: DiffusersOptions) -> tuple[AutoencoderConfig, float]:
    """The options of diffusers' AutoencoderKL as our config, and the scale of its codes."""
    widths = o.widths([64])
    unit = math.gcd(*widths)
    config = AutoencoderConfig(
        in_channels=o.size("in_channels", 3),
        latent=o.size("latent_channels", 4),
        channels=unit,
        multipliers=tuple(n // unit for n in widths),
        blocks=o.size("layers_per_block", 1),
        attention=o.choice("mid_block_add_attention", True, True, False),
        groups=o.size("norm_num_groups", 32),
    )
    o.choice("out_channels", 3, config.in_channels)
    o.choice("down_block_types", ["DownEncoderBlock2D"], ["DownEncoderBlock2D"] * len(widths))
    o.choice("up_block_types", ["UpDecoderBlock2D"], ["UpDecoderBlock2D"] * len(widths))
    o.choice("act_fn", "silu", "silu", "swish")
    for name in ("use_quant_conv", "use_post_quant_conv"):
        o.choice(name, True)
    for name in ("shift_factor", "latents_mean", "latents_std"):
        o.choice(name, None)
    scale = o.left.pop("scaling_factor", 0.18215)
    if type(scale) not in (int, float) or not 1e-30 < scale < 1e30:  # float32 holds it and 1 / it
        o.refuse("scaling_factor", "a number above 0, and below 1e30", scale)
    for name in ("sample_size", "force_upcast"):
        o.left.pop(name, None)  # sizes of pictures; advice for half precision
    o.end()
    return config, float(scale)


# -- UNet2DConditionModel, UNet2DModel -------------------------------------------------------------

UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "num_attention_heads": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
    "upsample_type": "conv",
}
"""Options for which tinygen supports only one value."""

UNET_FREE = (
    "sample_size",  # the UNet takes pictures of any size
    "upcast_attention",  # casts attention to float32; here everything is in float32
    "use_linear_projection",  # a linear layer in place of a 1×1 convolution, which computes the same
    "num_train_timesteps",
    "addition_embed_type_num_heads",
)
"""Options that make no difference when the options above have these values."""


def unet_config(o: DiffusersOptions) -> UNetConfig:
    """The options of diffusers' UNet2DConditionModel or UNet2DModel as our config, or those that a
    ControlNetModel has in common with the first."""
    text = o.kind != "UNet2DModel"
    cross = "CrossAttn" if text else "Attn"
    widths = o.widths([320, 640, 1280, 1280] if text else [224, 448, 672, 896])
    if odd := [n for n in widths if n % widths[0]]:
        o.refuse("block_out_channels", f"multiples of the first, {widths[0]}", odd[0])
    attention = levels_of(o, len(widths), cross)
    classes = o.left.pop("num_class_embeds", None)
    config = UNetConfig(
        in_channels=(channels := o.size("in_channels", 4 if text else 3)),
        out_channels=channels if o.kind == CONTROLNET else o.size("out_channels", 4 if text else 3),
        channels=widths[0],
        multipliers=tuple(n // widths[0] for n in widths),
        blocks=o.size("layers_per_block", 2),
        attention=attention,
        classes=None if classes is None else o.whole("num_class_embeds", classes) - 1,
        context=o.size("cross_attention_dim", 1280) if text else None,
        dropout=o.rate("dropout", 0.0),
        scale_shift=o.choice("resnet_time_scale_shift", "default", "default", "scale_shift") == "scale_shift",
        groups=o.size("norm_num_groups", 32),
        **heads_of(o, widths, attention),
    )
    if text:
        o.choice("mid_block_type", "UNetMidBlock2DCrossAttn")
        o.choice("mid_block_only_cross_attention", None, None, False)
    else:
        o.choice("mid_block_type", "UNetMidBlock2D")
        o.choice("add_attention", True)
        # without this option, the attention of a mid block with scale and shift would have no norm
        o.choice("attn_norm_num_groups", None, config.groups, *[None] * (not config.scale_shift))
    for name, value in UNET_FIXED.items():
        o.choice(name, value)
    for name in UNET_FREE:
        o.left.pop(name, None)
    o.end()
    return config


def controlnet_config(o: DiffusersOptions) -> ControlNetConfig:
    """The options of diffusers' ControlNetModel as our config."""
    hint_channels = o.size("conditioning_channels", 3)
    name = "conditioning_embedding_out_channels"
    hint_widths = tuple(o.sizes(name, o.left.pop(name, [16, 32, 96, 256])))
    o.choice("controlnet_conditioning_channel_order", "rgb")
    o.choice("global_pool_conditions", False)
    return ControlNetConfig(**vars(unet_config(o)), hint_channels=hint_channels, hint_widths=hint_widths)


def levels_of(o: DiffusersOptions, levels: int, kind: str) -> tuple[bool, ...]:
    """Which levels have attention, by down_block_types; up_block_types must be the same in reverse order."""
    plain, attending = "DownBlock2D", f"{kind}DownBlock2D"
    default = [attending] * 3 + [plain] if kind == "CrossAttn" else [plain] + [attending] * 3
    found = o.left.pop("down_block_types", default)
    if not isinstance(found, list) or len(found) != levels or any(t not in (plain, attending) for t in found):
        o.refuse("down_block_types", f"{levels} of {plain} and {attending}", found)
    if o.kind == CONTROLNET:  # it has no way up
        return tuple(name == attending for name in found)
    mirrored = [name.replace("Down", "Up") for name in reversed(found)]
    o.choice("up_block_types", [name.replace("Down", "Up") for name in reversed(default)], mirrored)
    return tuple(name == attending for name in found)


def heads_of(o: DiffusersOptions, widths: list[int], attention: tuple[bool, ...]) -> dict[str, int]:
    """`heads` or `head_channels` of a UNetConfig, from attention_head_dim.

    In a UNet2DModel, attention_head_dim is the width of a head, and null means one head. In the other two
    classes it is the number of heads, for all levels or as a list with one number per level.
    That name was a mistake in diffusers, and is now part of the format."""
    name, text = "attention_head_dim", o.kind != "UNet2DModel"
    found = o.left.pop(name, 8)
    if found is None and not text:
        return {"heads": 1}
    dims = o.sizes(name, found if text and isinstance(found, list) else [found])
    if len(dims) not in (1, len(widths)):
        o.refuse(name, f"one number, or {len(widths)}", found)
    dims = dims * (len(widths) // len(dims))
    attending = [*attention[:-1], True]  # the middle is as wide as the last level, and always attends
    pairs = [(n, d) for n, d, yes in zip(widths, dims, attending, strict=True) if yes]
    if any(n % d for n, d in pairs):
        o.refuse(name, f"divisors of the attentions' widths {[n for n, _ in pairs]}", found)
    if not text:
        return {"head_channels": dims[0]}
    if len({d for _, d in pairs}) == 1:
        return {"heads": pairs[0][1]}
    sizes = {n // d for n, d in pairs}
    if len(sizes) > 1:
        o.refuse(name, "as many heads at every level, or heads of one width", found)
    return {"head_channels": sizes.pop()}

"""Parity of the UNet with diffusers', with classes and with texts, from the same random weights."""

import numpy as np
import pytest

from tinygen.models.pictures.unet import UNet, UNetConfig

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers.models.unets import unet_2d, unet_2d_condition  # noqa: E402
from parity import agree  # noqa: E402

WIDTHS, GROUPS, HEADS, CLASSES, DEPTH = (8, 16), 4, 2, 3, 5
PATHS = {"down": "down_blocks", "up": "up_blocks", "middle": "mid_block", ".blocks.": ".transformer_blocks."}
LAYERS = {
    "steps.fc": ["time_embedding.linear_1"],
    "steps.proj": ["time_embedding.linear_2"],
    "labels": ["class_embedding"],
    "emb": ["time_emb_proj"],
    "skip": ["conv_shortcut"],
    "downsample.conv": ["downsamplers.0.conv"],
    "upsample.conv": ["upsamplers.0.conv"],
    "norm_out": ["conv_norm_out"],
    **{name: [name] for name in ("conv_in", "norm1", "conv1", "norm2", "conv2", "conv_out")},
}
ATTENTION = {"norm": ["group_norm"], "attn.qkv": ["to_q", "to_k", "to_v"], "attn.proj": ["to_out.0"]}
TRANSFORMER = {
    "ln1": ["norm1"],
    "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "attn.proj": ["attn1.to_out.0"],
    "ln2": ["norm2"],
    "cross.q": ["attn2.to_q"],
    "cross.kv": ["attn2.to_k", "attn2.to_v"],
    "cross.proj": ["attn2.to_out.0"],
    "ln3": ["norm3"],
    "mlp.fc": ["ff.net.0.proj"],
    "mlp.proj": ["ff.net.2"],
    **{name: [name] for name in ("norm", "proj_in", "proj_out")},
}
SHARED = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": WIDTHS,
    "layers_per_block": 1,
    "norm_num_groups": GROUPS,
}


def rng(seed=0):
    return np.random.default_rng(seed)


def pair(dtype, **options):
    """A UNet whose weights are all drawn anew, pictures and their steps."""
    config = UNetConfig(3, 3, WIDTHS[0], (1, 2), blocks=1, heads=HEADS, groups=GROUPS, **options)
    model = UNet(config, rng=rng()).astype(dtype)
    for i, p in enumerate(model.parameters()):
        p.data = (0.15 * rng(100 + i).standard_normal(p.shape)).astype(dtype)
    return model, rng(1).standard_normal((2, 3, 8, 8)).astype(dtype), np.array([1, 30])


# The sinusoids are float32 on both sides, whatever the dtype.
PRECISION = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-6)])


@PRECISION
@pytest.mark.parametrize("scale_shift", [False, True])
def test_with_classes(dtype, tolerance, scale_shift):
    model, x, t = pair(dtype, classes=CLASSES, scale_shift=scale_shift)
    labels = np.array([2, CLASSES])
    theirs = unet_2d.UNet2DModel(
        **SHARED,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=WIDTHS[1] // HEADS,
        attn_norm_num_groups=GROUPS,  # with "scale_shift", the middle's attention has no norm otherwise
        num_class_embeds=CLASSES + 1,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    )
    agree(
        *(model, theirs, {**LAYERS, **ATTENTION}, [x], tolerance, PATHS),
        call=lambda x: model(x, t, labels),
        their_call=lambda x: theirs(x, torch.tensor(t), torch.tensor(labels)).sample,
    )


@PRECISION
def test_with_texts(dtype, tolerance):
    model, x, t = pair(dtype, context=DEPTH)
    context, mask = rng(2).standard_normal((2, 4, DEPTH)).astype(dtype), np.arange(4) < np.array([[2], [4]])
    theirs = unet_2d_condition.UNet2DConditionModel(
        **SHARED,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=DEPTH,
        attention_head_dim=HEADS,  # the number of heads, in spite of its name
    )

    def their_call(x, context):
        return theirs(x, torch.tensor(t), context, encoder_attention_mask=torch.tensor(mask)).sample

    agree(
        *(model, theirs, {**LAYERS, **TRANSFORMER}, [x, context], tolerance, PATHS),
        call=lambda x, context: model(x, t, context=context, mask=mask),
        their_call=their_call,
    )

"""diffusers' folders: random models made by `diffusers` compute the same here, weights go where they belong,
and what cannot be expressed is refused by the name of the option."""

import inspect
import json
import re
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from foreign_files import JSON
from hypothesis import given
from hypothesis import strategies as st

from tinygen.models.huggingface.diffusers import from_pretrained, new_model, require_enough, sources
from tinygen.models.huggingface.diffusers_config import UNET_FIXED, read_config
from tinygen.models.pictures.autoencoder import AutoencoderConfig
from tinygen.models.pictures.controlnet import ControlNet, ControlNetConfig
from tinygen.models.pictures.unet import UNetConfig
from tinygen.nn import timestep_embedding
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
T = np.array([3, 700])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# -- folders made here: no library is needed -------------------------------------------------------

AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "block_out_channels": [8, 12],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 3,
    "norm_num_groups": 4,
}
TEXT = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
    "cross_attention_dim": 5,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
PLAIN = {
    "_class_name": "UNet2DModel",
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 8,
    "num_class_embeds": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
CONTROL = {
    **{name: value for name, value in TEXT.items() if name != "up_block_types"},
    "_class_name": "ControlNetModel",
    "conditioning_channels": 2,
    "conditioning_embedding_out_channels": [2, 3],
}
CONFIGS = {
    "AutoencoderKL": (AUTOENCODER, AutoencoderConfig(3, 3, 4, (2, 3), groups=4)),
    "UNet2DConditionModel": (TEXT, UNetConfig(4, 4, 8, (1, 2), 1, (True, False), 2, context=5, groups=4)),
    "ControlNetModel": (
        CONTROL,
        ControlNetConfig(
            *(4, 4, 8, (1, 2), 1, (True, False), 2), context=5, groups=4, hint_channels=2, hint_widths=(2, 3)
        ),
    ),
    "UNet2DModel": (
        PLAIN,
        UNetConfig(3, 3, 8, (1, 2), 1, (False, True), head_channels=8, classes=3, groups=4),
    ),
}


def ours(folder):
    """The model that its config.json describes, with all parameters random, so that each of them matters."""
    rng = np.random.default_rng(0)
    model = new_model(read_config(folder / "config.json")[0], rng=rng)
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def tensors_of(model):
    """{name there: array}: each parameter cut into its sources."""
    return {
        name: part
        for p, names in sources(model)
        for name, part in zip(names, np.split(p.data, len(names)), strict=True)
    }


@pytest.fixture(params=CONFIGS)
def folder(request, tmp_path):
    return written(tmp_path, request.param)


def written(path, name, **changes):
    """A folder with a model, some of its options changed."""
    (path / "config.json").write_text(json.dumps(CONFIGS[name][0] | changes))
    save_file(path / WEIGHTS, tensors_of(ours(path)))
    return path


def edit(folder, **changes):
    """Put options into config.json as they are, null too."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_in_their_names_comes_back_bit_for_bit(folder):
    loaded = from_pretrained(folder)
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    assert loaded.config == CONFIGS[name][1]
    assert not loaded.training
    for (key, p), (_, wanted) in zip(loaded.named_parameters(), ours(folder).named_parameters(), strict=True):
        assert p.data.tobytes() == wanted.data.tobytes(), key
        assert p.dtype == np.float32
    if name == "AutoencoderKL":
        assert loaded.scale.item() == np.float32(0.18215)


def test_older_names_and_other_precisions(folder):
    """query, key, value, proj_attn; matrices as 1×1 convolutions; float16."""
    later, older = tensors_of(from_pretrained(folder)), {}
    for name, array in later.items():
        if ".attentions.0.to_" in name or "proj_in.weight" in name:
            for now, then in [("q", "query"), ("k", "key"), ("v", "value"), ("out.0", "proj_attn")]:
                name = name.replace(f"to_{now}.", f"{then}.")
            array = array[:, :, None, None] if array.ndim == 2 else array
        older[name] = array.astype(np.float16)
    assert older.keys() != later.keys() or "proj_in" in "".join(older)
    save_file(folder / WEIGHTS, older)
    loaded = tensors_of(from_pretrained(folder))
    for name, array in later.items():
        np.testing.assert_array_equal(loaded[name], array.astype(np.float16), err_msg=name)
        assert loaded[name].dtype == np.float32


def test_an_old_and_a_new_name_of_one_tensor(folder):
    """One of the two would be lost."""
    tensors = load_file(folder / WEIGHTS)
    if not (new := next((name for name in tensors if ".attentions.0.to_q." in name), None)):
        pytest.skip("its attention has other names")
    save_file(folder / WEIGHTS, {**tensors, new.replace("to_q", "query"): tensors[new] + 1})
    with pytest.raises(CheckpointError, match=r"query\.\w+'?: an old name of another: .*found \S+to_q"):
        from_pretrained(folder)


def test_the_scale_is_the_folder_s(tmp_path):
    assert from_pretrained(written(tmp_path, "AutoencoderKL", scaling_factor=0.5)).scale.item() == 0.5


# -- stable diffusion's own configurations ---------------------------------------------------------

SD_UNET = """{
  "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
  "cross_attention_dim": 768,
  "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
  "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
  "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
}"""
SD_VAE = """{
  "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types":
      ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
  "sample_size": 512,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}"""


def test_stable_diffusion_can_be_expressed(tmp_path):
    """Its config.json files at full width; `test_the_structure_of_stable_diffusion_1` has the weights."""
    path = tmp_path / "config.json"
    path.write_text(SD_UNET)
    wanted = UNetConfig(4, 4, 320, (1, 2, 4, 4), 2, (True, True, True, False), 8, context=768, groups=32)
    assert read_config(path) == (wanted, 1.0)
    changes = {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024}  # version 2
    path.write_text(json.dumps(json.loads(SD_UNET) | changes | {"use_linear_projection": True}))
    assert read_config(path) == (replace(wanted, heads=1, head_channels=64, context=1024), 1.0)
    path.write_text(SD_VAE)
    assert read_config(path) == (AutoencoderConfig(3, 4, 128, (1, 2, 4, 4), 2, groups=32), 0.18215)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("AutoencoderKL", (AutoencoderConfig(3, 4, 64, (1,), 1, groups=32), 0.18215)),
        (
            "UNet2DConditionModel",
            (
                UNetConfig(
                    4, 4, 320, (1, 2, 4, 4), 2, (True, True, True, False), 8, None, None, 1280, groups=32
                ),
                1,
            ),
        ),
        (
            "ControlNetModel",
            (
                ControlNetConfig(
                    4, 4, 320, (1, 2, 4, 4), 2, (True, True, True, False), 8, None, None, 1280, groups=32
                ),
                1,
            ),
        ),
        (
            "UNet2DModel",
            (UNetConfig(3, 3, 224, (1, 2, 3, 4), 2, (False, True, True, True), 1, 8, groups=32), 1),
        ),
    ],
)
def test_options_that_are_left_out_have_the_values_of_diffusers(tmp_path, kind, wanted):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": kind}))
    assert read_config(tmp_path / "config.json") == wanted


def test_the_code_of_the_page_about_it_runs(tmp_path, monkeypatch):
    """With the sizes of codes and texts that Stable Diffusion has, and small widths. (The first code reads
    whole folders: test_stable_diffusion.py.)"""
    widths = {"block_out_channels": [8, 8, 8, 8], "latent_channels": 4}
    ways = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    for name, kind, changes in [
        ("vae", "AutoencoderKL", widths | ways),
        ("unet", "UNet2DConditionModel", {"cross_attention_dim": 768}),
    ]:
        folder = tmp_path / "sd" / name
        folder.mkdir(parents=True)
        written(folder, kind, **changes)
    (tmp_path / "sd" / "scheduler").mkdir()
    (tmp_path / "sd" / "scheduler" / "scheduler_config.json").write_text(
        '{"_class_name": "DDIMScheduler", "clip_sample": false}'
    )
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "diffusers.md").read_text()
    _, parts, scheduler = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(parts + scheduler, names := {})
    assert names["new"].shape == names["edited"].shape == (1, 4, 8, 8)
    assert names["codes"].shape == names["noise"].shape == (1, 4, 8, 8)
    assert names["decoded"].shape == names["pictures"].shape == (1, 3, 64, 64)


# -- what keeps a model out ------------------------------------------------------------------------

REFUSED = [
    ("AutoencoderKL", "act_fn", "mish"),
    ("AutoencoderKL", "block_out_channels", [8, 14]),
    ("AutoencoderKL", "block_out_channels", 8),
    ("AutoencoderKL", "block_out_channels", [8, 2**31]),
    ("AutoencoderKL", "layers_per_block", True),
    ("AutoencoderKL", "down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
    ("AutoencoderKL", "up_block_types", ["UpDecoderBlock2D"]),
    ("AutoencoderKL", "out_channels", 1),
    ("AutoencoderKL", "latent_channels", 2.5),
    ("AutoencoderKL", "norm_num_groups", None),
    ("AutoencoderKL", "use_quant_conv", False),
    ("AutoencoderKL", "use_post_quant_conv", False),
    ("AutoencoderKL", "shift_factor", 0.0609),
    ("AutoencoderKL", "latents_mean", [0.1, 0.2, 0.3]),
    ("AutoencoderKL", "latents_std", [0.1, 0.2, 0.3]),
    ("AutoencoderKL", "scaling_factor", 0),
    ("AutoencoderKL", "scaling_factor", 1e39),  # infinite in float32
    ("AutoencoderKL", "scaling_factor", 10**400),  # in float64 too
    ("AutoencoderKL", "scaling_factor", 1e-50),  # 0 in float32
    ("AutoencoderKL", "quantization_config", {"load_in_8bit": True}),
    ("UNet2DConditionModel", "quantization_config", {"quant_method": "bitsandbytes"}),
    ("AutoencoderKL", "_class_name", "AsymmetricAutoencoderKL"),
    ("AutoencoderKL", "new_option", None),
    ("UNet2DConditionModel", "_class_name", None),
    ("UNet2DConditionModel", "attention_head_dim", [2, 8]),
    ("UNet2DConditionModel", "attention_head_dim", [2, 2, 2]),
    ("UNet2DConditionModel", "attention_head_dim", 3),
    ("UNet2DConditionModel", "attention_head_dim", None),
    ("UNet2DConditionModel", "block_out_channels", [8, 12]),
    ("UNet2DConditionModel", "cross_attention_dim", [5, 5]),
    ("UNet2DConditionModel", "layers_per_block", [1, 2]),
    ("UNet2DConditionModel", "mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
    ("UNet2DConditionModel", "mid_block_type", None),
    ("UNet2DConditionModel", "mid_block_only_cross_attention", True),
    ("UNet2DConditionModel", "down_block_types", ["CrossAttnDownBlock2D", "AttnDownBlock2D"]),
    ("UNet2DConditionModel", "down_block_types", ["DownBlock2D"]),
    ("UNet2DConditionModel", "up_block_types", ["CrossAttnUpBlock2D", "UpBlock2D"]),
    ("UNet2DConditionModel", "resnet_time_scale_shift", "ada_group"),
    ("UNet2DConditionModel", "dropout", 1.0),
    ("UNet2DConditionModel", "num_class_embeds", 0),
    ("UNet2DModel", "attention_head_dim", 3),
    ("UNet2DModel", "attn_norm_num_groups", 2),
    ("UNet2DModel", "add_attention", False),
    ("UNet2DModel", "mid_block_type", "UNetMidBlock2DCrossAttn"),
    ("UNet2DModel", "down_block_types", ["DownBlock2D", "ResnetDownsampleBlock2D"]),
    ("UNet2DModel", "cross_attention_dim", 5),
    ("ControlNetModel", "conditioning_channels", 0),
    ("ControlNetModel", "conditioning_embedding_out_channels", []),
    ("ControlNetModel", "conditioning_embedding_out_channels", None),
    ("ControlNetModel", "controlnet_conditioning_channel_order", "bgr"),
    ("ControlNetModel", "global_pool_conditions", True),
    ("ControlNetModel", "out_channels", 4),
    ("ControlNetModel", "mid_block_type", "UNetMidBlock2D"),
    ("ControlNetModel", "down_block_types", ["CrossAttnDownBlock2D", "AttnDownBlock2D"]),
    ("ControlNetModel", "up_block_types", ["UpBlock2D", "CrossAttnUpBlock2D"]),
]
OTHERS = {False: True, None: "something else", "positional": "fourier", "conv": "resnet", "silu": "gelu"}


@pytest.mark.parametrize(("name", "option", "value"), REFUSED)
def test_refused(tmp_path, name, option, value):
    edit(written(tmp_path, name), **{option: value})
    with pytest.raises(CheckpointError, match=rf"config\.json: the option {option}: expected .*, found"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("option", UNET_FIXED)
def test_an_option_with_one_value_has_no_other(tmp_path, option):
    fixed = UNET_FIXED[option]
    value = fixed + 1 if type(fixed) in (int, float) else OTHERS.get(fixed, "other")
    edit(written(tmp_path, "UNet2DConditionModel"), **{option: value})
    with pytest.raises(CheckpointError, match=rf"the option {option}: expected {json.dumps(fixed)}: tinygen"):
        from_pretrained(tmp_path)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    return {name: written(tmp_path_factory.mktemp(name), name) for name in CONFIGS}


@given(st.sampled_from(REFUSED), st.sampled_from(REFUSED), JSON, JSON)
def test_what_a_stranger_writes_into_the_options_is_refused_or_read(strange, one, other, first, second):
    name, option, _ = one
    changes = {option: first, other[1]: second} if other[0] == name else {option: first}
    (strange[name] / "config.json").write_text(json.dumps(CONFIGS[name][0] | changes))
    with suppress(CheckpointError):
        assert from_pretrained(strange[name]).num_parameters() > 1000


def test_scale_and_shift_without_a_text_need_the_norm_of_the_mid_attention(tmp_path):
    edit(written(tmp_path, "UNet2DModel"), resnet_time_scale_shift="scale_shift")
    with pytest.raises(CheckpointError, match="the option attn_norm_num_groups: expected 4"):
        from_pretrained(tmp_path)


def test_tensors_that_do_not_fit_are_listed(folder):
    tensors = load_file(folder / WEIGHTS)
    lost = min(name for name in tensors if name.endswith("norm1.weight"))
    cut = min(name for name in tensors if name.endswith("conv1.weight"))
    size, shape = len(tensors[lost]), tensors[cut].shape
    tensors["conv_norm.weight"] = tensors.pop(lost)
    tensors[cut] = tensors[cut][:-1]
    save_file(folder / WEIGHTS, tensors)
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(folder)
    text = str(caught.value)
    assert f"{lost} ({size},) is missing" in text
    assert f"{cut} should be {shape} by config.json, and is ({shape[0] - 1}, " in text
    assert f"'conv_norm.weight' ({size},) has no place in it" in text


HUGE = [
    ("AutoencoderKL", {"block_out_channels": [8, 4 * 10**8]}),
    ("AutoencoderKL", {"layers_per_block": 10**8}),
    ("AutoencoderKL", {"latent_channels": 10**5}),
    ("AutoencoderKL", {"in_channels": 10**8, "out_channels": 10**8}),
    ("UNet2DConditionModel", {"cross_attention_dim": 10**8}),
    ("UNet2DConditionModel", {"out_channels": 10**8}),
    ("UNet2DModel", {"num_class_embeds": 10**8}),
    ("ControlNetModel", {"conditioning_channels": 10**8}),
    ("ControlNetModel", {"conditioning_embedding_out_channels": [2, 10**8]}),
    ("ControlNetModel", {"conditioning_embedding_out_channels": [2, 10**5, 2]}),
]


@pytest.mark.parametrize(("name", "changes"), HUGE)
def test_sizes_far_beyond_the_file_make_no_arrays(tmp_path, name, changes):
    edit(written(tmp_path, name), **changes)
    with pytest.raises(
        CheckpointError, match=r"another model: expected at least \d+ numbers by config\.json"
    ):
        from_pretrained(tmp_path)


ENOUGH = [  # 3×3 kernels of the first convolution, of the blocks, of the last; then tables and projections
    (UNetConfig(3, 5, 8, (1, 2), 2, (False, True), 2), 9 * (8 * 3 + 2 * (8**2 + 16**2) + 8 * 5)),
    (UNetConfig(3, 5, 8, (1,), 1, (True,), 2, classes=7), 9 * (8 * 3 + 8**2 + 8 * 5) + 8 * 4 * 7),
    (UNetConfig(3, 5, 8, (1,), 1, (True,), 2, context=7), 9 * (8 * 3 + 8**2 + 8 * 5) + 8 * 7),
    (
        ControlNetConfig(3, 5, 8, (1,), 1, (True,), 2, hint_channels=2, hint_widths=(4, 6)),
        9 * (8 * 3 + 8**2 + 2 * 4 + 4**2 + 6 * 8),
    ),
    (AutoencoderConfig(3, 6, 8, (1, 2), 2), 9 * (8 * 3 + 2 * (8**2 + 16**2)) + 4 * 6**2),
]


@pytest.mark.parametrize(("config", "least"), ENOUGH)
def test_a_file_with_fewer_numbers_than_a_model_must_have(config, least):
    """No model has fewer, a file that has just as many is read on."""
    assert new_model(config, rng=0).num_parameters() >= least
    require_enough(Path("folder"), config, {"weight": np.zeros(least, bool)})
    with pytest.raises(CheckpointError, match=rf"at least {least} numbers by .*, found {least - 1}"):
        require_enough(Path("folder"), config, {"weight": np.zeros(least - 1, bool)})


def test_float16_is_kept_where_it_is_asked_for(tmp_path):
    """The same numbers at half of the size, and the same outputs as after `astype`; float32 stays."""
    written(tmp_path, "UNet2DConditionModel")
    arrays = load_file(tmp_path / WEIGHTS)
    save_file(tmp_path / WEIGHTS, {name: array.astype(np.float16) for name, array in arrays.items()})
    wide, kept = from_pretrained(tmp_path), from_pretrained(tmp_path, keep_half=True)
    assert {p.dtype.name for p in wide.parameters()} == {"float32"}
    assert {p.dtype.name for p in kept.parameters()} == {"float16"}
    x, context = normal(2, 4, 4, 4), normal(2, 3, 5, seed=1)
    out = kept(x, T, context=context)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.data, wide.astype(np.float16)(x, T, context=context).data)
    save_file(tmp_path / WEIGHTS, arrays)
    assert {p.dtype.name for p in from_pretrained(tmp_path, keep_half=True).parameters()} == {"float32"}


def test_a_model_is_read_within_little_more_than_its_memory(tmp_path):
    """No weights are drawn first, and no file is there twice: besides the weights there are the matrices that
    are put together from queries, keys and values."""
    folder = written(tmp_path, "UNet2DConditionModel")
    edit(folder, block_out_channels=[32, 64], norm_num_groups=8, layers_per_block=3)
    model = new_model(read_config(folder / "config.json")[0], rng=0)
    parts = [(names, np.split(p.data, len(names))) for p, names in sources(model)]
    tensors = {name: part for names, cut in parts for name, part in zip(names, cut, strict=True)}
    for dtype in (np.float32, np.float16):
        save_file(folder / WEIGHTS, {name: array.astype(dtype) for name, array in tensors.items()})
        size = (folder / WEIGHTS).stat().st_size
        tracemalloc.start()
        kept = from_pretrained(folder, keep_half=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size > 1e6
        assert peak < 1.25 * size
        assert kept.num_parameters() == model.num_parameters()


# -- diffusers' own models -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("torch")
    return pytest.importorskip("diffusers")


def theirs(library, kind, folder, **options):
    """A random model, saved; norms and biases, which start as 1 and 0, are random too."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = getattr(library, kind)(**options).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))
    model.save_pretrained(folder)
    return model


def require_same_gradients(model, other, out, expected):
    """The gradients of a random weighting of the outputs, all parameters, both in float64."""
    torch = pytest.importorskip("torch")
    weights = normal(*expected.shape, seed=9).astype(np.float64)
    (out * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    grads = {name: p.grad.numpy() for name, p in other.named_parameters()}
    for p, names in sources(model):
        wanted = np.concatenate([grads[name].reshape(-1, *p.shape[1:]) for name in names])
        np.testing.assert_allclose(p.grad, wanted, rtol=1e-8, atol=1e-9 * np.abs(wanted).max() + 1e-12)


def require_close(got, wanted, tolerance=1e-5):
    wanted = wanted.detach().numpy()
    assert np.abs(wanted).max() > 0.1
    assert np.abs(got.numpy() - wanted).max() <= tolerance


def coder(*widths, **options):
    ways = {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
    }
    return {"block_out_channels": widths, "norm_num_groups": 8, **ways, **options}


AUTOENCODERS = [
    coder(16, 32, layers_per_block=2),
    coder(24, 40, 16, in_channels=1, out_channels=1, latent_channels=3, norm_num_groups=4),
    coder(16, mid_block_add_attention=False, scaling_factor=0.5),
]


@pytest.mark.parametrize("options", AUTOENCODERS)
def test_their_autoencoders(library, tmp_path, options):
    """Moments and pictures within 1e-5 in float32, 1e-12 in float64; all gradients."""
    torch = pytest.importorskip("torch")
    other = theirs(library, "AutoencoderKL", tmp_path, **options)
    model = from_pretrained(tmp_path)
    assert model.num_parameters() == sum(p.numel() for p in other.parameters())
    assert model.scale.item() == np.float32(options.get("scaling_factor", 0.18215))
    c = model.config
    x = np.tanh(normal(2, c.in_channels, 8, 12))
    z = normal(2, c.latent, 8 // c.factor, 12 // c.factor, seed=1)
    for dtype, tolerance in [(np.float32, 1e-5), (np.float64, 1e-12)]:
        model.astype(dtype)
        other = other.to(getattr(torch, dtype.__name__))
        posterior, wanted = model.posterior(x.astype(dtype)), other.encode(torch.tensor(x.astype(dtype)))
        require_close(posterior.mean, wanted.latent_dist.mean, tolerance)
        require_close(posterior.logvar, wanted.latent_dist.logvar, tolerance)
        decoded, expected = (
            model.to_pictures(z.astype(dtype)),
            other.decode(torch.tensor(z.astype(dtype))).sample,
        )
        require_close(decoded, expected, tolerance)
    moments = np.concatenate([posterior.mean, posterior.logvar, decoded.reshape(2, -1, *z.shape[2:])], axis=1)
    parts = [wanted.latent_dist.mean, wanted.latent_dist.logvar, expected.reshape(2, -1, *z.shape[2:])]
    require_same_gradients(model, other, moments, torch.cat(parts, dim=1))


def test_their_draws(library, tmp_path):
    """The same code of the same noise, and the same divergence."""
    torch = pytest.importorskip("torch")
    other = theirs(library, "AutoencoderKL", tmp_path, **AUTOENCODERS[0])
    model = from_pretrained(tmp_path)
    x = np.tanh(normal(2, 3, 8, 8))
    wanted = other.encode(torch.tensor(x)).latent_dist
    noise = torch.tensor(normal(2, 4, 4, 4, seed=5))
    require_close(model.posterior(x).sample(rng=np.random.default_rng(5)), wanted.mean + wanted.std * noise)
    kl = model.losses(x, rng=np.random.default_rng(5)).kl.item() * len(x)
    assert kl == pytest.approx(wanted.kl().sum().item(), rel=1e-5)


def levels(kind, *widths):
    """Block types with attention where the width is negative, and the widths."""
    down = [f"{kind}DownBlock2D" if n < 0 else "DownBlock2D" for n in widths]
    up = [name.replace("Down", "Up") for name in reversed(down)]
    return {
        "block_out_channels": [abs(n) for n in widths],
        "down_block_types": down,
        "up_block_types": up,
        "norm_num_groups": 8,
        "layers_per_block": 1,
    }


UNETS = [
    ("UNet2DConditionModel", {**levels("CrossAttn", -16, 32), "attention_head_dim": 4}),
    (
        "UNet2DConditionModel",
        {
            **levels("CrossAttn", 16, -32, -32),
            "attention_head_dim": (2, 2, 2),
            "use_linear_projection": True,
            "upcast_attention": True,
            "resnet_time_scale_shift": "scale_shift",
            "num_class_embeds": 3,
            "in_channels": 5,
        },
    ),
    ("UNet2DConditionModel", {**levels("CrossAttn", -16, 32, -32), "attention_head_dim": (2, 3, 4)}),
    ("UNet2DModel", {**levels("Attn", -16, -32), "attention_head_dim": 8, "dropout": 0.1}),
    ("UNet2DModel", {**levels("Attn", -16, -32), "attention_head_dim": None, "num_class_embeds": 3}),
    (
        "UNet2DModel",
        {**levels("Attn", 16, 16), "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8},
    ),
]


def asked(other, x, conditions):
    """diffusers' answer, and ours, asked the same."""
    torch = pytest.importorskip("torch")
    given = [torch.tensor(T)]
    more = {}
    if "context" in conditions:
        given.append(torch.tensor(conditions["context"].astype(x.dtype)))
    if "labels" in conditions:
        more["class_labels"] = torch.tensor(conditions["labels"])
    if "mask" in conditions:
        more["encoder_attention_mask"] = torch.tensor(conditions["mask"])
    return other(torch.tensor(x), *given, **more).sample


def conditions_of(model, mask=False):
    c = model.config
    found = {}
    if c.context is not None:
        found["context"] = normal(2, 6, c.context, seed=2)
        if mask:
            found["mask"] = np.arange(6) < np.array([[4], [6]])
    if c.classes is not None:
        found["labels"] = np.array([0, c.classes])
    return found


@pytest.mark.parametrize(("kind", "options"), UNETS)
def test_their_unets(library, tmp_path, kind, options):
    """Within 1e-5 in float32. In float64 within 1e-12, and all gradients, once the steps' sinusoids, which
    they compute in float32, are the same."""
    torch = pytest.importorskip("torch")
    text = {"cross_attention_dim": 12} if kind == "UNet2DConditionModel" else {}
    other = theirs(library, kind, tmp_path, **text, **options)
    model = from_pretrained(tmp_path)
    assert model.num_parameters() == sum(p.numel() for p in other.parameters())
    x = normal(2, model.config.in_channels, 8, 12)
    conditions = conditions_of(model)
    require_close(model(x, T, **conditions), asked(other, x, conditions))
    if text:
        masked = conditions_of(model, mask=True)
        require_close(model(x, T, **masked), asked(other, x, masked))
        assert np.abs((model(x, T, **masked) - model(x, T, **conditions)).numpy()).max() > 1e-3
    model.astype(np.float64)
    other = other.double()
    other.time_proj.forward = lambda t: torch.tensor(timestep_embedding(t.numpy(), model.config.channels))
    x = x.astype(np.float64)
    conditions = {k: v.astype(np.float64) if k == "context" else v for k, v in conditions.items()}
    out, expected = model(x, T, **conditions), asked(other, x, conditions)
    require_close(out, expected, 1e-12)
    require_same_gradients(model, other, out, expected)


CONTROLNETS = [
    {**levels("CrossAttn", -16, 32), "attention_head_dim": 4},
    {
        **levels("CrossAttn", 16, -32, -32),
        "attention_head_dim": (2, 2, 2),
        "num_class_embeds": 3,
        "conditioning_channels": 1,
        "conditioning_embedding_out_channels": (4, 6, 8),
        "layers_per_block": 2,
    },
]


@pytest.mark.parametrize("options", CONTROLNETS)
def test_their_controlnets(library, tmp_path, options):
    """All residuals within 1e-5 in float32; in float64 within 1e-12, and all gradients. The UNet that takes
    them answers the same, too."""
    torch = pytest.importorskip("torch")
    common = {k: v for k, v in options.items() if k != "up_block_types"} | {"cross_attention_dim": 12}
    other = theirs(library, "ControlNetModel", tmp_path, **common)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * torch.randn_like(p) * (not p.any()))  # what starts as 0
    other.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path)
    assert model.num_parameters() == sum(p.numel() for p in other.parameters())
    x, f = normal(2, 4, 8, 12), model.hint.factor
    hints, conditions = normal(2, model.hint_channels, 8 * f, 12 * f, seed=4), conditions_of(model)

    def both(dtype, strength=1.0):
        context = conditions["context"].astype(dtype)
        ours = model(x.astype(dtype), T, hints.astype(dtype), **conditions, strength=strength)
        labels = torch.tensor(conditions["labels"]) if "labels" in conditions else None
        given = [torch.tensor(a) for a in (x.astype(dtype), T, context, hints.astype(dtype))]
        return ours, other(*given, conditioning_scale=strength, class_labels=labels)

    flat = lambda middle, skips: [middle.reshape(-1), *(skip.reshape(-1) for skip in skips)]
    for dtype, tolerance in [(np.float32, 1e-5), (np.float64, 1e-12)]:
        model.astype(dtype)
        other = other.to(getattr(torch, dtype.__name__))
        if dtype == np.float64:
            other.time_proj.forward = lambda t: torch.tensor(timestep_embedding(t.numpy(), 16))
            conditions["context"] = conditions["context"].astype(dtype)
        ours, wanted = both(dtype, 0.7)
        out = np.concatenate(flat(*ours))
        expected = torch.cat(flat(wanted.mid_block_res_sample, wanted.down_block_res_samples))
        require_close(out, expected, tolerance)
    require_same_gradients(model, other, out, expected)

    of_unet = {k: v for k, v in options.items() if not k.startswith("conditioning_")}
    unet = theirs(library, "UNet2DConditionModel", tmp_path / "unet", **of_unet, cross_attention_dim=12)
    control = from_pretrained(tmp_path)(x, T, hints, **conditions_of(model))
    labels = torch.tensor(conditions["labels"]) if "labels" in conditions else None
    wanted = unet(
        *(torch.tensor(x), torch.tensor(T), torch.tensor(conditions_of(model)["context"]), labels),
        down_block_additional_residuals=[torch.tensor(skip.numpy()) for skip in control.skips],
        mid_block_additional_residual=torch.tensor(control.middle.numpy()),
    ).sample
    ours = from_pretrained(tmp_path / "unet")
    require_close(ours(x, T, control=control, **conditions_of(model)), wanted)
    assert np.abs(ours(x, T, **conditions_of(model)).numpy() - wanted.detach().numpy()).max() > 1e-2


def test_a_copy_of_a_unet_is_theirs(library, tmp_path):
    """`ControlNet.copy_of` takes the weights that diffusers' `from_unet` takes."""
    options = {**CONTROLNETS[0], "cross_attention_dim": 12}
    unet = theirs(library, "UNet2DConditionModel", tmp_path, **options)
    wanted = library.ControlNetModel.from_unet(unet).state_dict()
    ours = tensors_of(ControlNet.copy_of(from_pretrained(tmp_path), 3, (16, 32, 96, 256), rng=0))
    assert ours.keys() == wanted.keys()
    for name, array in ours.items():
        if not name.startswith("controlnet_cond"):  # random, except its last layer
            np.testing.assert_array_equal(array, wanted[name].numpy().reshape(array.shape))


def test_the_structure_of_stable_diffusion_1(library, tmp_path):
    """Its configuration at a tenth of the width: all 686 tensors, and the same answer."""
    options = {k: v for k, v in json.loads(SD_UNET).items() if not k.startswith("_")}
    options |= {"block_out_channels": [32, 64, 128, 128], "cross_attention_dim": 24}
    other = theirs(library, "UNet2DConditionModel", tmp_path, **options)
    assert len(load_file(tmp_path / WEIGHTS)) == 686
    model = from_pretrained(tmp_path)
    for sides in ((8, 8), (5, 7)):  # odd ones are rounded up on the way down
        x = normal(2, 4, *sides)
        require_close(model(x, T, **conditions_of(model)), asked(other, x, conditions_of(model)))


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_option_of_their_classes_is_known(library, tmp_path, kind):
    """Written out with the values they have by default, none is refused as unknown."""
    signature = inspect.signature(getattr(library, kind).__init__).parameters.values()
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    written(tmp_path, kind)
    options = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(defaults | options))
    from_pretrained(tmp_path)

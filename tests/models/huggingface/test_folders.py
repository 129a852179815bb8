"""What all formats of folders share: options at their borders, the values that are the only ones, what a
config.json may leave out, and models that are not numbers any more."""

import json

import numpy as np
import pytest

from tinygen.align import add_lora
from tinygen.models import BART, BERT, CLIP, GPT, T5, Llama
from tinygen.models.huggingface import bart, bert, clip, diffusers_config, gpt2, llama_config, peft, t5
from tinygen.models.huggingface.folders import (
    Options,
    join_parts,
    joined_shape,
    json_file,
    read_options,
    read_tensors,
    split_parts,
)
from tinygen.models.language.bart import BARTConfig
from tinygen.models.language.bert import BERTConfig
from tinygen.models.language.gpt import GPTConfig
from tinygen.models.language.llama import LlamaConfig
from tinygen.models.language.t5 import T5Config
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

# -- options ---------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.json"


def read_one(path, value, read):
    """What `read` makes of the option x with this value."""
    path.write_text(json.dumps({"x": value}))
    return read(Options(path))


BORDERS = [  # how the option is read; the values that are taken, and refused; what is said
    (lambda o: o.size("x", 7), [1, 2**31 - 1], [0, 2**31, True, 1.0, None], "a whole number from 1, found"),
    (lambda o: o.size_or("x", 7, 7), [1, 2**31 - 1], [0, 2**31, True, 1.0], "a whole number from 1, found"),
    (lambda o: o.token("x", 3, 11), [0, 10], [-1, 11, True, 1.0, None], "a token, from 0 to 10, found"),
    (lambda o: o.rate("x", 0.5), [0, 0.999], [-1e-9, 1, True, None, "0"], "a number from 0, below 1, found"),
    (lambda o: o.flag("x", True), [True, False], [0, 1, None, "true"], "true or false, found"),
]


@pytest.mark.parametrize(("read", "taken", "refused", "message"), BORDERS)
def test_options_at_their_borders(path, read, taken, refused, message):
    assert [read_one(path, value, read) for value in taken] == taken
    for value in refused:
        with pytest.raises(CheckpointError, match=f"the option x: expected {message}"):
            read_one(path, value, read)


def test_options_that_are_left_out_or_null(path):
    path.write_text("{}")
    assert [read(Options(path)) for read, *_ in BORDERS] == [7, 7, 3, 0.5, True]
    assert read_one(path, None, lambda o: o.size_or("x", 5, 6)) == 6


def test_several_sizes(path):
    def read(o):
        return o.sizes("x", o.left["x"])

    assert read_one(path, [3, 1], read) == [3, 1]
    for value in ([], 3, [3, 0], [0, 3]):
        with pytest.raises(CheckpointError, match="the option x: expected a"):
            read_one(path, value, read)


# -- files -----------------------------------------------------------------------------------------


def test_a_config_has_a_line_for_each_option():
    assert json_file({"a": 1, "b": [2]}) == b'{\n  "a": 1,\n  "b": [\n    2\n  ]\n}\n'


def test_the_longest_files_that_are_read(tmp_path, path):
    """A million bytes of options, and ten million of an index."""
    path.write_bytes(b"{}".ljust(10**6))
    assert read_options(path) == {}
    path.write_bytes(b"{}".ljust(10**6 + 1))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_options(path)
    index = tmp_path / "x.index.json"
    index.write_bytes(b'{"weight_map": {}}'.ljust(10**7))
    assert read_tensors(tmp_path, "x") == (index, {})
    index.write_bytes(b'{"weight_map": {}}'.ljust(10**7 + 1))
    with pytest.raises(CheckpointError, match=r"x\.index\.json"):
        read_tensors(tmp_path, "x")


def test_parts_of_a_parameter():
    """Two parts stand one below the other. One alone stays as it is, and may be a number."""
    whole = np.arange(12.0).reshape(4, 3)
    parts = split_parts(whole, ["a", "b"])
    np.testing.assert_array_equal(parts["a"], whole[:2])
    np.testing.assert_array_equal(parts["b"], whole[2:])
    np.testing.assert_array_equal(join_parts(list(parts.values())), whole)
    assert joined_shape(parts["a"].shape, ["a", "b"]) == whole.shape
    number = np.float32(3).reshape(())
    assert split_parts(number, ["a"]) == {"a": number}
    assert join_parts([number]) is number
    assert joined_shape((), ["a"]) == ()


# -- options that have one value -------------------------------------------------------------------

ENCODERS = {"is_decoder": False, "add_cross_attention": False, "tie_word_embeddings": True}
TOWER = {"is_decoder": False, "is_encoder_decoder": False, "add_cross_attention": False, "pruned_heads": {}}
ROPE = {"hidden_act": "silu", "use_mrope": False, "rope_interleaved": False}
READERS = {  # how it is read; the least options; options for which there is one value only
    "bart": (
        lambda path: bart.read_config(path, None),
        {"model_type": "bart"},
        {"is_decoder": False, "is_encoder_decoder": True, "tie_word_embeddings": True}
        | {"scale_embedding": False, "normalize_before": False, "normalize_embedding": True}
        | {"add_final_layer_norm": False, "add_bias_logits": False, "extra_pos_embeddings": 2}
        | {"static_position_embeddings": False, "decoder_attention_heads": 16, "decoder_ffn_dim": 4096},
    ),
    "bert": (
        lambda path: bert.read_config(path, None),
        {"model_type": "bert"},
        ENCODERS | {"position_embedding_type": "absolute"},
    ),
    "clip-text": (
        lambda path: clip.read_text(Options(path)),
        {},
        TOWER,
    ),
    "clip-image": (lambda path: clip.read_image(Options(path)), {}, TOWER),
    "gpt2": (
        gpt2.read_config,
        {"model_type": "gpt2"},
        {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
        | {"is_decoder": False, "n_inner": 3072, "pruned_heads": {}},
    ),
    "llama": (llama_config.read_config, {"model_type": "llama"}, ROPE),
    "mistral": (
        lambda path: llama_config.read_config(path, 8),
        {"model_type": "mistral"},
        ROPE | {"attention_bias": False, "mlp_bias": False},
    ),
    "qwen2": (
        llama_config.read_config,
        {"model_type": "qwen2"},
        ROPE | {"attention_bias": True, "mlp_bias": False},
    ),
    "qwen3": (llama_config.read_config, {"model_type": "qwen3"}, ROPE | {"mlp_bias": False}),
    "t5": (
        t5.read_config,
        {"model_type": "t5"},
        {"is_decoder": False, "is_encoder_decoder": True, "dense_act_fn": "relu", "is_gated_act": False},
    ),
    "t5-gated": (
        t5.read_config,
        {"model_type": "t5", "feed_forward_proj": "gated-gelu"},
        {"dense_act_fn": "gelu_new", "is_gated_act": True},
    ),
    "autoencoder": (
        diffusers_config.read_config,
        {"_class_name": "AutoencoderKL"},
        {"use_quant_conv": True, "use_post_quant_conv": True, "shift_factor": None, "latents_mean": None}
        | {"latents_std": None, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"]}
        | {"up_block_types": ["UpDecoderBlock2D"]},
    ),
    "unet": (
        diffusers_config.read_config,
        {"_class_name": "UNet2DConditionModel"},
        {"act_fn": "silu", "addition_embed_type": None, "addition_time_embed_dim": None}
        | {"attention_type": "default", "center_input_sample": False, "class_embed_type": None}
        | {"class_embeddings_concat": False, "conv_in_kernel": 3, "conv_out_kernel": 3}
        | {"cross_attention_norm": None, "downsample_padding": 1, "downsample_type": "conv"}
        | {"dual_cross_attention": False, "encoder_hid_dim": None, "encoder_hid_dim_type": None}
        | {"flip_sin_to_cos": True, "freq_shift": 0, "mid_block_scale_factor": 1, "norm_eps": 1e-5}
        | {"num_attention_heads": None, "only_cross_attention": False, "resnet_out_scale_factor": 1.0}
        | {"projection_class_embeddings_input_dim": None, "resnet_skip_time_act": False}
        | {"reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None}
        | {"time_embedding_act_fn": None, "time_embedding_dim": None, "time_embedding_type": "positional"}
        | {"timestep_post_act": None, "transformer_layers_per_block": 1, "upsample_type": "conv"}
        | {"mid_block_type": "UNetMidBlock2DCrossAttn"},
    ),
    "unet-no-text": (
        diffusers_config.read_config,
        {"_class_name": "UNet2DModel"},
        {"mid_block_type": "UNetMidBlock2D", "add_attention": True},
    ),
    "peft": (
        peft.read_config,
        {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "target_modules": ["c_attn"]},
        {"bias": "none"},
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_an_option_with_one_value_may_be_left_out_or_have_this_value(path, name):
    """So it is the one that counts where the option is left out. Any other value is refused."""
    read, least, fixed = READERS[name]

    def found(options):
        path.write_text(json.dumps(least | options))
        return read(path)

    assert found(fixed) == found({}) or name == "peft"
    for option, value in fixed.items():
        other = not value if type(value) is bool else 99 if type(value) in (int, float) else "another"
        with pytest.raises(CheckpointError, match=f"the option {option}: expected"):
            found({option: other})


FREE = {
    "bart": bart.FREE,
    "bert": [name for name in bert.FREE if name != "pad_token_id"],
    "clip-text": clip.FREE,
    "gpt2": gpt2.FREE,
    "llama": llama_config.FREE,
    "t5": t5.FREE,
    "unet": diffusers_config.UNET_FREE,
}


@pytest.mark.parametrize("name", FREE)
def test_options_that_change_no_logits_may_have_any_value(path, name):
    read, least, _ = READERS[name]
    path.write_text(json.dumps(least))
    expected = read(path)
    path.write_text(json.dumps(least | dict.fromkeys(FREE[name], "anything")))
    assert read(path) == expected


def test_one_of_their_classes_stands_for_no_class(path):
    """So a UNet of theirs with five has four here."""
    path.write_text(json.dumps({"_class_name": "UNet2DModel", "num_class_embeds": 5}))
    assert diffusers_config.read_config(path)[0].classes == 4


MORE_BORDERS = [  # a reader, options that are taken, options that are refused, the one that is named
    ("gpt2", {"layer_norm_epsilon": 0}, {"layer_norm_epsilon": -0.5}, "layer_norm_epsilon"),
    ("gpt2", {"embd_pdrop": 0, "attn_pdrop": 0.9}, {"resid_pdrop": -0.5}, "resid_pdrop"),
    ("gpt2", {"vocab_size": 2**31 - 1}, {"vocab_size": 2**31}, "vocab_size"),
    ("llama", {"rope_theta": 1.001}, {"rope_theta": 1.0}, "rope_theta"),
    ("llama", {"rope_theta": 9.9e29}, {"rope_theta": 1e30}, "rope_theta"),
    ("llama", {"head_dim": 2}, {"head_dim": 1}, "head_dim"),
    ("llama", {"hidden_size": 64}, {"hidden_size": 31}, "head_dim"),
    ("mistral", {"sliding_window": 8}, {"sliding_window": 7}, "sliding_window"),
    (
        "t5",
        {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 5},
        {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 4},
        "relative_attention_max_distance",
    ),
    (
        "t5",
        {"relative_attention_num_buckets": 4},
        {"relative_attention_num_buckets": 3},
        "relative_attention_num_buckets",
    ),
    ("autoencoder", {"scaling_factor": 9.9e29}, {"scaling_factor": 1e30}, "scaling_factor"),
    ("autoencoder", {"scaling_factor": 1.1e-30}, {"scaling_factor": 1e-30}, "scaling_factor"),
    ("peft", {"lora_alpha": 9.9e29}, {"lora_alpha": 1e30}, "lora_alpha"),
    ("peft", {"lora_alpha": 1.1e-30}, {"lora_alpha": 1e-30}, "lora_alpha"),
    ("peft", {"r": 2**31 - 1}, {"r": 2**31}, "r"),
    ("peft", {"lora_dropout": 0}, {"lora_dropout": 1}, "lora_dropout"),
    ("peft", {"target_modules": ["a"]}, {"target_modules": [""]}, "target_modules"),
    ("peft", {"target_modules": ["a", "b"]}, {"target_modules": ["a", 3]}, "target_modules"),
    ("peft", {"init_lora_weights": False}, {"init_lora_weights": 1}, "init_lora_weights"),
]


@pytest.mark.parametrize(("name", "good", "bad", "option"), MORE_BORDERS)
def test_more_borders(path, name, good, bad, option):
    read, least, _ = READERS[name]
    path.write_text(json.dumps(least | good))
    read(path)
    path.write_text(json.dumps(least | bad))
    with pytest.raises(CheckpointError, match=f"the option {option}: expected"):
        read(path)


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        ("autoencoder", [4, 9, 14], "multiples of norm_num_groups=4, found 9"),
        ("unet-no-text", [8, 12, 20], "multiples of the first, 8, found 12"),
    ],
)
def test_the_first_width_that_does_not_fit_is_named(path, name, widths, message):
    read, least, _ = READERS[name]
    path.write_text(json.dumps(least | {"block_out_channels": widths, "norm_num_groups": 4}))
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_the_head_of_a_clip_may_be_tied_or_not(path):
    """There is none."""
    for value in (True, False):
        path.write_text(json.dumps({"model_type": "clip", "tie_word_embeddings": value}))
        assert clip.read_config(path)["dim"] == 512


def test_an_end_token_that_transformers_would_look_for_in_another_way():
    """The token 2 means the largest id, so it is written only where it is the largest."""
    model = CLIP(small_clip().image_encoder, TextTower(3, 5, 2, TowerConfig(1, 2, 6), 3, rng=0))
    sizes = {"dim": 3, "image": model.image_encoder.sizes(), "text": model.text_encoder.sizes()}
    assert clip.options_of(sizes)["text_config"]["eos_token_id"] == 2
    for vocab_size in (4, 5):
        with pytest.raises(ValueError, match="the end token is 2"):
            clip.options_of(sizes | {"text": sizes["text"] | {"vocab_size": vocab_size}})


@pytest.mark.parametrize("attention", [True, False])
def test_an_autoencoder_with_and_without_attention(path, attention):
    path.write_text(json.dumps({"_class_name": "AutoencoderKL", "mid_block_add_attention": attention}))
    config, _ = diffusers_config.read_config(path)
    assert config.attention == attention


# -- options that are left out ---------------------------------------------------------------------


def test_options_that_are_left_out_are_those_of_the_smallest_gpt2(path):
    path.write_text('{"model_type": "gpt2"}')
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    rates = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
    others = {"layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": True}
    assert gpt2.read_config(path) == sizes | rates | others


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {"vocab_size": 32000, "hidden": 11008, "kv_heads": 32, "block_size": 2048}),
        ("mistral", {"vocab_size": 32000, "hidden": 14336, "kv_heads": 8}),
        ("qwen2", {"vocab_size": 151936, "hidden": 22016, "kv_heads": 32, "block_size": 32768}),
        ("qwen3", {"vocab_size": 151936, "hidden": 22016, "kv_heads": 32, "block_size": 32768}),
    ],
)
def test_options_that_are_left_out_are_those_of_the_family(path, family, fields):
    """The classes of transformers. Mistral's context is longer than its window, so it is never left out."""
    path.write_text(json.dumps({"model_type": family}))
    biases = {"qkv_bias": family == "qwen2", "proj_bias": False, "mlp_bias": False}
    common = {"layers": 32, "heads": 32, "channels": 4096, "head_channels": 128, "dropout": 0.0}
    common |= {"rope_base": 10_000.0, "rope_scaling": None, "norm_eps": 1e-6, "tie_weights": False}
    common |= {"qk_norm": family == "qwen3", "block_size": 4096}
    found = llama_config.read_config(path, 4096 if family == "mistral" else None)
    assert found == common | biases | fields


def test_the_window_of_a_mistral(path):
    """Its default context has 131,072 positions, and its default window 4,096."""
    path.write_text('{"model_type": "mistral"}')
    with pytest.raises(CheckpointError, match="here 131072, found 4096"):
        llama_config.read_config(path)


# -- whole models ----------------------------------------------------------------------------------


def small_clip():
    image, text = (TowerConfig(layers=1, heads=2, channels=c, hidden=5) for c in (8, 6))
    return CLIP(VisionTransformer(4, 2, 1, image, 3, rng=0), TextTower(7, 5, 4, text, 3, rng=0))


MODELS = {  # a model, the option with the number of layers, copies of the embedding in older files
    "gpt2": (
        lambda: GPT(GPTConfig(7, 5, 1, 2, 8, gelu="tanh"), rng=0),
        "n_layer",
        {"lm_head.weight": "transformer.wte.weight"},
    ),
    "llama": (
        lambda: Llama(LlamaConfig(7, 5, 1, 2, channels=8, hidden=5, tie_weights=True), rng=0),
        "num_hidden_layers",
        {"lm_head.weight": "model.embed_tokens.weight"},
    ),
    "bert": (
        lambda: BERT(BERTConfig(7, 5, 1, 2, 8, 5, dropout=0.0), rng=0),
        "num_hidden_layers",
        {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"},
    ),
    "bart": (
        lambda: BART(BARTConfig(7, 5, 1, 1, 2, 8, 5), rng=0),
        "encoder_layers",
        {f"{name}.weight": "model.shared.weight" for name in ("lm_head", "model.encoder.embed_tokens")},
    ),
    "t5": (
        lambda: T5(T5Config(7, 1, 1, 2, 8, 4, 5), rng=0),
        "num_layers",
        {f"{name}.weight": "shared.weight" for name in ("lm_head", "encoder.embed_tokens")},
    ),
    "clip": (small_clip, "", {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_has_diverged_is_written_and_read(tmp_path, name):
    """A NaN of the embedding is also one of its copies: they are one matrix still."""
    make, _, copies = MODELS[name]
    model = make().eval()
    first = next(iter(model.parameters()))
    first.data.flat[0] = np.nan
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tmp_path / "model.safetensors", tensors | {new: tensors[old] for new, old in copies.items()})
    loaded = type(model).from_pretrained(tmp_path).state_dict()
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded[key], array, err_msg=key)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "clip"])
def test_as_many_layers_as_tensors(tmp_path, name):
    """What is missing is listed then. With more layers than tensors there is no list: it might be endless."""
    make, option, _ = MODELS[name]
    model = make()
    model.save_pretrained(tmp_path)
    count = len(load_file(tmp_path / "model.safetensors"))
    config = json.loads((tmp_path / "config.json").read_text())
    for layers, message in ((count, "another model"), (count + 1, "too few tensors")):
        (tmp_path / "config.json").write_text(json.dumps(config | {option: layers}))
        with pytest.raises(CheckpointError, match=message):
            type(model).from_pretrained(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_loaded_weights_are_rows_in_memory(tmp_path, name):
    """Though GPT-2's matrices stand the other way in the file. They are float32, whatever the file has."""
    model = MODELS[name][0]()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tmp_path / "model.safetensors", {key: a.astype(np.float16) for key, a in tensors.items()})
    loaded = type(model).from_pretrained(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {np.dtype(np.float32)}
    assert all(p.data.flags.c_contiguous for p in loaded.parameters())
    assert all(p.data.flags.writeable and p.data.flags.owndata for p in loaded.parameters())


def test_a_tensor_is_named_by_its_place_in_the_layer(tmp_path):
    """T5 numbers the parts of a block: attention, attention to the source, and the feed-forward network."""
    MODELS["t5"][0]().save_pretrained(tmp_path)
    norms = [name for name in load_file(tmp_path / "model.safetensors") if "layer_norm" in name]
    assert sorted(norms) == [
        *(f"decoder.block.0.layer.{i}.layer_norm.weight" for i in range(3)),
        "decoder.final_layer_norm.weight",
        *(f"encoder.block.0.layer.{i}.layer_norm.weight" for i in range(2)),
        "encoder.final_layer_norm.weight",
    ]


@pytest.mark.parametrize("head", [True, False])
def test_a_llama_that_was_saved_without_its_prefix(tmp_path, head):
    """The names of a model without a head, and of one to which somebody has added its copy."""
    model = MODELS["llama"][0]()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("model."): array for name, array in tensors.items()}
    if head:
        bare["lm_head.weight"] = bare["embed_tokens.weight"]
    save_file(tmp_path / "model.safetensors", bare)
    loaded = Llama.from_pretrained(tmp_path).state_dict()
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded[key], array, err_msg=key)


def test_adapters_of_the_largest_rank(tmp_path):
    """The smaller side of the smallest matrix: a larger one would be no saving."""
    model = MODELS["gpt2"][0]()
    add_lora(model, rank=8, alpha=1.0, rng=0)
    peft.save_adapters(model, tmp_path)
    assert len(peft.load_adapters(MODELS["gpt2"][0](), tmp_path)) == 4


@pytest.mark.parametrize(("family", "bias"), [("llama", True), ("mistral", False), ("qwen3", True)])
def test_options_of_biases_are_written_where_the_family_has_them(tmp_path, family, bias):
    changes = {"mistral": {"head_channels": 4, "heads": 3}, "qwen3": {"qk_norm": True}}.get(family, {})
    config = LlamaConfig(**{"vocab_size": 7, "layers": 1, "heads": 2, "channels": 8, **changes})
    Llama(config, rng=0).save_pretrained(tmp_path)
    options = json.loads((tmp_path / "config.json").read_text())
    assert options["model_type"] == family
    assert ("attention_bias" in options) == bias
    assert ("mlp_bias" in options) == (family == "llama")
    assert options.get("sliding_window", "none") == (None if family == "mistral" else "none")

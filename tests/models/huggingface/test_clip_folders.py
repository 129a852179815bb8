"""Folders of CLIP: what is written comes back, what does not fit is named, and `transformers` agrees."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import nn
from tinygen.models.huggingface.clip import FREE, read_config
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import (
    ConvImageEncoder,
    TextTower,
    TowerConfig,
    VisionTransformer,
)
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

VOCAB, END, LENGTH = 11, 5, 7


def small(seed=0, end=END, dim=5, image=None, text=None):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    rng = np.random.default_rng(seed)
    image = TowerConfig(**{"layers": 2, "heads": 2, "channels": 8, "hidden": 12, **(image or {})})
    text = TowerConfig(**{"layers": 1, "heads": 3, "channels": 6, **(text or {})})
    model = CLIP(
        VisionTransformer(8, 4, 3, image, dim, rng=rng), TextTower(VOCAB, LENGTH, end, text, dim, rng=rng)
    )
    for p in model.parameters():
        p.data = p.data + np.float32(0.3) * rng.standard_normal(p.shape, dtype=np.float32)
    return model.eval()


def pictures(n=3, channels=3, side=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, channels, side, side), dtype=np.float32)


def texts(n=4, vocab_size=VOCAB, length=LENGTH, end=END, seed=0):
    """Random ids, with an end token in each row, and others after the end."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab_size - 1, (n, length))
    ids[np.arange(n), rng.integers(1, length, n)] = end
    return ids


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


def edit(path, section=None, **changes):
    """Change options in a JSON file, or in a section of it; None takes one out."""
    options = json.loads(path.read_text())
    part = options if section is None else options[section]
    part.update(changes)
    for name in [name for name, value in part.items() if value is None]:
        del part[name]
    path.write_text(json.dumps(options))


# -- there and back --------------------------------------------------------------------------------

KINDS = [
    {},
    {"image": {"activation": "gelu", "norm_eps": 1e-3}, "text": {"dropout": 0.25, "layers": 3}, "dim": 9},
    {"end": 0, "text": {"hidden": 7, "activation": "gelu"}, "image": {"heads": 1}},
]


@pytest.mark.parametrize("changes", KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new" / "folder")
    loaded = CLIP.from_pretrained(tmp_path / "new" / "folder")
    assert not loaded.training
    for tower in ("image_encoder", "text_encoder"):
        assert getattr(loaded, tower).sizes() == getattr(model, tower).sizes()
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        assert theirs[name].dtype == array.dtype
        assert theirs[name].tobytes() == array.tobytes(), name
    ids = texts(end=changes.get("end", END))
    np.testing.assert_array_equal(loaded(pictures(), ids).numpy(), model(pictures(), ids).numpy())


def test_a_loaded_model_trains_on(folder):
    edit(folder / "config.json", "text_config", attention_dropout=0.5)
    models = [CLIP.from_pretrained(folder, rng=7).train() for _ in range(2)]
    losses = [m.loss(pictures(4), texts(4)) for m in models]
    plain = models[1].eval().loss(pictures(4), texts(4))
    other = CLIP.from_pretrained(folder, rng=8).train().loss(pictures(4), texts(4))
    assert losses[0].item() == losses[1].item() != plain.item()
    assert losses[0].item() != other.item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in models[0].parameters())


def test_the_folder_has_their_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 1 + (2 + 16 + 2 + 1) + (3 + 2 * 16 + 4 + 1)
    assert found["logit_scale"] == ()
    assert found["text_projection.weight"] == (5, 6)
    assert found["visual_projection.weight"] == (5, 8)
    assert found["vision_model.embeddings.patch_embedding.weight"] == (8, 3, 4, 4)
    assert found["vision_model.embeddings.class_embedding"] == (8,)
    prefix = "vision_model.encoder.layers.1."
    block = {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}
    attention = {f"self_attn.{x}_proj.weight": (8, 8) for x in ("q", "k", "v", "out")}
    attention |= {f"self_attn.{x}_proj.bias": (8,) for x in ("q", "k", "v", "out")}
    norms = {f"layer_norm{i}.{kind}": (8,) for i in (1, 2) for kind in ("weight", "bias")}
    mlp = {"mlp.fc1.weight": (12, 8), "mlp.fc1.bias": (12,), "mlp.fc2.weight": (8, 12), "mlp.fc2.bias": (8,)}
    assert block == attention | norms | mlp


def without_norm(model):
    del model.text_encoder.norm.weight


def with_more(model):
    model.value = nn.Linear(8, 1, rng=0)


def with_more_tokens(model):
    model.text_encoder.token = nn.Embedding(12, 6, rng=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_norm, r"encoders.*\n  text_encoder\.norm\.weight \(6,\) is missing$"),
        (with_more, r"'value\.weight' \(1, 8\) has no place in it\n  'value\.bias'"),
        (with_more_tokens, r"token\.weight should be \(11, 6\) by the encoders' sizes, and is \(12, 6\)$"),
    ],
)
def test_what_is_not_the_clip_of_its_sizes_is_not_saved(tmp_path, change, message):
    model = small()
    change(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_transformers_would_compute_in_another_way_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="the end token is 2, for which transformers reads a text at its"):
        small(end=2).save_pretrained(tmp_path / "new")
    model = small()
    model.image_encoder = ConvImageEncoder(8, 3, 4, 2, 5, rng=0)
    with pytest.raises(ValueError, match="no CLIP with a ConvImageEncoder: only a VisionTransformer"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- a golden folder -------------------------------------------------------------------------------


def chirp(*shape, k):
    """Sines whose arguments grow quadratically: a matrix of evenly spaced ones would have rank 2, and the
    logits would hardly depend on pictures and texts."""
    n = np.arange(np.prod(shape, dtype=int))
    return np.sin(0.4 + 1.3 * k + (0.7 + 0.01 * k) * n * n).astype(np.float32).reshape(shape)


GOLDEN = {
    "model_type": "clip",
    "projection_dim": 3,
    "text_config": {"vocab_size": 7, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1}
    | {"num_attention_heads": 2, "max_position_embeddings": 5, "eos_token_id": 4, "layer_norm_eps": 0.01},
    "vision_config": {"hidden_size": 4, "intermediate_size": 7, "num_hidden_layers": 1, "image_size": 4}
    | {"num_attention_heads": 2, "patch_size": 2, "num_channels": 1, "hidden_act": "gelu"},
}
GOLDEN_IDS = np.array([[3, 1, 4, 1, 5], [0, 4, 4, 2, 6]])
GOLDEN_PICTURES = chirp(2, 1, 4, 4, k=60)
GOLDEN_LOGITS = [[1.1612333, 1.1932087], [1.2376703, 1.2488720]]


def golden_folder(path):
    """A CLIP whose weights are sines, by their names there."""
    shapes = {"logit_scale": ()}
    for tower, c, hidden in (("text_model", 6, 5), ("vision_model", 4, 7)):
        layer = f"{tower}.encoder.layers.0"
        for name in ("q", "k", "v", "out"):
            shapes |= {f"{layer}.self_attn.{name}_proj.weight": (c, c)}
            shapes |= {f"{layer}.self_attn.{name}_proj.bias": (c,)}
        for i in (1, 2):
            shapes |= {f"{layer}.layer_norm{i}.{kind}": (c,) for kind in ("weight", "bias")}
        shapes |= {f"{layer}.mlp.fc1.weight": (hidden, c), f"{layer}.mlp.fc1.bias": (hidden,)}
        shapes |= {f"{layer}.mlp.fc2.weight": (c, hidden), f"{layer}.mlp.fc2.bias": (c,)}
    for norm, c in (("text_model.final_layer_norm", 6), ("vision_model.pre_layrnorm", 4)):
        shapes |= {f"{norm}.{kind}": (c,) for kind in ("weight", "bias")}
    shapes |= {f"vision_model.post_layernorm.{kind}": (4,) for kind in ("weight", "bias")}
    shapes |= {"text_model.embeddings.token_embedding.weight": (7, 6)}
    shapes |= {"text_model.embeddings.position_embedding.weight": (5, 6)}
    shapes |= {"vision_model.embeddings.class_embedding": (4,)}
    shapes |= {"vision_model.embeddings.patch_embedding.weight": (4, 1, 2, 2)}
    shapes |= {"vision_model.embeddings.position_embedding.weight": (5, 4)}
    shapes |= {"text_projection.weight": (3, 6), "visual_projection.weight": (3, 4)}
    arrays = {name: chirp(*shape, k=k) for k, (name, shape) in enumerate(shapes.items())}
    save_file(path / "model.safetensors", arrays, {"format": "pt"})
    (path / "config.json").write_text(json.dumps(GOLDEN))


def test_golden_logits(tmp_path):
    golden_folder(tmp_path)
    logits = CLIP.from_pretrained(tmp_path)(GOLDEN_PICTURES, GOLDEN_IDS).numpy()
    np.testing.assert_allclose(logits, GOLDEN_LOGITS, atol=1e-5)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_files_of_older_versions(folder, dtype):
    """With the numbers of the positions, and in another precision."""
    older = {name: a.astype(dtype) for name, a in load_file(folder / "model.safetensors").items()}
    older["text_model.embeddings.position_ids"] = np.arange(LENGTH)[None]
    older["vision_model.embeddings.position_ids"] = np.arange(5)[None]
    save_file(folder / "model.safetensors", older)
    loaded = CLIP.from_pretrained(folder).state_dict()
    for name, array in small().state_dict().items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], array.astype(dtype))


def test_the_words_of_older_configs(folder):
    """Sections under a second name, which goes before the first; options of writing texts; notes."""
    config = folder / "config.json"
    options = json.loads(config.read_text())
    text = options["text_config"] | {"num_beams": 1, "id2label": {"0": "LABEL_0"}, "dropout": 0.0}
    edit(config, text_config={"hidden_size": 600}, text_config_dict=text, _commit_hash="0", dtype="float32")
    assert CLIP.from_pretrained(folder).text_encoder.sizes() == small().text_encoder.sizes()
    edit(config, text_config=text, vision_config_dict={})
    edit(config, text_config_dict=None)
    assert CLIP.from_pretrained(folder).text_encoder.sizes() == small().text_encoder.sizes()


def test_options_that_are_left_out_are_those_of_the_smallest_published_model(folder):
    """openai/clip-vit-base-patch32: transformers' defaults."""
    edit(folder / "config.json", text_config={}, vision_config={})
    found = read_config(folder / "config.json")
    common = {"layers": 12, "activation": "quick_gelu", "dropout": 0.0, "norm_eps": 1e-5}
    assert found["text"] == {
        "vocab_size": 49408,
        "block_size": 77,
        "end": 49407,
        "config": {**common, "channels": 512, "hidden": 2048, "heads": 8},
    }
    assert found["image"] == {
        "side": 224,
        "patch": 32,
        "in_channels": 3,
        "config": {**common, "channels": 768, "hidden": 3072, "heads": 12},
    }


def test_the_end_token_of_the_published_models(folder):
    """Their eos_token_id is 2, and the end token the last of the vocabulary."""
    edit(folder / "config.json", "text_config", eos_token_id=2)
    assert CLIP.from_pretrained(folder).text_encoder.end == VOCAB - 1


# -- what is refused -------------------------------------------------------------------------------

TEXT, IMAGE = "text_config", "vision_config"


@pytest.mark.parametrize(
    ("section", "option", "value", "message"),
    [
        (None, "model_type", "siglip", "model_type: expected \"clip\": .*found 'siglip'"),
        (None, "model_type", None, 'model_type: expected "clip": .*found None'),
        (None, "architectures", ["CLIPForImageClassification"], "architectures: expected .*CLIPModel"),
        (None, "projection_dim", 6, r"text_projection\.weight should be \(6, 6\) by config.json"),
        (None, "projection_dim", "5", "projection_dim: expected a whole number from 1, found '5'"),
        (None, "text_config", [1], r"text_config: expected null or an object, found \[1\]"),
        (None, "quantization_config", {"quant_method": "gptq"}, r"quantization_config: expected none"),
        (None, "vision_feature_layer", 3, "vision_feature_layer: expected no such option"),
        (TEXT, "vocab_size", 12, r"token_embedding\.weight should be \(12, 6\) by config.json"),
        (TEXT, "hidden_size", 0, r"text_config\.hidden_size: expected a whole number from 1, found 0"),
        (TEXT, "num_attention_heads", 4, r"text_config\.num_attention_heads: .*hidden_size=6, found 4"),
        (TEXT, "num_hidden_layers", 10**9, "too few tensors: expected 1000000002 layers"),
        (TEXT, "num_hidden_layers", 2, r"text_model\.encoder\.layers\.1\.layer_norm1\.weight \(6,\) is miss"),
        (TEXT, "eos_token_id", 11, r"eos_token_id: expected a token from 0, below vocab_size=11, found 11"),
        (TEXT, "eos_token_id", [5, 6], r"eos_token_id: expected a token .* found \[5, 6\]"),
        (TEXT, "eos_token_id", None, r"eos_token_id: expected a token .* found 49407"),
        (TEXT, "hidden_act", "relu", r"text_config\.hidden_act: expected \"quick_gelu\" or \"gelu\""),
        (TEXT, "attention_dropout", 1.0, r"attention_dropout: expected a number from 0, below 1"),
        (TEXT, "is_decoder", True, r"is_decoder: expected false"),
        (TEXT, "position_embedding_type", "x", r"text_config\.position_embedding_type: expected no such"),
        (IMAGE, "num_hidden_layers", 1, r"'vision_model\.encoder\.layers\.1\.\S+' \(\S+\) has no place"),
        (
            IMAGE,
            "image_size",
            12,
            r"vision_model\.embeddings\.position_embedding\.weight should be \(10, 8\)",
        ),
        (IMAGE, "image_size", [8, 8], r"image_size: expected a whole number from 1, found \[8, 8\]"),
        (IMAGE, "patch_size", 3, r"vision_config\.patch_size: expected a divisor of image_size=8, found 3"),
        (IMAGE, "num_channels", 1, r"patch_embedding\.weight should be \(8, 1, 4, 4\)"),
        (IMAGE, "layer_norm_eps", "1e-5", "layer_norm_eps: expected a number from 0, below 1, found '1e-5'"),
        (IMAGE, "pruned_heads", {"0": [1]}, "pruned_heads: expected"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, section, option, value, message):
    edit(folder / "config.json", section, **{option: value})
    with pytest.raises(CheckpointError, match=message) as info:
        CLIP.from_pretrained(folder)
    assert str(folder) in info.value.file


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
OPTIONS = ["model_type", "architectures", "projection_dim", "text_config", "vision_config_dict", "vocab_size"]
OPTIONS += ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"]
OPTIONS += ["max_position_embeddings", "eos_token_id", "image_size", "patch_size", "layer_norm_eps", *FREE]


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    small().save_pretrained(folder)
    return folder, json.loads((folder / "config.json").read_text())


@settings(max_examples=25)
@given(st.sampled_from([None, TEXT, IMAGE]), st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=2))
def test_what_a_stranger_writes_into_the_config_is_refused_or_read(strange, section, changes):
    folder, config = strange
    changed = {**config, **changes} if section is None else {**config, section: config[section] | changes}
    (folder / "config.json").write_text(json.dumps(changed))
    try:
        model = CLIP.from_pretrained(folder)
    except CheckpointError:
        return
    assert model.num_parameters() == small().num_parameters()


# -- parity with transformers ----------------------------------------------------------------------


SIZES = {
    "text_config": {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    | {"num_attention_heads": 6, "max_position_embeddings": 9, "eos_token_id": 7},
    "vision_config": {"hidden_size": 20, "intermediate_size": 33, "num_hidden_layers": 2}
    | {"num_attention_heads": 4, "image_size": 12, "patch_size": 4, "num_channels": 3},
}
ODD = [  # (of the whole, of the text tower, of the Vision Transformer)
    ({}, {}, {}),
    ({"projection_dim": 2}, {"num_attention_heads": 1, "num_hidden_layers": 1}, {"num_channels": 1}),
    ({"projection_dim": 33}, {"hidden_act": "gelu", "intermediate_size": 7}, {"patch_size": 12}),
    ({}, {"layer_norm_eps": 1e-2, "hidden_size": 18}, {"hidden_act": "gelu", "layer_norm_eps": 1e-2}),
    ({}, {"eos_token_id": 2}, {"image_size": 10, "patch_size": 1, "num_channels": 2}),
    ({}, {"num_hidden_layers": 4, "vocab_size": 61}, {"num_hidden_layers": 5, "hidden_size": 12}),
    ({}, {"eos_token_id": 0, "max_position_embeddings": 3}, {"patch_size": 3, "num_attention_heads": 20}),
]


def theirs(transformers, whole, text, image, seed=0):
    """A random model made by transformers, in which all weights matter."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    sections = {"text_config": SIZES["text_config"] | text, "vision_config": SIZES["vision_config"] | image}
    model = transformers.CLIPModel(transformers.CLIPConfig(**{"projection_dim": 16, **whole}, **sections))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape))  # at the start biases and norms hide mistakes
    return model.eval()


def require_equal(ours, other):
    """The same logits within 1e-4, and the same loss."""
    torch = pytest.importorskip("torch")
    image, text = ours.image_encoder, ours.text_encoder
    x = pictures(4, image.shape[0], image.shape[1])
    ids = texts(4, text.vocab_size, text.block_size, text.end)
    with torch.inference_mode():
        found = other(input_ids=torch.tensor(ids), pixel_values=torch.tensor(x), return_loss=True)
    expected = found.logits_per_image.numpy()
    assert np.abs(expected).max() > 1
    assert np.abs(ours(x, ids).numpy() - expected).max() <= 1e-4
    assert ours.loss(x, ids).item() == pytest.approx(found.loss.item(), abs=1e-4)
    assert len(np.unique(expected.round(3))) > 2


@pytest.mark.parametrize(("whole", "text", "image"), ODD)
def test_both_directions(transformers, tmp_path, whole, text, image):
    """Their folder here, and the one that is written of it there again: every bit of every tensor."""
    other = theirs(transformers, whole, text, image)
    other.save_pretrained(tmp_path / "theirs")
    ours = CLIP.from_pretrained(tmp_path / "theirs")
    assert ours.num_parameters() == sum(p.numel() for p in other.parameters())
    require_equal(ours, other)
    ours.save_pretrained(tmp_path / "ours")
    again, info = transformers.CLIPModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    before, after = other.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)
    require_equal(ours, again.eval())


@pytest.mark.parametrize("changes", KINDS)
def test_models_from_here_run_there_as_here(transformers, tmp_path, changes):
    ours = small(**changes)
    ours.save_pretrained(tmp_path)
    other, info = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    require_equal(ours, other.eval())


def test_gradients_are_theirs(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    other = theirs(transformers, {}, {}, {})
    other.save_pretrained(tmp_path)
    ours = CLIP.from_pretrained(tmp_path)
    x, ids = pictures(4, 3, 12), texts(4, 60, 9, 7)
    ours.loss(x, ids).backward()
    other(input_ids=torch.tensor(ids), pixel_values=torch.tensor(x), return_loss=True).loss.backward()
    grads = {name: p.grad.numpy() for name, p in other.named_parameters()}
    for tower, their in (("image_encoder", "vision_model"), ("text_encoder", "text_model")):
        for i, block in enumerate(getattr(ours, tower).blocks):
            parts = [grads[f"{their}.encoder.layers.{i}.self_attn.{x}_proj.weight"] for x in "qkv"]
            expected = np.concatenate(parts)
            np.testing.assert_allclose(block.attn.qkv.weight.grad, expected, rtol=1e-3, atol=1e-5)
            expected = grads[f"{their}.encoder.layers.{i}.mlp.fc1.weight"]
            np.testing.assert_allclose(block.mlp.fc.weight.grad, expected, rtol=1e-3, atol=1e-5)
    pairs = {"logit_scale": ours.logit_scale, "text_projection.weight": ours.text_encoder.projection.weight}
    pairs |= {"vision_model.embeddings.class_embedding": ours.image_encoder.first}
    pairs |= {"text_model.embeddings.token_embedding.weight": ours.text_encoder.token.weight}
    pairs |= {"vision_model.embeddings.patch_embedding.weight": ours.image_encoder.patches.weight}
    for name, p in pairs.items():
        np.testing.assert_allclose(p.grad, grads[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_golden_logits_are_theirs(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    golden_folder(tmp_path)
    other = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = other(input_ids=torch.tensor(GOLDEN_IDS), pixel_values=torch.tensor(GOLDEN_PICTURES))
    np.testing.assert_allclose(found.logits_per_image.numpy(), GOLDEN_LOGITS, atol=1e-5)

"""Folders of T5: what is written comes back, what does not fit is named, and `transformers` agrees."""

import json

import numpy as np
import pytest
from model_folders import edit
from transformers_parity import FAMILIES, V11, Case

from tinygen.align.lora import add_lora
from tinygen.models.huggingface.t5 import read_config
from tinygen.models.language.t5 import T5, T5Config
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

SIZES = {"vocab_size": 11, "layers": 2, "decoder_layers": 1, "heads": 3, "channels": 8, "head_channels": 2}
SIZES |= {"hidden": 12, "buckets": 8, "max_distance": 20, "dropout": 0.0}


def small(seed=0, **changes):
    """Norms that matter, too."""
    rng = np.random.default_rng(seed)
    model = T5(T5Config(**{**SIZES, **changes}), rng=rng).eval()
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def texts(vocab_size, b=3, s=9, t=7, pad=0):
    """Sources, of which the first has padding, and targets."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(2, vocab_size, (b, s)), rng.integers(2, vocab_size, (b, t))
    source[0, -3:], target[:, 0] = pad, pad
    return source, target


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


# -- there and back --------------------------------------------------------------------------------

KINDS = [
    {},
    {"gated": True, "tie_weights": False},
    {"dropout": 0.25, "norm_eps": 1e-3, "decoder_layers": 3, "pad": 3, "begin": 4, "end": 5},
    {"buckets": 5, "max_distance": 9, "heads": 1, "channels": 7},
]


@pytest.mark.parametrize("changes", KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new")
    loaded = T5.from_pretrained(tmp_path / "new")
    assert loaded.config == model.config
    assert not loaded.training
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    assert all(theirs[name].tobytes() == array.tobytes() for name, array in model.state_dict().items())


def test_the_folder_has_their_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 1 + (2 * 8 + 2) + (13 + 2)
    assert found["encoder.block.1.layer.0.SelfAttention.q.weight"] == (6, 8)
    assert found["decoder.block.0.layer.1.EncDecAttention.o.weight"] == (8, 6)
    assert found["decoder.block.0.layer.2.DenseReluDense.wi.weight"] == (12, 8)
    assert found["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] == (8, 3)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True


def test_options_that_are_left_out_are_those_of_the_class(tmp_path):
    """Which are those of t5-small."""
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    small = T5Config(layers=6, decoder_layers=6, heads=8, channels=512, hidden=2048)
    assert T5Config(**read_config(tmp_path / "config.json")) == small


def test_a_loaded_model_trains_on(folder):
    source, target = texts(11)
    models = [T5.from_pretrained(folder, 0.5, rng=7).train() for _ in range(2)]
    losses = [model.loss(source, target) for model in models]
    assert losses[0].item() == losses[1].item() != models[1].eval().loss(source, target).item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in models[0].parameters())


def test_the_files_of_older_versions(folder):
    """As of the published t5-small: copies of the embedding, a tensor that nothing uses, other options."""
    older = {name: a.astype(np.float16) for name, a in load_file(folder / "model.safetensors").items()}
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        older[name] = older["shared.weight"]
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    save_file(folder / "model.safetensors", older | {unused: np.zeros((8, 3), np.float16)})
    more = {"n_positions": 512, "output_past": True, "task_specific_params": {"summarization": {}}}
    edit(folder / "config.json", **more, architectures=["T5WithLMHeadModel"], num_decoder_layers=1)
    loaded = T5.from_pretrained(folder)
    for name, array in small().state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array.astype(np.float16))
    save_file(folder / "model.safetensors", older | {"lm_head.weight": older["shared.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight.*one matrix, and the two differ"):
        T5.from_pretrained(folder)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model_type", "umt5", "model_type: expected \"t5\".*found 'umt5'"),
        ("architectures", ["T5EncoderModel"], "architectures: expected"),
        ("num_heads", 2, r"SelfAttention\.q\.weight should be \(4, 8\) by config.json, and is \(6, 8\)"),
        ("num_layers", 10**9, "too few tensors: expected 1000000000 and 1 layers, found 34"),
        ("num_decoder_layers", 10**9, "too few tensors: expected 2 and 1000000000 layers"),
        ("num_decoder_layers", 2, r"decoder\.block\.1\.layer\.0\.layer_norm\.weight \(8,\) is missing"),
        ("feed_forward_proj", "gated-silu", 'feed_forward_proj: expected "relu" or "gated-gelu"'),
        ("feed_forward_proj", "gated-gelu", r"wi_0\.weight \(12, 8\) is missing"),
        ("dense_act_fn", "gelu", 'dense_act_fn: expected "relu"'),
        ("is_gated_act", True, "is_gated_act: expected false"),
        ("relative_attention_num_buckets", 3, "expected at least 4, found 3"),
        ("relative_attention_max_distance", 4, "more than half of the 8 buckets, found 4"),
        ("decoder_start_token_id", 11, "decoder_start_token_id: expected a token, from 0 to 10"),
        ("eos_token_id", [1, 2], "eos_token_id: expected a token"),
        ("tie_word_embeddings", False, r"lm_head\.weight \(11, 8\) is missing"),
        ("scale_decoder_outputs", False, r"lm_head\.weight \(11, 8\) is missing"),
        ("tie_word_embeddings", 1, "tie_word_embeddings: expected true or false"),
        ("is_decoder", True, "is_decoder: expected false"),
        ("d_model", 0, "d_model: expected a whole number from 1"),
        ("layer_norm_epsilon", "1e-6", "layer_norm_epsilon: expected a number from 0, below 1"),
        ("sliding_window", 3, "sliding_window: expected no such option"),
        ("quantization_config", {"quant_method": "gptq"}, "quantization_config: expected none"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=message):
        T5.from_pretrained(folder)


def test_what_is_not_the_t5_of_its_config_is_not_saved(tmp_path):
    for change, message in (
        (
            lambda model: delattr(model.encoder[1].norm2, "weight"),
            r"encoder\.1\.norm2\.weight \(8,\) is missing",
        ),
        (lambda model: add_lora(model, rank=2, alpha=4, rng=0), "adapters are not merged"),
    ):
        model = small()
        change(model)
        with pytest.raises(ValueError, match=message):
            model.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists()


# -- parity with transformers ----------------------------------------------------------------------


def test_beams(transformers, tmp_path):
    """The best of three beams without a penalty, as transformers finds it."""
    torch = pytest.importorskip("torch")
    other = FAMILIES["T5"].model(Case({}))
    other.save_pretrained(tmp_path)
    source, _ = texts(60)
    options = {"num_beams": 3, "max_new_tokens": 6, "length_penalty": 0.0, "do_sample": False}
    with torch.inference_mode():
        mask = torch.tensor((source != 0).astype(int))
        text = other.generate(torch.tensor(source), attention_mask=mask, early_stopping="never", **options)
    for i, (best, *_) in enumerate(T5.from_pretrained(tmp_path).beam_search(source, 6, 3, alpha=0.0)):
        np.testing.assert_array_equal(best.tokens, text[i, 1 : 1 + len(best.tokens)].numpy())


def test_loss_and_gradients(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    other = FAMILIES["T5"].model(Case(V11))
    other.save_pretrained(tmp_path)
    ours = T5.from_pretrained(tmp_path)
    source, target = texts(60)
    target[0, -2:] = 0
    labels = np.where(target[:, 1:] == 0, -100, target[:, 1:])
    mask = torch.tensor((source != 0).astype(int))
    inputs = torch.tensor(target[:, :-1])
    found = other(torch.tensor(source), mask, decoder_input_ids=inputs, labels=torch.tensor(labels))
    found.loss.backward()
    loss = ours.loss(source, target)
    loss.backward()
    np.testing.assert_allclose(loss.item(), found.loss.item(), rtol=1e-5)
    for p in ours.parameters():
        p.data = p.grad
    ours.save_pretrained(tmp_path / "gradients")
    gradients = load_file(tmp_path / "gradients" / "model.safetensors")
    for name, p in other.named_parameters():
        expected = p.grad.numpy()
        rounding = 1e-5 * max(1.0, np.abs(expected).max())  # a small entry is a sum of large ones
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-3, atol=rounding, err_msg=name)

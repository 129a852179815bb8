"""Folders of BART: what is written comes back, what does not fit is named, and `transformers` agrees."""

import numpy as np
import pytest
from model_folders import edit
from transformers_parity import FAMILIES, Case

from tinygen.align.lora import add_lora
from tinygen.models.huggingface.bart import read_config
from tinygen.models.language.bart import BART, BARTConfig
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

SIZES = {"vocab_size": 11, "block_size": 9, "layers": 2, "decoder_layers": 1, "heads": 2, "channels": 8}
SIZES |= {"hidden": 12, "dropout": 0.0, "inner_dropout": 0.0}


def small(seed=0, **changes):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    rng = np.random.default_rng(seed)
    model = BART(BARTConfig(**{**SIZES, **changes}), rng=rng).eval()
    for p in (*model.parameters(), model.logits_bias):
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def texts(vocab_size, b=3, s=9, t=7, pad=1):
    """Sources, of which the first has padding, and targets."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, vocab_size, (b, s)), rng.integers(0, vocab_size, (b, t))
    source[source == pad] = pad + 1
    source[0, -3:], target[:, 0] = pad, 2
    return source, target


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


# -- there and back --------------------------------------------------------------------------------

KINDS = [
    {},
    {"gelu": "tanh", "dropout": 0.25, "inner_dropout": 0.125, "decoder_layers": 3},
    {"pad": 3, "begin": 4, "end": 5, "heads": 1, "channels": 7},
]


@pytest.mark.parametrize("changes", KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new")
    loaded = BART.from_pretrained(tmp_path / "new")
    assert loaded.config == model.config
    assert not loaded.training
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    assert all(theirs[name].tobytes() == array.tobytes() for name, array in model.state_dict().items())


def test_the_folder_has_their_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 2 + 3 + 2 * 16 + 3 + 26
    assert found["final_logits_bias"] == (1, 11)
    assert found["model.decoder.embed_positions.weight"] == (11, 8)
    assert found["model.decoder.layers.0.encoder_attn.v_proj.weight"] == (8, 8)
    assert found["model.encoder.layers.1.fc1.weight"] == (12, 8)


def test_options_that_are_left_out_are_those_of_the_class(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bart"}')
    fields = read_config(tmp_path / "config.json", None)
    assert BARTConfig(**fields) == BARTConfig(inner_dropout=0.0)


def test_a_loaded_model_trains_on(folder):
    source, target = texts(11)
    models = [BART.from_pretrained(folder, 0.5, rng=7).train() for _ in range(2)]
    assert models[0].config.dropout == models[0].config.inner_dropout == 0.5
    losses = [model.loss(source, target) for model in models]
    assert losses[0].item() == losses[1].item() != models[1].eval().loss(source, target).item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in models[0].parameters())


def test_three_rates_of_dropout(folder):
    edit(folder / "config.json", attention_dropout=0.25)
    with pytest.raises(
        ValueError, match=r"one rate of dropout for attention and feed-forward.*0\.25 and 0\.0"
    ):
        BART.from_pretrained(folder)
    assert BART.from_pretrained(folder, 0.5).config.inner_dropout == 0.5


def test_the_files_of_older_versions(folder):
    """As of the published bart-large: copies of the embedding, no bias of the logits, other options."""
    older = {name: a.astype(np.float16) for name, a in load_file(folder / "model.safetensors").items()}
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        older[name] = older["model.shared.weight"]
    del older["final_logits_bias"]
    save_file(folder / "model.safetensors", older)
    more = {"normalize_before": False, "add_bias_logits": False, "extra_pos_embeddings": 2, "num_beams": 4}
    edit(folder / "config.json", **more, id2label={"0": "LABEL_0"}, forced_bos_token_id=0)
    loaded = BART.from_pretrained(folder)
    for name, array in small().state_dict().items():
        expected = np.zeros(11) if name == "logits_bias" else array.astype(np.float16)
        np.testing.assert_array_equal(loaded.state_dict()[name], expected)
    save_file(folder / "model.safetensors", older | {"lm_head.weight": older["model.shared.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight.*one matrix, and the two differ"):
        BART.from_pretrained(folder)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model_type", "mbart", "model_type: expected \"bart\".*found 'mbart'"),
        ("architectures", ["BartForSequenceClassification"], "architectures: expected"),
        ("encoder_layers", 10**9, "too few tensors: expected 1000000000 and 1 layers, found 66"),
        ("decoder_layers", 2, r"model\.decoder\.layers\.1\.self_attn\.q_proj\.weight \(8, 8\) is missing"),
        ("encoder_attention_heads", 3, "a divisor of d_model=8, found 3"),
        ("decoder_attention_heads", 4, "decoder_attention_heads: expected 2, as in the encoder, found 4"),
        ("decoder_ffn_dim", 4, "decoder_ffn_dim: expected 12, as in the encoder, found 4"),
        ("activation_function", "relu", 'activation_function: expected "gelu" or'),
        ("scale_embedding", True, "scale_embedding: expected false"),
        ("normalize_before", True, "normalize_before: expected false"),
        ("add_final_layer_norm", True, "add_final_layer_norm: expected false"),
        ("tie_word_embeddings", False, "tie_word_embeddings: expected true"),
        ("max_position_embeddings", 8, r"embed_positions\.weight should be \(10, 8\)"),
        ("pad_token_id", -1, "pad_token_id: expected a token, from 0 to 10"),
        ("is_encoder_decoder", False, "is_encoder_decoder: expected true"),
        ("sliding_window", 3, "sliding_window: expected no such option"),
        ("quantization_config", {"quant_method": "gptq"}, "quantization_config: expected none"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=message):
        BART.from_pretrained(folder)


def test_what_is_not_the_bart_of_its_config_is_not_saved(tmp_path):
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


def test_loss_and_gradients(transformers, tmp_path):
    """transformers gives the embedding of padding no gradient, so no text has that token."""
    torch = pytest.importorskip("torch")
    other = FAMILIES["BART"].model(Case({}))
    other.save_pretrained(tmp_path)
    ours = BART.from_pretrained(tmp_path)
    source, target = texts(60)
    source[source == 1] = 5
    target[target == 1] = 5
    inputs, labels = torch.tensor(target[:, :-1]), torch.tensor(target[:, 1:])
    found = other(torch.tensor(source), decoder_input_ids=inputs, labels=labels)
    found.loss.backward()
    loss = ours.loss(source, target)
    loss.backward()
    np.testing.assert_allclose(loss.item(), found.loss.item(), rtol=1e-5)
    for p in ours.parameters():
        p.data = p.grad
    ours.save_pretrained(tmp_path / "gradients")
    gradients = load_file(tmp_path / "gradients" / "model.safetensors")
    for name, p in other.named_parameters():
        np.testing.assert_allclose(gradients[name], p.grad.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)

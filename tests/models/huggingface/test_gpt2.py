"""GPT-2's folders: written models are read back unchanged, errors name the misfit, and `transformers`
agrees."""

import errno
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import edit

from tinygen import nn
from tinygen.align.lora import adapters, add_lora, merge_lora, unload_lora
from tinygen.data import load_text
from tinygen.models.huggingface.gpt2 import DEFAULTS, FIXED, FREE
from tinygen.models.language.gpt import END, GPT, GPTConfig
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, read_metadata, save_file
from tinygen.text import BPE, perplexity


def small(seed=0, **changes):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    sizes = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, "gelu": "tanh"}
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(**{**sizes, **changes}), rng=rng).eval()
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def tokens(*shape, vocab_size=11, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gelu": "none", "norm_eps": 1e-3, "dropout": 0.25},
        {"tie_weights": False, "n_head": 1, "n_layer": 1},
    ],
)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new" / "folder")
    loaded = GPT.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.wte.weight is loaded.lm_head.weight or not model.config.tie_weights
    theirs = loaded.state_dict()
    for name, array in model.state_dict().items():
        assert theirs[name].dtype == array.dtype
        assert theirs[name].tobytes() == array.tobytes(), name
    idx = tokens(2, 8)
    assert (loaded(idx)[0].numpy() == model(idx)[0].numpy()).all()


def test_a_loaded_model_trains_on(folder):
    model = GPT.from_pretrained(folder, dropout=0.5, rng=np.random.default_rng(7)).train()
    other = GPT.from_pretrained(folder, dropout=0.5, rng=np.random.default_rng(7)).train()
    losses = [m(tokens(2, 8), tokens(2, 8, seed=1))[1] for m in (model, other)]
    assert losses[0].item() == losses[1].item() != model.eval()(tokens(2, 8), tokens(2, 8, seed=1))[1].item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in model.parameters())


def test_a_model_without_biases_gets_zeros(tmp_path):
    model = small(bias=False)
    model.save_pretrained(tmp_path)
    loaded = GPT.from_pretrained(tmp_path)
    assert loaded.config.bias
    assert not loaded.h[0].attn.qkv.bias.data.any()
    assert not loaded.ln_f.bias.data.any()
    idx = tokens(2, 8)
    np.testing.assert_allclose(loaded(idx)[0].numpy(), model(idx)[0].numpy(), rtol=1e-6, atol=1e-6)


def test_merged_adapters_are_saved_and_others_are_not_lost(tmp_path):
    """A head of its own has an adapter too."""
    model = small(tie_weights=False)
    plain = model.state_dict()
    names = add_lora(model, rank=2, alpha=4, rng=np.random.default_rng(0))
    assert len(names) == 9
    for adapter in adapters(model):
        adapter.lora_b.data = np.random.default_rng(1).standard_normal(adapter.lora_b.shape, dtype=np.float32)
    expected = model(tokens(2, 8))[0].numpy()
    with pytest.raises(ValueError, match=r"9 adapters are not merged.*unload_lora\(model\).*save_adapters\("):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    merge_lora(model)
    model.save_pretrained(tmp_path)
    loaded = GPT.from_pretrained(tmp_path)
    np.testing.assert_allclose(loaded(tokens(2, 8))[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    unload_lora(model)
    for name, array in model.state_dict().items():
        assert loaded.state_dict()[name].tobytes() == array.tobytes(), name
        assert np.any(array != plain[name]) == (name.removesuffix(".weight") in names), name


def without_bias(model):
    model.h[0].attn.proj.bias = None


def without_weight(model):
    del model.h[1].mlp.fc.weight


def with_a_head(model):
    model.value = nn.Linear(8, 1, rng=np.random.default_rng(0))


def with_more_tokens(model):
    model.wte = model.lm_head = nn.Embedding(12, 8, rng=np.random.default_rng(0))


def with_a_block_more(model):
    model.h.append(nn.Block(8, 2, causal=True, rng=np.random.default_rng(0)))


def with_a_head_of_its_own(model):
    model.lm_head.weight = nn.Parameter(model.wte.weight.numpy() + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_bias, r"28 tensors:\n  h\.0\.attn\.proj\.bias \(8,\) is missing$"),
        (without_weight, r"h\.1\.mlp\.fc\.weight \(8, 32\) is missing$"),
        (with_a_head, r"'value\.weight' \(1, 8\) has no place in it\n  'value\.bias'"),
        (with_more_tokens, r"wte\.weight should be \(11, 8\) by the config, and is \(12, 8\)$"),
        (with_a_block_more, r"'h\.2\.ln1\.weight' \(8,\) has no place in it"),
        (with_a_head_of_its_own, r"lm_head\.weight is not wte\.weight, as config\.tie_weights says"),
    ],
)
def test_what_is_not_the_gpt_of_its_config_is_not_saved(tmp_path, change, message):
    """Nothing is made up for what is missing, and nothing is left out without a word."""
    model = small(vocab_size=257) if change is with_a_head else small()
    change(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "new", BPE.train("", 257) if change is with_a_head else None)
    assert not (tmp_path / "new").exists()


def test_a_head_that_was_tied_later_is_saved(tmp_path):
    """Its name is there under the embedding's weight only."""
    model = small(tie_weights=False)
    model.lm_head.weight = model.wte.weight
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(GPT.from_pretrained(tmp_path).lm_head.weight.data, model.wte.weight.data)


def test_a_full_disk_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    """With its tokenizer: the new one's comes after the weights."""
    small(vocab_size=300).save_pretrained(tmp_path, BPE.train("the cat", 260))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    room, write = 5000, os.write

    def full(descriptor, data):
        nonlocal room
        room -= len(data)
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(CheckpointError, match="No space left"):
            small(vocab_size=300, seed=1).save_pretrained(tmp_path, BPE.train("a dog", 258))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_folder_has_gpt2s_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 2 + 2 * 12 + 2
    assert found["transformer.wte.weight"] == (11, 8)
    assert found["transformer.wpe.weight"] == (8, 8)
    assert found["transformer.h.1.attn.c_attn.weight"] == (8, 24)
    assert found["transformer.h.1.attn.c_attn.bias"] == (24,)
    assert found["transformer.h.0.mlp.c_fc.weight"] == (8, 32)
    assert found["transformer.h.0.mlp.c_proj.weight"] == (32, 8)
    assert found["transformer.h.0.ln_2.bias"] == found["transformer.ln_f.weight"] == (8,)
    config = json.loads((folder / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    assert config["n_positions"] == 8
    assert config["eos_token_id"] is None
    assert read_metadata(folder / "model.safetensors") == {"format": "pt"}  # transformers 4 asks for it


def test_queries_keys_and_values_stand_side_by_side_along_the_outputs(folder):
    """x W + b of the file is what the layer computes."""
    model, arrays = small(), load_file(folder / "model.safetensors")
    x = np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32)
    weight, bias = (arrays[f"transformer.h.0.attn.c_attn.{kind}"] for kind in ("weight", "bias"))
    np.testing.assert_allclose(model.h[0].attn.qkv(x).numpy(), x @ weight + bias, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_files_of_older_versions(folder, dtype):
    """Without the prefix, with the causal masks, with the head written out, and in another precision."""
    arrays = load_file(folder / "model.safetensors")
    older = {name.removeprefix("transformer."): array.astype(dtype) for name, array in arrays.items()}
    older["lm_head.weight"] = older["wte.weight"]
    older["h.0.attn.bias"] = np.tril(np.ones((1, 1, 8, 8), np.uint8))
    older["h.1.attn.masked_bias"] = np.array(-1e4, np.float32)
    save_file(folder / "model.safetensors", older)
    loaded = GPT.from_pretrained(folder)
    for name, array in small().state_dict().items():
        assert loaded.state_dict()[name].dtype == np.float32
        np.testing.assert_array_equal(loaded.state_dict()[name], array.astype(dtype))


def split(folder, **changes):
    """The weights in two files and an index; returns the path of that."""
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(arrays)}
    for part in set(places.values()):
        save_file(folder / part, {name: arrays[name] for name in arrays if places[name] == part})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places | changes}))
    return index


def test_options_that_are_left_out_are_those_of_the_smallest_gpt2(folder):
    edit(folder / "config.json", n_layer=None)
    with pytest.raises(CheckpointError, match=r"the 148 tensors of config\.json"):
        GPT.from_pretrained(folder)
    edit(folder / "config.json", n_layer=2, n_head=None)
    with pytest.raises(CheckpointError, match="n_head: expected a divisor of n_embd=8"):
        GPT.from_pretrained(folder)


def test_the_tokenizer_comes_along(tmp_path):
    tokenizer = BPE.train("the cat sat on the mat", 265, special=[END])
    small(vocab_size=272).save_pretrained(tmp_path, tokenizer)  # larger: filled up, as some are
    assert BPE.load(tmp_path, special=[END]).merges == tokenizer.merges
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == 264
    with pytest.raises(ValueError, match="the tokenizer has 265 tokens, the model 11"):
        small().save_pretrained(tmp_path / "other", tokenizer)
    assert not (tmp_path / "other").exists()


# -- what does not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model_type", "llama", "the option model_type: expected \"gpt2\".*found 'llama'"),
        ("architectures", ["GPT2ForSequenceClassification"], "the option architectures: expected null or"),
        ("an_option_of_the_future", 1, "the option an_option_of_the_future: expected no such option"),
        ("is_decoder", True, "is_decoder: expected false"),
        ("activation_function", "relu", "activation_function: expected \"gelu_new\" or.*found 'relu'"),
        ("activation_function", ["gelu"], r"activation_function: expected .*found \['gelu'\]"),
        ("scale_attn_weights", False, "scale_attn_weights: expected true: .* found False"),
        ("scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx: expected false.*True"),
        ("add_cross_attention", True, "add_cross_attention: expected false"),
        ("n_inner", 16, "n_inner: expected null or 32: .* found 16"),
        ("n_embd", 8.0, "n_embd: expected a whole number from 1, found 8.0"),
        ("n_layer", 0, "n_layer: expected a whole number from 1, found 0"),
        ("n_layer", True, "n_layer: expected a whole number from 1, found True"),
        ("vocab_size", 2**31, "vocab_size: expected a whole number"),
        ("n_head", 3, "n_head: expected a divisor of n_embd=8, found 3"),
        ("layer_norm_epsilon", "1e-5", "layer_norm_epsilon: expected a number from 0, below 1, found '1e-5'"),
        ("attn_pdrop", 1.0, "attn_pdrop: expected a number from 0, below 1"),
        ("tie_word_embeddings", 1, "tie_word_embeddings: expected true or false, found 1"),
        ("n_layer", 10**9, "too few tensors: expected n_layer=1000000000 blocks, found 28"),
        ("n_layer", 3, r"12 of|transformer\.h\.2\.ln_1\.weight \(8,\) is missing"),
        ("n_layer", 1, r"'transformer\.h\.1\.\S+' \(\S+\) has no place in it"),
        ("vocab_size", 12, r"transformer\.wte\.weight should be \(12, 8\) by config.json, and is \(11, 8\)"),
        ("n_positions", 9, r"transformer\.wpe\.weight should be \(9, 8\) by config.json, and is \(8, 8\)"),
        ("tie_word_embeddings", False, r"lm_head\.weight \(11, 8\) is missing"),
        ("pruned_heads", {"0": [1]}, "the option pruned_heads: expected null or {}"),
        ("num_attention_heads", 4, "the option num_attention_heads: expected the same as n_head, found 4"),
        (
            "quantization_config",
            {"load_in_8bit": True},
            r"quantization_config: .*quantized .*found {'load",
        ),
        ("quantization_config", "gptq", r"quantization_config: expected none, and float32.*, found 'gptq'"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=message):
        GPT.from_pretrained(folder)


PUBLISHED = {  # of gpt2 and distilgpt2: options that change no logits
    **dict.fromkeys(("bos_token_id", "eos_token_id"), 50256),
    "architectures": ["GPT2LMHeadModel"],
    "initializer_range": 0.02,
    "n_ctx": 8,
    "_num_labels": 1,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "output_past": True,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "gradient_checkpointing": False,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "transformers_version": "4.24.0",
    "use_cache": True,
    "reorder_and_upcast_attn": False,
}


def test_options_of_published_folders(folder):
    edit(folder / "config.json", **PUBLISHED)
    assert GPT.from_pretrained(folder).config == small().config


def test_other_names_of_options(folder):
    """As `transformers` takes them: with the default number of heads the logits would be others."""
    edit(folder / "config.json", n_head=None, n_embd=None, num_attention_heads=4, hidden_size=8, n_layer=2)
    assert GPT.from_pretrained(folder).config == replace(small().config, n_head=4)


def test_a_long_list_is_cut(folder):
    save_file(folder / "model.safetensors", {f"x{i}": np.zeros(1) for i in range(500)})
    with pytest.raises(CheckpointError, match="and 518 more") as info:
        GPT.from_pretrained(folder)
    assert str(info.value).count("\n") == 11


def test_a_tied_head_that_differs(folder):
    arrays = load_file(folder / "model.safetensors")
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"] + 1
    save_file(folder / "model.safetensors", arrays)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight.*tie_word_embeddings is on"):
        GPT.from_pretrained(folder)


def test_three_rates_of_dropout(folder):
    edit(folder / "config.json", embd_pdrop=0.1)
    with pytest.raises(ValueError, match=r"one rate of dropout.*'embd_pdrop': 0\.1.*pass dropout="):
        GPT.from_pretrained(folder)
    assert GPT.from_pretrained(folder, dropout=0.2).config.dropout == 0.2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
OPTIONS = [*DEFAULTS, *FIXED, *FREE, "model_type", "architectures", "n_inner"]


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    small().save_pretrained(folder)
    index = json.loads(split(folder).read_text())
    return folder, json.loads((folder / "config.json").read_text()), index


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=2), st.none() | ANYTHING)
def test_what_a_stranger_writes_into_the_json_files_is_refused_or_read(strange, changes, name):
    folder, config, index = strange
    (folder / "config.json").write_text(json.dumps(config | changes))
    places = index["weight_map"] if name is None else index["weight_map"] | {"transformer.wte.weight": name}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    try:
        model = GPT.from_pretrained(folder, dropout=0.0)
    except CheckpointError:
        return
    assert model.num_parameters() == small().num_parameters()


# -- parity with transformers ----------------------------------------------------------------------


def theirs(transformers, seed=0, **changes):
    """A random GPT-2 made by transformers, its weights large enough that greedy choices are clear."""
    torch = pytest.importorskip("torch")
    sizes = {"vocab_size": 300, "n_positions": 40, "n_embd": 48, "n_layer": 2, "n_head": 4}
    ends = {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.2}
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **ends, **changes}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.2)  # at the start they are 0, and would hide a mistake
    return model.eval()


def require_equal(ours, other, text):
    """The same logits within 1e-4, the same greedy continuation, the same perplexity."""
    torch = pytest.importorskip("torch")
    length = ours.config.block_size
    x, y = text[:-1].reshape(-1, length), text[1:].reshape(-1, length)
    with torch.inference_mode():
        expected = other(torch.tensor(x)).logits.numpy()
        loss = torch.nn.functional.cross_entropy(
            torch.tensor(expected).flatten(0, 1), torch.tensor(y).flatten()
        )
    logits, mean = ours(x, y)
    assert np.abs(expected).max() > 1
    assert np.abs(logits.numpy() - expected).max() <= 1e-4
    assert math.isclose(perplexity(mean.item()), math.exp(loss.item()), rel_tol=1e-5)
    prompt, n = x[:, :5], min(length - 5, 40)
    continued = other.generate(torch.tensor(prompt), do_sample=False, max_new_tokens=n, pad_token_id=0)
    found = ours.sample(prompt, n, temperature=0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found, continued.numpy())
    assert len(np.unique(found)) > 5


@pytest.mark.parametrize(
    "changes",
    [{}, {"gelu": "none", "norm_eps": 1e-3}, {"tie_weights": False, "n_layer": 3}, {"bias": False}],
)
def test_models_from_here_run_there_as_here(transformers, tmp_path, changes):
    ours = small(**{"vocab_size": 300, "block_size": 40, "n_embd": 32, "n_head": 4, **changes})
    ours.save_pretrained(tmp_path)
    other, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    require_equal(ours, other.eval(), tokens(3 * 40 + 1, vocab_size=300))


def test_their_model_without_a_head(transformers, tmp_path):
    other = theirs(transformers)
    other.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    require_equal(GPT.from_pretrained(tmp_path), other, tokens(81, vocab_size=300))


def test_they_read_the_tokenizer(transformers, tmp_path):
    tokenizer = BPE.train(load_text("topics")[:20_000], 300, special=[END])
    small(vocab_size=300).save_pretrained(tmp_path, tokenizer)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (len(other), other.eos_token_id) == (300, tokenizer.special[END])
    text = f"Hello, it's 20°, naïve 中文 😀\n\n  two{END}"
    assert other.encode(text) == tokenizer.encode(text, "all").tolist()
    assert other.decode(other.encode(text)) == text


@pytest.mark.slow
def test_the_smallest_gpt2(transformers, tmp_path):
    """124 million weights, both directions."""
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    other = theirs(transformers, **sizes, initializer_range=0.05)
    other.save_pretrained(tmp_path / "theirs")
    ours = GPT.from_pretrained(tmp_path / "theirs")
    assert ours.num_parameters() == 124_439_808
    text = tokens(1025, vocab_size=50257)
    require_equal(ours, other, text)
    ours.save_pretrained(tmp_path / "ours")
    require_equal(ours, transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours"), text)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)

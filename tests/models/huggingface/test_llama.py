"""Folders of Llama, Mistral, Qwen2 and Qwen3: what is written comes back, what does not fit is named, and
`transformers` agrees."""

import json

import numpy as np
import pytest
from golden.formula import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import edit
from transformers_parity import FAMILIES, LLAMA3, Case, require_equal

from tinygen import nn
from tinygen.align.lora import adapters, add_lora, merge_lora
from tinygen.models.huggingface.llama_config import DEFAULTS, FREE
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

SCALING = nn.RopeScaling(factor=4.0, low=1.0, high=3.0, original_length=8)


def small(seed=0, **changes):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    sizes = {"vocab_size": 11, "block_size": 8, "layers": 2, "heads": 4, "kv_heads": 2, "channels": 8}
    rng = np.random.default_rng(seed)
    model = Llama(LlamaConfig(**{**sizes, "hidden": 12, **changes}), rng=rng).eval()
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

BIASES = {"qkv_bias": True, "proj_bias": True}
KINDS = [
    ("llama", {}),
    ("llama", {**BIASES, "mlp_bias": True, "tie_weights": True, "dropout": 0.25, "norm_eps": 1e-3}),
    ("llama", {"head_channels": 6, "rope_base": 5e5, "rope_scaling": SCALING, "kv_heads": 1}),
    ("mistral", {"channels": 10, "head_channels": 4}),
    ("qwen2", {"qkv_bias": True, "layers": 1, "kv_heads": None}),
    ("qwen3", {"qk_norm": True, "head_channels": 4}),
    ("qwen3", {"qk_norm": True, **BIASES}),
]


@pytest.mark.parametrize(("family", "changes"), KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, family, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new" / "folder")
    assert json.loads((tmp_path / "new" / "folder" / "config.json").read_text())["model_type"] == family
    loaded = Llama.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.wte.weight is loaded.lm_head.weight or not model.config.tie_weights
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        assert theirs[name].dtype == array.dtype
        assert theirs[name].tobytes() == array.tobytes(), name
    assert (loaded(tokens(2, 8))[0].numpy() == model(tokens(2, 8))[0].numpy()).all()


@pytest.mark.parametrize(
    "changes",
    [{"qkv_bias": True, "mlp_bias": True}, {"qk_norm": True, "qkv_bias": True}, {"proj_bias": True}],
)
def test_a_model_that_no_family_has_is_not_written(tmp_path, changes):
    with pytest.raises(ValueError, match="no family of transformers has these biases, norms and widths"):
        small(**changes).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_loaded_model_trains_on(folder):
    edit(folder / "config.json", attention_dropout=0.5)
    models = [Llama.from_pretrained(folder, rng=7).train() for _ in range(2)]
    losses = [m(tokens(2, 8), tokens(2, 8, seed=1))[1] for m in models]
    plain = models[1].eval()(tokens(2, 8), tokens(2, 8, seed=1))[1]
    assert losses[0].item() == losses[1].item() != plain.item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in models[0].parameters())


def test_merged_adapters_are_saved_and_others_are_not_lost(tmp_path):
    model = small()
    names = add_lora(model, rank=2, alpha=4, rng=0)
    for adapter in adapters(model):
        adapter.lora_b.data = np.random.default_rng(1).standard_normal(adapter.lora_b.shape, dtype=np.float32)
    expected = model(tokens(2, 8))[0].numpy()
    with pytest.raises(ValueError, match=rf"{len(names)} adapters are not merged"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    merge_lora(model)
    model.save_pretrained(tmp_path)
    loaded = Llama.from_pretrained(tmp_path)
    np.testing.assert_allclose(loaded(tokens(2, 8))[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def with_a_head(model):
    model.value = nn.Linear(8, 1, rng=0)


def without_norm(model):
    del model.h[1].norm2.weight


def with_more_tokens(model):
    model.wte = nn.Embedding(12, 8, rng=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_norm, r"21 tensors:\n  h\.1\.norm2\.weight \(8,\) is missing$"),
        (with_a_head, r"'value\.weight' \(1, 8\) has no place in it\n  'value\.bias'"),
        (with_more_tokens, r"wte\.weight should be \(11, 8\) by the config, and is \(12, 8\)$"),
    ],
)
def test_what_is_not_the_llama_of_its_config_is_not_saved(tmp_path, change, message):
    model = small()
    change(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_tied_head_that_is_another_is_not_saved(tmp_path):
    model = small(tie_weights=True)
    model.lm_head.weight = nn.Parameter(model.wte.weight.numpy() + 1)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not wte\.weight, as config\.tie_weights says"):
        model.save_pretrained(tmp_path / "new")


def test_the_folder_has_their_names_and_shapes(tmp_path):
    small(head_channels=6, qk_norm=True, **BIASES).save_pretrained(tmp_path)
    found = {name: array.shape for name, array in load_file(tmp_path / "model.safetensors").items()}
    assert len(found) == 2 + 2 * 15 + 1
    assert found["model.embed_tokens.weight"] == found["lm_head.weight"] == (11, 8)
    block = {name.removeprefix("model.layers.1."): shape for name, shape in found.items() if ".1." in name}
    assert block == {
        "input_layernorm.weight": (8,),
        "post_attention_layernorm.weight": (8,),
        "self_attn.q_proj.weight": (24, 8),
        "self_attn.q_proj.bias": (24,),
        "self_attn.k_proj.weight": (12, 8),
        "self_attn.k_proj.bias": (12,),
        "self_attn.v_proj.weight": (12, 8),
        "self_attn.v_proj.bias": (12,),
        "self_attn.q_norm.weight": (6,),
        "self_attn.k_norm.weight": (6,),
        "self_attn.o_proj.weight": (8, 24),
        "self_attn.o_proj.bias": (8,),
        "mlp.gate_proj.weight": (12, 8),
        "mlp.up_proj.weight": (12, 8),
        "mlp.down_proj.weight": (8, 12),
    }


# -- a golden folder -------------------------------------------------------------------------------

GOLDEN = {"model_type": "qwen3", "vocab_size": 7, "hidden_size": 6, "intermediate_size": 5}
GOLDEN |= {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
GOLDEN |= {"max_position_embeddings": 9, "attention_bias": True, "rms_norm_eps": 0.01, "rope_theta": 100.0}
GOLDEN_TOKENS = np.array([[3, 1, 4, 1, 5]])
GOLDEN_LOGITS = [0.59053, -1.8525385, 1.4977194, 0.1642545, -1.6828731, 1.7327417, -0.2703366]


def golden_folder(path):
    """A Qwen3 whose weights are sines, by their names there."""
    c, q, kv, d, hidden = 6, 16, 8, 4, 5
    shapes = {"input_layernorm.weight": (c,), "post_attention_layernorm.weight": (c,)}
    for name, outputs in (("q", q), ("k", kv), ("v", kv)):
        shapes |= {f"self_attn.{name}_proj.weight": (outputs, c), f"self_attn.{name}_proj.bias": (outputs,)}
    shapes |= {"self_attn.q_norm.weight": (d,), "self_attn.k_norm.weight": (d,)}
    shapes |= {"self_attn.o_proj.weight": (c, q), "self_attn.o_proj.bias": (c,)}
    shapes |= {"mlp.gate_proj.weight": (hidden, c), "mlp.up_proj.weight": (hidden, c)}
    shapes |= {"mlp.down_proj.weight": (c, hidden)}
    shapes = {f"model.layers.0.{name}": shape for name, shape in shapes.items()}
    shapes |= {"model.embed_tokens.weight": (7, c), "model.norm.weight": (c,), "lm_head.weight": (7, c)}
    arrays = {name: wave(*shape, k=k).astype(np.float32) for k, (name, shape) in enumerate(shapes.items())}
    save_file(path / "model.safetensors", arrays, {"format": "pt"})
    (path / "config.json").write_text(json.dumps(GOLDEN))


def test_golden_logits(tmp_path):
    golden_folder(tmp_path)
    logits = Llama.from_pretrained(tmp_path)(GOLDEN_TOKENS)[0].numpy()
    np.testing.assert_allclose(logits[0, -1], GOLDEN_LOGITS, atol=1e-5)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_files_of_older_versions(tmp_path, dtype):
    """With the frequencies of the rotation, the tied head written out, and in another precision."""
    small(tie_weights=True).save_pretrained(tmp_path)
    older = {name: a.astype(dtype) for name, a in load_file(tmp_path / "model.safetensors").items()}
    older["lm_head.weight"] = older["model.embed_tokens.weight"]
    older["model.layers.1.self_attn.rotary_emb.inv_freq"] = np.ones(1, np.float32)
    save_file(tmp_path / "model.safetensors", older)
    loaded = Llama.from_pretrained(tmp_path)
    for name, array in small(tie_weights=True).state_dict().items():
        assert loaded.state_dict()[name].dtype == np.float32
        np.testing.assert_array_equal(loaded.state_dict()[name], array.astype(dtype))
    older["lm_head.weight"] = older["lm_head.weight"] + 1
    save_file(tmp_path / "model.safetensors", older)
    with pytest.raises(
        CheckpointError, match=r"lm_head\.weight.*tie_word_embeddings is on, and the two differ"
    ):
        Llama.from_pretrained(tmp_path)


def test_options_in_the_words_of_both_versions(folder):
    """rope_theta and rope_scaling of transformers 4, rope_parameters of transformers 5."""
    config = folder / "config.json"
    numbers = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0}
    edit(
        config,
        rope_theta=5e5,
        rope_scaling={"rope_type": "llama3", "original_max_position_embeddings": 8} | numbers,
    )
    four = Llama.from_pretrained(folder).config
    assert (four.rope_base, four.rope_scaling) == (5e5, SCALING)
    rope = json.loads(config.read_text())["rope_scaling"] | {"rope_theta": 5e5}
    edit(config, rope_theta=None, rope_scaling=None, rope_parameters=rope)
    assert Llama.from_pretrained(folder).config == four
    edit(config, rope_scaling=rope)  # both, and the same
    assert Llama.from_pretrained(folder).config == four
    edit(config, rope_scaling={"rope_type": "default"})
    with pytest.raises(CheckpointError, match="rope_parameters: expected null, or the same as rope_scaling"):
        Llama.from_pretrained(folder)
    edit(config, rope_scaling=None)
    del rope["original_max_position_embeddings"]  # then it is the longest context
    edit(config, rope_parameters=rope)
    assert Llama.from_pretrained(folder).config == four
    edit(config, rope_parameters={"type": "default"})
    assert Llama.from_pretrained(folder).config == small().config


def test_a_shorter_or_longer_context(folder):
    """And with a context no longer than it, a window hides nothing."""
    assert Llama.from_pretrained(folder, block_size=100).config.block_size == 100
    edit(folder / "config.json", model_type="mistral", sliding_window=5, architectures=["MistralForCausalLM"])
    edit(folder / "config.json", attention_bias=None, mlp_bias=None)
    with pytest.raises(
        CheckpointError, match=r"sliding_window: expected null, or no .*block_size=N.*here 8, found 5"
    ):
        Llama.from_pretrained(folder)
    short = Llama.from_pretrained(folder, block_size=5)
    idx = tokens(2, 5)
    np.testing.assert_array_equal(short(idx)[0].numpy(), small()(idx)[0].numpy())


def test_options_that_are_left_out_have_the_families_defaults(folder):
    edit(folder / "config.json", num_key_value_heads=None)
    with pytest.raises(
        CheckpointError, match=r"k_proj\.weight should be \(8, 8\) by config.json, and is \(4, 8\)"
    ):
        Llama.from_pretrained(folder)  # Llama's is: as many as heads
    edit(folder / "config.json", model_type="mistral", architectures=None)
    with pytest.raises(
        CheckpointError, match="num_key_value_heads: expected a divisor of num_attention_heads=4, found 8"
    ):
        Llama.from_pretrained(folder)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "model_type",
            "gemma2",
            r"model_type: expected one of \['llama', 'mistral', 'qwen2', 'qwen3'\], found 'gemma2'",
        ),
        ("model_type", None, r"model_type: expected one of .*, found None"),
        ("architectures", ["LlamaForSequenceClassification"], "architectures: expected .*LlamaForCausalLM"),
        ("architectures", ["Phi3ForCausalLM"], "architectures: expected"),
        ("vocab_size", "11", "vocab_size: expected a whole number from 1, found '11'"),
        ("hidden_size", 0, "hidden_size: expected a whole number from 1, found 0"),
        ("num_hidden_layers", True, "num_hidden_layers: expected a whole number from 1, found True"),
        ("num_hidden_layers", 10**9, "too few tensors: expected 1000000000 layers, found 21"),
        ("num_hidden_layers", 3, r"model\.layers\.2\.input_layernorm\.weight \(8,\) is missing"),
        ("num_hidden_layers", 1, r"'model\.layers\.1\.\S+' \(\S+\) has no place in it"),
        ("vocab_size", 12, r"embed_tokens\.weight should be \(12, 8\) by config.json, and is \(11, 8\)"),
        ("num_key_value_heads", 3, "a divisor of num_attention_heads=4, found 3"),
        ("head_dim", 3, "head_dim: expected an even number: .*found 3"),
        ("head_dim", 4, r"q_proj\.weight should be \(16, 8\) by config.json, and is \(8, 8\)"),
        ("hidden_act", "gelu", "hidden_act: expected \"silu\": .*found 'gelu'"),
        ("rms_norm_eps", "1e-5", "rms_norm_eps: expected a number from 0, below 1, found '1e-5'"),
        ("attention_dropout", 1.0, "attention_dropout: expected a number from 0, below 1"),
        ("tie_word_embeddings", 1, "tie_word_embeddings: expected true or false, found 1"),
        ("tie_word_embeddings", True, r"tie_word_embeddings is on, and the two differ"),
        ("attention_bias", "yes", "attention_bias: expected true or false, found 'yes'"),
        ("attention_bias", True, r"q_proj\.bias \(8,\) is missing"),
        ("mlp_bias", True, r"gate_proj\.bias \(12,\) is missing"),
        ("rope_interleaved", True, "rope_interleaved: expected false"),
        ("use_mrope", True, "use_mrope: expected false"),
        ("rope_theta", -1.0, "rope_theta: expected a number above 1"),
        ("rope_scaling", [2], r"rope_scaling: expected null or an object, found \[2\]"),
        (
            "rope_scaling",
            {"type": "linear", "factor": 2.0},
            "rope_scaling.rope_type: expected 'default' or 'llama3'.*'linear'",
        ),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}, "rope_type: .*found 'yarn'"),
        ("rope_parameters", {"rope_type": "longrope"}, "rope_parameters.rope_type: .*found 'longrope'"),
        ("rope_parameters", {"partial_rotary_factor": 0.5}, "rope_parameters: expected numbers by the names"),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}, "rope_scaling: .*'high_freq_factor'"),
        (
            "rope_scaling",
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0},
            "rope_scaling: expected numbers that fit together.*0 < low < high",
        ),
        ("layer_types", ["full_attention", "sliding_attention"], "layer_types: expected"),
        ("use_sliding_window", True, None),  # without a window it says nothing
        ("logits_soft_cap", 30.0, "logits_soft_cap: expected no such option"),
        ("num_experts", 8, "num_experts: expected no such option"),
        ("quantization_config", {"quant_method": "gptq"}, r"quantization_config: expected none.*'gptq'"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    if message is None:
        Llama.from_pretrained(folder)
        return
    with pytest.raises(CheckpointError, match=message) as info:
        Llama.from_pretrained(folder)
    assert str(folder) in info.value.file


@pytest.mark.parametrize(
    ("family", "option", "value"),
    [
        ("mistral", "attention_bias", True),
        ("mistral", "mlp_bias", True),
        ("qwen2", "attention_bias", False),
        ("qwen2", "mlp_bias", True),
        ("qwen2", "use_sliding_window", "yes"),
        ("qwen3", "mlp_bias", True),
    ],
)
def test_options_of_the_relatives(folder, family, option, value):
    edit(folder / "config.json", model_type=family, architectures=None, sliding_window=100)
    edit(folder / "config.json", attention_bias=None, mlp_bias=None)
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=f"the option {option}"):
        Llama.from_pretrained(folder)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_window_in_use(tmp_path, family):
    small(qkv_bias=family == "qwen2", qk_norm=family == "qwen3").save_pretrained(tmp_path)
    edit(tmp_path / "config.json", sliding_window=4, use_sliding_window=False, max_window_layers=1)
    Llama.from_pretrained(tmp_path)
    edit(tmp_path / "config.json", use_sliding_window=True)
    with pytest.raises(CheckpointError, match="the option sliding_window: expected null, or no shorter"):
        Llama.from_pretrained(tmp_path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
OPTIONS = [
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
]
OPTIONS += [
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
]
OPTIONS += ["rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "layer_types", "hidden_act"]
OPTIONS += ["attention_bias", "mlp_bias", "tie_word_embeddings", "attention_dropout", *FREE]


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    small().save_pretrained(folder)
    return folder, json.loads((folder / "config.json").read_text())


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(OPTIONS), ANYTHING | st.sampled_from([*DEFAULTS]), max_size=2))
def test_what_a_stranger_writes_into_the_config_is_refused_or_read(strange, changes):
    folder, config = strange
    (folder / "config.json").write_text(json.dumps(config | changes))
    try:
        model = Llama.from_pretrained(folder)
    except CheckpointError:
        return
    assert model.num_parameters() == small().num_parameters()


# -- parity with transformers ----------------------------------------------------------------------


def test_models_from_here_run_there_as_here(transformers, tmp_path):
    for i, (_, changes) in enumerate(KINDS):
        ours = small(**{"vocab_size": 60, "block_size": 24, **changes})
        ours.save_pretrained(tmp_path / str(i))
        other, info = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / str(i), output_loading_info=True
        )
        assert not any(info.values()), info
        require_equal("Llama", ours, other.eval())


def test_their_model_without_a_head(transformers, tmp_path):
    other = FAMILIES["Llama"].model(Case({"tie_word_embeddings": True}))
    other.model.save_pretrained(tmp_path)
    assert "embed_tokens.weight" in load_file(tmp_path / "model.safetensors")
    require_equal("Llama", Llama.from_pretrained(tmp_path), other)


@pytest.mark.slow
def test_the_smallest_smollm2(transformers, tmp_path):
    """The options of SmolLM2-135M: 134,515,008 weights in bfloat16, here and back again."""
    torch = pytest.importorskip("torch")
    sizes = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    sizes |= {"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192}
    sizes |= {"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "initializer_range": 0.03}
    rope = {"rope_type": "default", "rope_theta": 100_000.0}
    half = FAMILIES["Llama"].model(Case(sizes | {"rope_parameters": rope})).to(torch.bfloat16)
    half.save_pretrained(tmp_path / "theirs")
    other = type(half).from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    ours = Llama.from_pretrained(tmp_path / "theirs", block_size=48)
    assert ours.num_parameters() == 134_515_008
    require_equal("Llama", ours, other)
    ours.save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_their_gradients(transformers, tmp_path):
    """Of the mean loss, by every weight."""
    torch = pytest.importorskip("torch")
    other = FAMILIES["Qwen3"].model(Case({"head_dim": 6, "attention_bias": True}))
    other.save_pretrained(tmp_path)
    ours = Llama.from_pretrained(tmp_path)
    x, y = tokens(2, 20, vocab_size=60), tokens(2, 20, vocab_size=60, seed=1)
    ours(x, y)[1].backward()
    logits = other(torch.tensor(x)).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten()).backward()
    gradients = dict(other.named_parameters())
    from tinygen.models.huggingface.llama import shapes

    names = shapes(ours.config.__dict__)
    for name, p in ours.named_parameters():
        expected = gradients[names[name][0]].grad.numpy()
        np.testing.assert_allclose(p.grad, expected, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_slower_rotations_of_llama_3(transformers):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {**LLAMA3, "rope_theta": 5e5, "original_max_position_embeddings": 8192}
    config = transformers.LlamaConfig(head_dim=128, rope_parameters=rope)
    expected, factor = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    assert factor == 1.0
    ours = nn.RopeScaling().slow_down(5e5 ** (-np.arange(0, 128, 2) / 128))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5)


def test_the_golden_logits_are_theirs(transformers, tmp_path):
    torch = pytest.importorskip("torch")
    golden_folder(tmp_path)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.inference_mode():
        logits = other(torch.tensor(GOLDEN_TOKENS)).logits.numpy()
    np.testing.assert_allclose(logits[0, -1], GOLDEN_LOGITS, atol=1e-6)


@pytest.mark.parametrize("family", DEFAULTS)
def test_the_sizes_that_a_config_leaves_out_are_those_of_transformers(family):
    config = pytest.importorskip("transformers").AutoConfig.for_model(family)
    given = {
        "vocab": config.vocab_size,
        "hidden": config.intermediate_size,
        "kv_heads": config.num_key_value_heads,
        "positions": config.max_position_embeddings,
        "head": getattr(config, "head_dim", None),
    }
    usual = DEFAULTS[family] | {"kv_heads": DEFAULTS[family]["kv_heads"] or config.num_attention_heads}
    usual["head"] = usual["head"] or given["head"]  # the width divided by the heads, which tests above hold
    assert usual == given

"""Adapters in peft's folders: their names and options, what does not fit, whole journeys, and peft itself."""

import json
import os
from contextlib import suppress

import numpy as np
import pytest
from foreign_files import JSON
from hypothesis import given
from hypothesis import strategies as st

from tinygen import nn
from tinygen.align import Responses, add_lora, load_lora_state, lora_state, merge_lora, sft_loss, unload_lora
from tinygen.align.lora import adapters
from tinygen.models.huggingface.peft import load_adapters, save_adapters
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, read_metadata, save_file
from tinygen.storage.state import restore, state_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
START = "base_model.model."


def small(seed=0, **changes):
    """Weights far larger than at the start of training, so that all of them matter."""
    sizes = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, "gelu": "tanh"}
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(**{**sizes, **changes}), rng=rng).eval()
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def adapted(seed=0, options=None, **changes):
    """A model with adapters that do something."""
    model, rng = small(**changes), np.random.default_rng(seed)
    add_lora(model, **{"rank": 2, "alpha": 5, "rng": rng, **(options or {})})
    for adapter in adapters(model):
        adapter.lora_b.data = rng.standard_normal(adapter.lora_b.shape, dtype=np.float32)
    return model


def tokens(*shape, vocab_size=11):
    return np.random.default_rng(3).integers(0, vocab_size, shape)


def logits(model, vocab_size=11):
    return model(tokens(2, 8, vocab_size=vocab_size))[0].numpy()


@pytest.fixture
def folder(tmp_path):
    save_adapters(adapted(), tmp_path)
    return tmp_path


def edit(folder, *without, **changes):
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in without}))


# -- the folder ------------------------------------------------------------------------------------


def test_the_names_and_options_of_the_folder(tmp_path):
    model = adapted(options={"targets": ["qkv", "mlp.proj"], "dropout": 0.25})
    save_adapters(model, tmp_path / "new" / "folder", base_model="openai-community/gpt2")
    names = [f"transformer.h.{i}.{layer}" for i in (0, 1) for layer in ("attn.c_attn", "mlp.c_proj")]
    assert json.loads((tmp_path / "new" / "folder" / CONFIG).read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "openai-community/gpt2",
        "r": 2,
        "lora_alpha": 5,
        "lora_dropout": 0.25,
        "target_modules": names,
        "fan_in_fan_out": True,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    tensors = load_file(tmp_path / "new" / "folder" / WEIGHTS)
    assert {name: x.shape for name, x in tensors.items()} == {
        **{f"{START}transformer.h.{i}.attn.c_attn.lora_A.weight": (2, 8) for i in (0, 1)},
        **{f"{START}transformer.h.{i}.attn.c_attn.lora_B.weight": (24, 2) for i in (0, 1)},
        **{f"{START}transformer.h.{i}.mlp.c_proj.lora_A.weight": (2, 32) for i in (0, 1)},
        **{f"{START}transformer.h.{i}.mlp.c_proj.lora_B.weight": (8, 2) for i in (0, 1)},
    }
    assert read_metadata(tmp_path / "new" / "folder" / WEIGHTS) == {"format": "pt"}


def test_its_product_is_what_merging_adds_to_gpt2s_matrices(folder, tmp_path):
    """(in, out) there: transposed. So a program that knows only the two formats finds the merged weights."""
    model = adapted()
    small().save_pretrained(tmp_path / "base")
    merge_lora(model)
    model.save_pretrained(tmp_path / "merged")
    added, base, merged = (
        load_file(path)
        for path in (folder / WEIGHTS, *(tmp_path / k / "model.safetensors" for k in ("base", "merged")))
    )
    layers = [name.removeprefix(START).removesuffix(".lora_A.weight") for name in added if "lora_A" in name]
    assert len(layers) == 8
    for name in layers:
        a, b = (added[f"{START}{name}.lora_{side}.weight"] for side in "AB")
        np.testing.assert_allclose(
            merged[f"{name}.weight"], base[f"{name}.weight"] + 5 / 2 * (b @ a).T, atol=1e-5
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_comes_back_bit_for_bit(tmp_path, dtype):
    """Merged or not, with a head of its own; rank, dropout and an alpha without an exact form too."""
    model = adapted(options={"rank": 3, "alpha": 0.1, "dropout": 0.5}, tie_weights=False).astype(dtype)
    save_adapters(model, tmp_path / "a")
    fresh = small(tie_weights=False).astype(dtype)
    names = load_adapters(fresh, tmp_path / "a")
    assert len(names) == 9
    assert "lm_head" in names
    assert fresh.state_dict().keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        assert fresh.state_dict()[name].tobytes() == array.tobytes(), name
    assert logits(fresh).tobytes() == logits(model).tobytes()
    assert {adapter.drop.p for adapter in adapters(fresh)} == {0.5}
    assert not any(m.training for _, m in fresh.named_modules())
    assert {n for n, p in fresh.named_parameters() if p.requires_grad} == set(lora_state(fresh))
    merge_lora(model)
    save_adapters(model, tmp_path / "b")
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_any_module_goes_by_its_own_names(tmp_path):
    model = nn.Sequential(
        nn.Linear(6, 3, rng=np.random.default_rng(0)), np.tanh, nn.Linear(3, 2, rng=np.random.default_rng(1))
    )
    add_lora(model, 1, 2.5, targets="2", rng=np.random.default_rng(2))
    save_adapters(model, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["target_modules"], config["fan_in_fan_out"], config["task_type"]) == (["2"], False, None)
    assert config["lora_alpha"] == 2.5
    assert set(load_file(tmp_path / WEIGHTS)) == {f"{START}2.lora_A.weight", f"{START}2.lora_B.weight"}
    state = lora_state(model)
    unload_lora(model)
    assert load_adapters(model, tmp_path) == ["2"]
    for name, array in lora_state(model).items():
        np.testing.assert_array_equal(array, state[name])


def test_a_model_without_a_head_and_short_names_of_layers(folder):
    """As peft writes them for GPT2Model, and when it finds the layers by the ends of their names."""
    tensors = load_file(folder / WEIGHTS)
    save_file(
        folder / WEIGHTS, {k.replace("transformer.", ""): x.astype(np.float16) for k, x in tensors.items()}
    )
    edit(folder, "bias", "lora_dropout", "init_lora_weights", target_modules=["c_attn", "c_proj", "mlp.c_fc"])
    model = small()
    assert len(load_adapters(model, folder)) == 8
    for name, array in lora_state(adapted()).items():
        np.testing.assert_array_equal(lora_state(model)[name], array.astype(np.float16))


# -- what cannot be written ------------------------------------------------------------------------


def test_what_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"the model has none: add_lora"):
        save_adapters(small(), tmp_path / "new")
    model, rng = small(), np.random.default_rng(0)
    add_lora(model.h[0], 2, 4, rng=rng)
    add_lora(model.h[1], 2, 5, rng=rng)
    with pytest.raises(ValueError, match=r"of one rank, .* \[\(2, 4, 0.0\), \(2, 5, 0.0\)\]"):
        save_adapters(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: cannot be written"):
        save_adapters(adapted(), tmp_path / "file")


# -- what cannot be read ---------------------------------------------------------------------------


WRONG = {
    "peft_type": ["IA3", "LOHA", None, ["LORA"]],
    "r": [0, -1, True, 2.0, "2", None, 2**40, 4],
    "lora_alpha": [0, 1e-30, -1, True, "5", None, 10**400, 1e39, float("nan"), [5]],
    "lora_dropout": [1, -0.1, True, "0", None],
    "target_modules": [".*c_attn", "all-linear", None, [], [1], [""], ["q_proj"], {"a": 1}],
    "bias": ["all", "lora_only", None],
    "init_lora_weights": ["pissa", "pissa_niter_16", "olora", "loftq", "corda", "eva", 1, {}],
    **{key: [True, 1] for key in ["use_dora", "use_rslora", "use_qalora", "lora_bias"]},
    **{key: [["lm_head"], "lm_head"] for key in ["modules_to_save", "exclude_modules", "target_parameters"]},
    **{key: [{"c_attn": 4}] for key in ["rank_pattern", "alpha_pattern", "loftq_config", "megatron_config"]},
    **{key: [0, [0]] for key in ["layers_to_transform", "trainable_token_indices"]},
    **{key: [[[0, 2]]] for key in ["layer_replication", "alora_invocation_tokens"]},
    "an_option_of_the_future": [0, 1, "x"],
}


@pytest.mark.parametrize("option", WRONG)
def test_options_that_do_not_fit_are_named(folder, option):
    """And nothing of the model has been changed."""
    model, good = small(), (folder / CONFIG).read_text()
    for value in WRONG[option]:
        (folder / CONFIG).write_text(good)
        edit(folder, **{option: value})
        with pytest.raises(CheckpointError) as caught:
            load_adapters(model, folder)
        shape = "should be (4, 8) by adapter_config.json, and is (2, 8)"
        assert f"{CONFIG}: the option {option}: expected" in str(caught.value) or shape in str(caught.value)
    assert not adapters(model)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("option", ["peft_type", "r", "lora_alpha", "target_modules"])
def test_options_without_which_nobody_knows_what_it_is(folder, option):
    edit(folder, option)
    with pytest.raises(CheckpointError, match=f"the option {option}: expected"):
        load_adapters(small(), folder)


def test_options_that_are_off_are_taken(folder):
    off = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "modules_to_save", "of_the_future")
    for value in (None, False, {}, []):
        edit(folder, **dict.fromkeys(off, value), peft_version="9.9", inference_mode=False, megatron_core="x")
        assert len(load_adapters(small(), folder)) == 8


def without(tensors, end):
    return {name: x for name, x in tensors.items() if not name.endswith(end)}


ONE = "transformer.h.1.attn.c_attn"
DAMAGE = {
    "no B": (lambda t: without(t, f"{ONE}.lora_B.weight"), rf"{ONE}\.lora_B\.weight \(24, 2\) is missing"),
    "no layer": (lambda t: {k: x for k, x in t.items() if ONE not in k}, "A.weight .* is missing"),
    "nothing": (lambda t: {}, "the 16 tensors of adapter_config.json"),
    "another layer": (lambda t: {**t, f"{START}wte.lora_embedding_A": np.ones((2, 11))}, "has no place"),
    "DoRA": (lambda t: {**t, f"{START}{ONE}.lora_magnitude_vector": np.ones(24)}, "has no place in it"),
    "no prefix": (lambda t: {k.removeprefix(START): x for k, x in t.items()}, "and 22 more"),
    "transposed": (lambda t: {k: x.T for k, x in t.items()}, r"should be \(2, 8\) .*, and is \(8, 2\)"),
    "int8": (lambda t: {k: x.astype(np.int8) for k, x in t.items()}, "not a weight: .*found int8"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_tensors_that_do_not_fit(folder, case):
    damage, message = DAMAGE[case]
    save_file(folder / WEIGHTS, damage(load_file(folder / WEIGHTS)))
    model = small()
    with pytest.raises(CheckpointError, match=message):
        load_adapters(model, folder)
    assert not adapters(model)


@pytest.mark.parametrize("rank", [9, 100])
def test_a_rank_that_no_matrix_has(folder, rank):
    edit(folder, r=rank)
    tensors = load_file(folder / WEIGHTS)
    more = {
        k: np.resize(x, (rank, x.shape[1]) if "lora_A" in k else (len(x), rank)) for k, x in tensors.items()
    }
    save_file(folder / WEIGHTS, more)
    with pytest.raises(
        CheckpointError, match=f"option r: expected at most 8, a side of a matrix, found {rank}"
    ):
        load_adapters(small(), folder)


def test_a_heads_own_weight_must_be_the_model_s(folder):
    """peft writes it, too, where the head has an adapter."""
    model = adapted(options={"targets": "lm_head"}, tie_weights=False)
    save_adapters(model, folder)
    tensors, name = load_file(folder / WEIGHTS), f"{START}lm_head.base_layer.weight"
    weight = model.lm_head.base.weight.numpy()
    save_file(folder / WEIGHTS, {**tensors, name: weight})
    assert load_adapters(small(tie_weights=False), folder) == ["lm_head"]
    for other in (weight + 1, weight[:-1]):
        save_file(folder / WEIGHTS, {**tensors, name: other})
        with pytest.raises(CheckpointError, match=r"lm_head\.base_layer\.weight.*beside another weight"):
            load_adapters(small(tie_weights=False), folder)


def test_models_that_do_not_fit(folder):
    with pytest.raises(CheckpointError, match=r"h\.1\.\S+ \(\d+, \d+\) has no place"):
        load_adapters(small(n_layer=1), folder)
    with pytest.raises(CheckpointError, match=r"should be \(2, 16\) by adapter_config.json, and is \(2, 8\)"):
        load_adapters(small(n_embd=16), folder)
    save_adapters(adapted(options={"targets": "lm_head"}, tie_weights=False), folder)
    with pytest.raises(CheckpointError, match=r"target_modules: expected layers .* found \['lm_head'\]"):
        load_adapters(small(), folder)  # whose head is the embedding
    with pytest.raises(ValueError, match="has adapters already"):
        load_adapters(adapted(), folder)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    save_adapters(adapted(), folder)
    return folder, json.loads((folder / CONFIG).read_text())


@given(st.dictionaries(st.sampled_from([*WRONG, "fan_in_fan_out", "x"]), JSON, min_size=1, max_size=2))
def test_what_a_stranger_writes_into_the_options_is_refused_or_read(strange, changes):
    folder, config = strange
    (folder / CONFIG).write_text(json.dumps(config | changes))
    model = small(n_layer=1) if changes.get("r") else small()
    with suppress(CheckpointError):
        load_adapters(model, folder)
        assert len(adapters(model)) == 8
        return
    assert not adapters(model)


def test_adapters_are_no_model(folder):
    with pytest.raises(CheckpointError, match=r"adapters, and no model: .*load_adapters"):
        GPT.from_pretrained(folder)


# -- journeys --------------------------------------------------------------------------------------


def run(model, optimizer, batches, steps):
    """Steps on the next texts of the generator."""
    model.train()
    for _ in range(steps):
        texts = batches.integers(0, 11, (4, 8))
        optimizer.zero_grad()
        sft_loss(model, Responses(texts, np.ones((4, 8), bool))).backward()
        optimizer.step()
    model.eval()


def optimizer_of(model):
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)


def test_train_save_load_onto_a_fresh_model_and_go_on_as_if_nothing_had_been(tmp_path):
    """To the bit, dropout on: the model from its folder, the adapters from theirs, the rest of the run."""
    small(dropout=0.0).save_pretrained(tmp_path / "base")
    rng, batches = np.random.default_rng(0), np.random.default_rng(1)
    model = GPT.from_pretrained(tmp_path / "base")
    add_lora(model, 2, 4, dropout=0.25, rng=rng)
    optimizer = optimizer_of(model)
    run(model, optimizer, batches, 3)
    save_adapters(model, tmp_path / "adapters", base_model=str(tmp_path / "base"))
    saved = json.loads(json.dumps({"rng": state_of(rng), "batches": state_of(batches)})), state_of(optimizer)
    run(model, optimizer, batches, 3)

    rng, batches = np.random.default_rng(7), np.random.default_rng(8)
    restore({"rng": rng, "batches": batches}, saved[0])
    other = GPT.from_pretrained(tmp_path / "base")
    load_adapters(other, tmp_path / "adapters", rng=rng)
    again = optimizer_of(other)
    restore(again, saved[1])
    run(other, again, batches, 3)
    for name, array in model.state_dict().items():
        assert other.state_dict()[name].tobytes() == array.tobytes(), name


def test_train_merge_save_load_elsewhere_and_go_on(tmp_path):
    """Three rounds of it, each on what the one before has learned; then in full."""
    small().save_pretrained(tmp_path / "0")
    batches, losses = np.random.default_rng(1), []
    for i in range(3):
        model = GPT.from_pretrained(tmp_path / str(i))
        before = logits(model)
        add_lora(model, 2, 4, rng=np.random.default_rng(i))
        run(model, optimizer_of(model), batches, 5)
        trained = logits(model)
        assert np.abs(trained - before).max() > 0.05
        merge_lora(model)
        model.save_pretrained(tmp_path / str(i + 1))
        np.testing.assert_allclose(logits(GPT.from_pretrained(tmp_path / str(i + 1))), trained, atol=1e-4)
        losses.append(
            sft_loss(
                model, Responses.from_tokens(np.random.default_rng(1).integers(0, 11, (64, 8)), 0)
            ).item()
        )
    unload_lora(model)
    model.unfreeze()
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    run(model, AdamW(list(model.parameters()), lr=0.01), batches, 1)
    assert all(np.any(p.numpy() != before[name]) for name, p in model.named_parameters())
    assert losses[2] < losses[0]


# -- peft itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peft():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    pytest.importorskip("torch")
    module = pytest.importorskip("peft")
    logging = pytest.importorskip("transformers").logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return module


def theirs_in(folder, **changes):
    """A random GPT-2 made by transformers, its weights large enough that all of them matter."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 11,
        "n_positions": 8,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "initializer_range": 0.3,
    }
    config = transformers.GPT2Config(**{**sizes, "bos_token_id": None, "eos_token_id": None, **changes})
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


def their_logits(model):
    import torch

    with torch.inference_mode():
        return model(torch.tensor(tokens(2, 8))).logits.numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "changes", "layers"),
    [
        ({"target_modules": None}, {}, 2),  # what peft chooses for a GPT-2
        ({"target_modules": ["c_proj"], "use_rslora": False, "lora_dropout": 0.1}, {}, 4),
        ({"target_modules": "all-linear", "init_lora_weights": "gaussian"}, {}, 8),
        ({"target_modules": ["mlp.c_fc", "lm_head"]}, {"tie_word_embeddings": False}, 3),
    ],
)
def test_their_adapters_run_here_as_there(peft, tmp_path, options, changes, layers):
    """And back again: the same tensors, bit for bit, which peft takes for its own."""
    import torch

    other = theirs_in(tmp_path / "base", **changes)
    plain = their_logits(other)
    config = peft.LoraConfig(r=3, lora_alpha=7, task_type="CAUSAL_LM", **options)
    other = peft.get_peft_model(other, config).eval()
    with torch.no_grad():
        for name, p in other.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    other.save_pretrained(tmp_path / "adapters")
    model = GPT.from_pretrained(tmp_path / "base", dropout=0.0)
    np.testing.assert_allclose(logits(model), plain, atol=1e-5)
    assert len(load_adapters(model, tmp_path / "adapters")) == layers
    wanted = their_logits(other)
    assert np.abs(wanted - plain).max() > 0.1
    np.testing.assert_allclose(logits(model), wanted, rtol=0, atol=1e-5)

    save_adapters(model, tmp_path / "back")
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("adapters", "back"))
    assert {name for name in first if "base_layer" not in name} == second.keys()  # lm_head's own comes along
    assert all(first[name].tobytes() == array.tobytes() for name, array in second.items())
    merge_lora(model)
    model.save_pretrained(tmp_path / "merged")
    merged = other.merge_and_unload()
    np.testing.assert_allclose(
        logits(GPT.from_pretrained(tmp_path / "merged")), their_logits(merged), atol=1e-5
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"targets": ["attn.proj", "fc"], "alpha": 0.7, "rank": 1}, {"n_layer": 3}),
        ({}, {"tie_weights": False}),
    ],
)
def test_adapters_from_here_run_there_as_here(peft, tmp_path, options, changes):
    import transformers

    model = adapted(options=options, **changes)
    small(**changes).save_pretrained(tmp_path / "base")
    save_adapters(model, tmp_path / "adapters", base_model=str(tmp_path / "base"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    other = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapters")).eval()
    np.testing.assert_allclose(their_logits(other), logits(model), rtol=0, atol=1e-5)
    assert sum("lora" in name for name, _ in other.named_parameters()) == 2 * len(adapters(model))
    auto = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapters")).eval()
    np.testing.assert_allclose(their_logits(auto), logits(model), rtol=0, atol=1e-5)
    other.save_pretrained(tmp_path / "again")  # with all the options that peft has
    again = small(**changes)
    load_adapters(again, tmp_path / "again")
    assert logits(again).tobytes() == logits(model).tobytes()


@pytest.mark.filterwarnings("ignore")
def test_a_step_of_training_is_peft_s(peft, tmp_path):
    """The same gradients of A and B from the same loss."""
    import torch

    other = theirs_in(tmp_path / "base")
    model = GPT.from_pretrained(tmp_path / "base", dropout=0.0)
    add_lora(model, 2, 5, rng=np.random.default_rng(0))
    state = {
        k: np.random.default_rng(i).normal(0, 0.5, x.shape)
        for i, (k, x) in enumerate(lora_state(model).items())
    }
    load_lora_state(model, state)
    save_adapters(model, tmp_path / "adapters")
    other = peft.PeftModel.from_pretrained(other, str(tmp_path / "adapters"), is_trainable=True).eval()
    x = tokens(2, 8)
    other(torch.tensor(x), labels=torch.tensor(x)).loss.backward()
    model(x[:, :-1], x[:, 1:])[1].backward()
    wanted = [p.grad.numpy() for name, p in other.named_parameters() if "lora" in name]
    found = [p.grad for p in model.parameters() if p.requires_grad]
    assert len(wanted) == len(found) == 16
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())

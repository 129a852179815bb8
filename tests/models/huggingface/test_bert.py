"""Folders of BERT: what is written comes back, what does not fit is named, and `transformers` agrees."""

import json

import numpy as np
import pytest
from golden.formula import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import edit
from transformers_parity import FAMILIES, Case, require_equal

from tinygen import nn
from tinygen.align.lora import add_lora
from tinygen.models.huggingface.bert import FREE, read_config, shapes_in_file
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

SIZES = {"vocab_size": 11, "block_size": 8, "layers": 2, "heads": 2, "channels": 8, "hidden": 12}


def small(seed=0, **changes):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    rng = np.random.default_rng(seed)
    model = BERT(BERTConfig(**{**SIZES, "dropout": 0.0, **changes}), rng=rng).eval()
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def texts(b, t, vocab_size=11, segments=2, seed=0):
    """Ids, segments and mask; the first text has two tokens of padding."""
    rng = np.random.default_rng(seed)
    ids, kinds = rng.integers(1, vocab_size, (b, t)), rng.integers(0, segments, (b, t))
    mask = np.ones((b, t), bool)
    mask[0, -2:] = False
    return ids, kinds, mask


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


# -- there and back --------------------------------------------------------------------------------

KINDS = [
    {},
    {"next_sentence": False},
    {"gelu": "tanh", "norm_eps": 1e-3, "dropout": 0.25, "segments": 3},
    {"layers": 1, "heads": 1, "hidden": 5, "channels": 6},
]


@pytest.mark.parametrize("changes", KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new" / "folder")
    loaded = BERT.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.wte.weight is loaded.lm_head.weight
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        assert theirs[name].dtype == array.dtype
        assert theirs[name].tobytes() == array.tobytes(), name
    assert (loaded(*texts(2, 8)).numpy() == model(*texts(2, 8)).numpy()).all()


def test_the_folder_has_their_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 5 + 2 * 16 + 5 + 4
    assert found["bert.embeddings.token_type_embeddings.weight"] == (2, 8)
    assert found["cls.predictions.bias"] == (11,)
    assert found["cls.seq_relationship.weight"] == (2, 8)
    begin = "bert.encoder.layer.1."
    block = {name.removeprefix(begin): shape for name, shape in found.items() if name.startswith(begin)}
    assert {name.removesuffix(".weight"): shape for name, shape in block.items() if "weight" in name} == {
        "attention.self.query": (8, 8),
        "attention.self.key": (8, 8),
        "attention.self.value": (8, 8),
        "attention.output.dense": (8, 8),
        "attention.output.LayerNorm": (8,),
        "intermediate.dense": (12, 8),
        "output.dense": (8, 12),
        "output.LayerNorm": (8,),
    }


def test_a_loaded_model_trains_on(folder):
    ids, segments, mask = texts(2, 8)
    models = [BERT.from_pretrained(folder, 0.5, rng=7).train() for _ in range(2)]
    losses = [m.loss(ids, ids, segments, mask, np.array([0, 1])) for m in models]
    plain = models[1].eval().loss(ids, ids, segments, mask, np.array([0, 1]))
    assert losses[0].item() == losses[1].item() != plain.item()
    losses[0].backward()
    assert all(np.abs(p.grad).max() > 0 for p in models[0].parameters())


def test_two_rates_of_dropout(folder):
    edit(folder / "config.json", hidden_dropout_prob=0.25)
    with pytest.raises(ValueError, match=r"BERT has one rate of dropout, .*pass dropout="):
        BERT.from_pretrained(folder)
    assert BERT.from_pretrained(folder, 0.5).config.dropout == 0.5
    edit(folder / "config.json", attention_probs_dropout_prob=0.25)
    assert BERT.from_pretrained(folder).config.dropout == 0.25


def with_a_head(model):
    model.value = nn.Linear(8, 1, rng=0)


def without_norm(model):
    del model.h[1].norm2.weight


def with_another_head(model):
    model.lm_head.weight = nn.Parameter(model.wte.weight.numpy() + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_norm, r"38 tensors:\n  h\.1\.norm2\.weight \(8,\) is missing$"),
        (with_a_head, r"'value\.weight' \(1, 8\) has no place in it\n  'value\.bias'"),
        (with_another_head, r"lm_head\.weight is not wte\.weight"),
        (lambda model: add_lora(model, rank=2, alpha=4, rng=0), "adapters are not merged"),
    ],
)
def test_what_is_not_the_bert_of_its_config_is_not_saved(tmp_path, change, message):
    model = small()
    change(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- a golden folder -------------------------------------------------------------------------------

GOLDEN_LOGITS = [-5.3246632, 0.61076617, 4.4353337, -5.7011676, 2.3356116, 2.6143224, -4.9086614]
GOLDEN_ORDER = [2.6013436, -2.4123614]


def golden_folder(path):
    """Weights that are sines, in the order of their names."""
    fields = {"vocab_size": 7, "block_size": 6, "layers": 1, "heads": 2, "channels": 6, "hidden": 5}
    fields |= {"segments": 2, "next_sentence": True, "pad": None}
    shapes = dict(sorted(shapes_in_file(fields).items()))
    arrays = {name: wave(*shape, k=k).astype(np.float32) for k, (name, shape) in enumerate(shapes.items())}
    save_file(path / "model.safetensors", arrays, {"format": "pt"})
    options = {"model_type": "bert", "vocab_size": 7, "hidden_size": 6, "intermediate_size": 5}
    options |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 6}
    (path / "config.json").write_text(json.dumps(options | {"layer_norm_eps": 0.01}))


GOLDEN_TEXT = np.array([[3, 1, 4, 1, 5]]), np.array([[0, 0, 1, 1, 1]]), np.array([[True] * 4 + [False]])


def test_golden_logits(tmp_path):
    golden_folder(tmp_path)
    model = BERT.from_pretrained(tmp_path)
    np.testing.assert_allclose(model(*GOLDEN_TEXT).numpy()[0, 2], GOLDEN_LOGITS, atol=1e-5)
    order = model.next_sentence_logits(model.features(*GOLDEN_TEXT)).numpy()
    np.testing.assert_allclose(order[0], GOLDEN_ORDER, atol=1e-5)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_files_of_older_versions(folder, dtype):
    """As of the published bert-base-uncased: gamma and beta, the tied head written out, positions, and
    BertForMaskedLM in the options, though both heads are there."""
    older = {name: a.astype(dtype) for name, a in load_file(folder / "model.safetensors").items()}
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in names.items():
        older = {name.replace(new, old): a for name, a in older.items()}
    older["cls.predictions.decoder.weight"] = older["bert.embeddings.word_embeddings.weight"]
    older["cls.predictions.decoder.bias"] = older["cls.predictions.bias"]
    older["bert.embeddings.position_ids"] = np.arange(8)[None]
    save_file(folder / "model.safetensors", older)
    edit(folder / "config.json", architectures=["BertForMaskedLM"], position_embedding_type="absolute")
    edit(folder / "config.json", gradient_checkpointing=False, pad_token_id=0)
    loaded = BERT.from_pretrained(folder)
    assert loaded.config == small().config
    for name, array in small().state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array.astype(dtype))
    older["cls.predictions.decoder.bias"] = older["cls.predictions.bias"] + 1
    save_file(folder / "model.safetensors", older)
    with pytest.raises(
        CheckpointError, match=r"decoder\.bias.*tie_word_embeddings is on, and the two differ"
    ):
        BERT.from_pretrained(folder)


def test_a_model_that_has_diverged_is_written_and_read(tmp_path):
    """A NaN of the embedding is also one of the head: the two are one matrix still."""
    model = small()
    model.wte.weight.data[1, 2] = np.nan
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(BERT.from_pretrained(tmp_path).wte.weight.data, model.wte.weight.data)


def test_a_pooler_that_nothing_uses(folder):
    """Older versions of BertForMaskedLM have it, without the head that would read it."""
    arrays = load_file(folder / "model.safetensors")
    save_file(
        folder / "model.safetensors", {name: a for name, a in arrays.items() if "seq_relation" not in name}
    )
    with pytest.raises(CheckpointError, match=r"cls\.seq_relationship\.weight \(2, 8\) is missing"):
        BERT.from_pretrained(folder)
    edit(folder / "config.json", architectures=["BertForMaskedLM"])
    loaded = BERT.from_pretrained(folder)
    assert not loaded.config.next_sentence
    np.testing.assert_array_equal(loaded(*texts(2, 8)).numpy(), small()(*texts(2, 8)).numpy())


def test_options_that_are_left_out_are_those_of_bert_base(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    fields, pretraining = read_config(tmp_path / "config.json", None)
    assert BERTConfig(**fields, next_sentence=pretraining) == BERTConfig()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model_type", "electra", 'model_type: expected "bert" or "roberta".*found \'electra\''),
        ("model_type", "deberta-v2", 'model_type: expected "bert" or "roberta".*found \'deberta-v2\''),
        ("model_type", "modernbert", 'model_type: expected "bert" or "roberta".*found \'modernbert\''),
        ("architectures", ["BertForSequenceClassification"], "architectures: expected .*BertForMaskedLM"),
        ("architectures", ["BertModel"], "architectures: expected"),
        ("vocab_size", "11", "vocab_size: expected a whole number from 1, found '11'"),
        ("vocab_size", 12, r"word_embeddings\.weight should be \(12, 8\) by config.json, and is \(11, 8\)"),
        ("num_hidden_layers", 10**9, "too few tensors: expected 1000000000 layers, found 46"),
        ("num_hidden_layers", 3, r"layer\.2\.attention\.self\.query\.weight \(8, 8\) is missing"),
        ("num_hidden_layers", 1, r"'bert\.encoder\.layer\.1\.\S+' \(\S+\) has no place in it"),
        ("num_attention_heads", 3, "a divisor of hidden_size=8, found 3"),
        ("type_vocab_size", 0, "type_vocab_size: expected a whole number from 1, found 0"),
        ("hidden_act", "relu", "hidden_act: expected \"gelu\" or .*found 'relu'"),
        ("hidden_act", ["gelu"], "hidden_act: expected"),
        ("layer_norm_eps", "1e-5", "layer_norm_eps: expected a number from 0, below 1, found '1e-5'"),
        ("hidden_dropout_prob", 1.0, "hidden_dropout_prob: expected a number from 0, below 1"),
        ("position_embedding_type", "relative_key", 'position_embedding_type: expected "absolute"'),
        ("tie_word_embeddings", False, "tie_word_embeddings: expected true"),
        ("is_decoder", True, "is_decoder: expected false"),
        ("add_cross_attention", True, "add_cross_attention: expected false"),
        ("embedding_size", 4, "embedding_size: expected no such option"),
        ("quantization_config", {"quant_method": "gptq"}, r"quantization_config: expected none.*'gptq'"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=message) as info:
        BERT.from_pretrained(folder)
    assert str(folder) in info.value.file


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
OPTIONS = ["model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "hidden_act"]
OPTIONS += ["num_hidden_layers", "num_attention_heads", "max_position_embeddings", "type_vocab_size"]
OPTIONS += ["layer_norm_eps", "is_decoder", "tie_word_embeddings", "position_embedding_type", *FREE]


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    small().save_pretrained(folder)
    return folder, json.loads((folder / "config.json").read_text())


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=2))
def test_what_a_stranger_writes_into_the_config_is_refused_or_read(strange, changes):
    folder, config = strange
    (folder / "config.json").write_text(json.dumps(config | changes))
    try:
        model = BERT.from_pretrained(folder)
    except CheckpointError:
        return
    assert model.num_parameters() == small().num_parameters()


# -- parity with transformers ----------------------------------------------------------------------


def test_models_from_here_run_there_as_here(transformers, tmp_path):
    for i, changes in enumerate(KINDS):
        ours = small(**{"vocab_size": 60, **changes})
        ours.save_pretrained(tmp_path / str(i))
        kind = "BertForPreTraining" if ours.config.next_sentence else "BertForMaskedLM"
        other, info = getattr(transformers, kind).from_pretrained(tmp_path / str(i), output_loading_info=True)
        assert not any(info.values()), info
        require_equal("BERT", ours, other.eval())


def test_loss_and_gradients(transformers, tmp_path):
    """The loss of both heads, and the gradient of every weight. No text has the token 0: transformers takes
    it for padding, and gives its embedding no gradient."""
    torch = pytest.importorskip("torch")
    other = FAMILIES["BERT"].model(Case({}))
    other.save_pretrained(tmp_path)
    ours = BERT.from_pretrained(tmp_path)
    ids, segments, mask = texts(3, 18, 60)
    targets = np.where(np.random.default_rng(1).random(ids.shape) < 0.3, ids, -100)
    order = np.array([0, 1, 1])
    loss = ours.loss(ids, targets, segments, mask, order)
    loss.backward()
    found = other(
        torch.tensor(ids),
        torch.tensor(mask.astype(int)),
        torch.tensor(segments),
        labels=torch.tensor(targets),
        next_sentence_label=torch.tensor(order),
    )
    found.loss.backward()
    np.testing.assert_allclose(loss.item(), found.loss.item(), rtol=1e-5)
    for p in ours.parameters():
        p.data = p.grad
    ours.save_pretrained(tmp_path / "gradients")
    gradients = load_file(tmp_path / "gradients" / "model.safetensors")
    for name, p in other.named_parameters():
        np.testing.assert_allclose(gradients[name], p.grad.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)

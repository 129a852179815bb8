"""Folders of RoBERTa: what is written comes back, what does not fit is named, and `transformers` agrees.
`test_bert.py` has the part that BERT and RoBERTa share."""

import numpy as np
import pytest
from model_folders import edit
from transformers_parity import require_equal

from tinygen.models.huggingface.bert import read_config
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

SIZES = {"vocab_size": 11, "block_size": 8, "layers": 2, "heads": 2, "channels": 8, "hidden": 12}
SIZES |= {"segments": 1, "next_sentence": False, "dropout": 0.0, "pad": 1}


def small(**changes):
    """Weights far larger than at the start of training, and biases, so that all of them matter."""
    rng = np.random.default_rng(0)
    model = BERT(BERTConfig(**{**SIZES, **changes}), rng=rng).eval()
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def texts(b, t, vocab_size, pad):
    """Ids with padding behind the first text, before the second, and within the third; and the mask."""
    ids = np.random.default_rng(0).integers(0, vocab_size, (b, t))
    ids[ids == pad] = pad + 1
    ids[0, -2:] = ids[1, :3] = ids[2, 2] = pad
    return ids, ids != pad


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


# -- positions -------------------------------------------------------------------------------------


def test_positions_by_hand():
    ids = np.array([[5, 6, 7, 1, 1], [1, 1, 5, 6, 7], [5, 1, 6, 7, 1]])
    expected = [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4], [2, 1, 3, 4, 1]]
    np.testing.assert_array_equal(small().positions(ids), expected)


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_it_is_the_bert_whose_table_begins_later(pad):
    """Texts without padding have the logits of a BERT whose table is RoBERTa's without the unused rows."""
    model, plain = small(pad=pad), small(pad=None)
    state = model.state_dict()
    assert state["wpe.weight"].shape == (8 + pad + 1, 8)
    plain.load_state_dict(state | {"wpe.weight": state["wpe.weight"][pad + 1 :]})
    ids = np.random.default_rng(0).integers(pad + 1, 11, (2, 8))
    np.testing.assert_array_equal(model(ids).numpy(), plain(ids).numpy())


def test_padding_before_a_text_changes_nothing():
    model = small()
    ids = np.array([[5, 6, 7]])
    padded = np.array([[1, 1, 5, 6, 7]])
    np.testing.assert_allclose(
        model(padded, mask=padded != 1).numpy()[:, 2:], model(ids).numpy(), rtol=1e-4, atol=1e-5
    )


def test_the_longest_text():
    model = small()
    ids = np.random.default_rng(0).integers(2, 11, (1, 9))
    assert model(ids[:, :8]).shape == (1, 8, 11)
    with pytest.raises(ValueError, match="9 tokens are more than block_size=8"):
        model(ids)


# -- there and back --------------------------------------------------------------------------------

KINDS = [{}, {"pad": 0, "norm_eps": 1e-3, "dropout": 0.25, "segments": 3}, {"pad": 5, "block_size": 3}]


@pytest.mark.parametrize("changes", KINDS)
def test_what_is_written_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    model.save_pretrained(tmp_path / "new")
    loaded = BERT.from_pretrained(tmp_path / "new")
    assert loaded.config == model.config
    assert loaded.wte.weight is loaded.lm_head.weight
    theirs = loaded.state_dict()
    assert theirs.keys() == model.state_dict().keys()
    assert all(theirs[name].tobytes() == array.tobytes() for name, array in model.state_dict().items())


def test_the_folder_has_their_names_and_shapes(folder):
    found = {name: array.shape for name, array in load_file(folder / "model.safetensors").items()}
    assert len(found) == 5 + 2 * 16 + 5
    assert found["roberta.embeddings.position_embeddings.weight"] == (10, 8)
    assert found["roberta.encoder.layer.1.intermediate.dense.weight"] == (12, 8)
    head = {name: shape for name, shape in found.items() if not name.startswith("roberta.")}
    assert head == {
        "lm_head.bias": (11,),
        "lm_head.dense.weight": (8, 8),
        "lm_head.dense.bias": (8,),
        "lm_head.layer_norm.weight": (8,),
        "lm_head.layer_norm.bias": (8,),
    }


def test_options_that_are_left_out_are_those_of_the_class(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    fields, next_sentence = read_config(tmp_path / "config.json", None)
    assert not next_sentence
    assert BERTConfig(**fields, next_sentence=False) == BERTConfig(
        vocab_size=50265, block_size=510, pad=1, next_sentence=False
    )


def test_the_files_of_older_versions(folder):
    """As of the published roberta-base: the tied head written out, positions, a pooler that nothing uses."""
    older = load_file(folder / "model.safetensors")
    older["lm_head.decoder.weight"] = older["roberta.embeddings.word_embeddings.weight"]
    older["lm_head.decoder.bias"] = older["lm_head.bias"]
    older["roberta.embeddings.position_ids"] = np.arange(10)[None]
    older["roberta.pooler.dense.weight"] = np.zeros((8, 8), np.float32)
    older["roberta.pooler.dense.bias"] = np.zeros(8, np.float32)
    save_file(folder / "model.safetensors", older)
    loaded = BERT.from_pretrained(folder)
    for name, array in small().state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array)
    save_file(
        folder / "model.safetensors", older | {"lm_head.decoder.bias": older["lm_head.decoder.bias"] + 1}
    )
    with pytest.raises(CheckpointError, match=r"decoder\.bias.*tie_word_embeddings is on.*lm_head\.bias"):
        BERT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("architectures", ["RobertaForSequenceClassification"], 'expected \\["RobertaForMaskedLM"\\]'),
        ("architectures", ["BertForMaskedLM"], 'expected \\["RobertaForMaskedLM"\\]'),
        ("model_type", "xlm-roberta", 'expected "bert" or "roberta".*found \'xlm-roberta\''),
        ("pad_token_id", -1, "pad_token_id: expected a token, from 0 to 10, found -1"),
        ("pad_token_id", 11, "pad_token_id: expected a token, from 0 to 10, found 11"),
        ("max_position_embeddings", 2, "expected more than pad_token_id \\+ 1 = 2, found 2"),
        ("max_position_embeddings", 11, r"position_embeddings\.weight should be \(11, 8\)"),
        ("hidden_act", "gelu_new", 'hidden_act: expected "gelu"'),
        ("model_type", "bert", "architectures: expected"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, option, value, message):
    edit(folder / "config.json", **{option: value})
    with pytest.raises(CheckpointError, match=message):
        BERT.from_pretrained(folder)


@pytest.mark.parametrize("changes", [{"next_sentence": True}, {"gelu": "tanh"}])
def test_what_transformers_has_no_class_for_is_not_saved(tmp_path, changes):
    with pytest.raises(ValueError, match="transformers has no RoBERTa with a next-sentence head"):
        small(**changes).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- parity with transformers ----------------------------------------------------------------------


def test_models_from_here_run_there_as_here(transformers, tmp_path):
    for i, changes in enumerate(KINDS):
        ours = small(**{"vocab_size": 60, **changes})
        ours.save_pretrained(tmp_path / str(i))
        other = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / str(i))
        require_equal("RoBERTa", ours, other.eval())

"""The text encoder of Stable Diffusion: `transformers`' CLIPTextModel computes the same, with the activations
and end tokens of Stable Diffusion 1 and 2."""

import json

import numpy as np
import pytest
from sd_folders import TEXT, put, write_text_encoder

from tinygen.models.huggingface.clip_text import from_pretrained
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file

IDS = np.array([[518, 5, 9, 519, 519], [518, 300, 519, 0, 0]])


@pytest.fixture
def folder(tmp_path):
    write_text_encoder(tmp_path)
    return tmp_path


def test_the_last_norm_is_applied_to_every_token(folder):
    tower = from_pretrained(folder)
    assert (tower.vocab_size, tower.block_size, tower.end, tower.projection) == (520, 77, 519, None)
    states = tower.states(IDS)
    assert states.shape == (2, 5, 8)
    np.testing.assert_array_equal(states.data, tower.norm(tower.before_norm(IDS)).data)
    np.testing.assert_allclose(tower(IDS).data, states.data[[0, 1], [3, 2]], rtol=1e-6)
    assert tower.dim == 8


def test_names_of_today_and_of_older_files(folder):
    """Without "text_model." today; older files also hold the numbers of the positions."""
    before = from_pretrained(folder).states(IDS).data
    tensors = load_file(folder / "model.safetensors")
    assert all(name.startswith("text_model.") for name in tensors)
    older = {"text_model.embeddings.position_ids": np.arange(77)[None]}
    today = {name.removeprefix("text_model."): array for name, array in tensors.items()}
    for written in (tensors | older, today):
        save_file(folder / "model.safetensors", written)
        np.testing.assert_array_equal(from_pretrained(folder).states(IDS).data, before)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_float16_is_kept_where_it_is_asked_for(tmp_path, dtype):
    write_text_encoder(tmp_path, dtype)
    kept, wide = from_pretrained(tmp_path, keep_half=True), from_pretrained(tmp_path)
    assert {p.dtype.name for p in kept.parameters()} == {dtype}
    assert {p.dtype.name for p in wide.parameters()} == {"float32"}
    np.testing.assert_allclose(kept.states(IDS).data, wide.states(IDS).data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "clip"),
        ("architectures", ["CLIPTextModelWithProjection"]),
        ("hidden_act", "relu"),
        ("use_attention_mask", True),
        ("num_attention_heads", 3),
    ],
)
def test_refused(folder, option, value):
    put(folder / "config.json", TEXT | {option: value})
    with pytest.raises(CheckpointError, match=f"the option {option}: expected"):
        from_pretrained(folder)


@pytest.mark.parametrize(("activation", "end"), [("quick_gelu", 519), ("gelu", 2)])
def test_their_text_encoders(tmp_path, activation, end):
    """Within 1e-5 in float32; also where the end token is "the largest id" (2, in older files)."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = {name: value for name, value in TEXT.items() if name not in ("architectures", "model_type")}
    config = transformers.CLIPTextConfig(**sizes | {"hidden_act": activation, "eos_token_id": end})
    other = transformers.CLIPTextModel(config).eval()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.2 * torch.randn_like(p))
    other.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["CLIPTextModel"]
    tower = from_pretrained(tmp_path)
    assert tower.end == 519
    with torch.no_grad():
        wanted = other(torch.tensor(IDS))
    np.testing.assert_allclose(tower.states(IDS).data, wanted.last_hidden_state.numpy(), atol=1e-5)
    np.testing.assert_allclose(tower(IDS).data, wanted.pooler_output.numpy(), atol=1e-5)

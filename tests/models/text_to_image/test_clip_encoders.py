"""CLIP's encoders: where a text and a picture are read, what reaches that place, sizes, and inputs that are
refused."""

import math

import numpy as np
import pytest

from tinygen import Tensor, no_grad, ops
from tinygen.gradcheck import gradcheck
from tinygen.models.text_to_image.clip_encoders import (
    END,
    ConvImageEncoder,
    TextTower,
    TowerBlock,
    TowerConfig,
    TowerMLP,
    VisionTransformer,
    ids_with_end,
    quick_gelu,
)
from tinygen.models.text_to_image.text_encoder import BEGIN

WORDS = ("a", "red", "blue", "circle", "square")
CAPTIONS = ["a red circle", "", "a blue square", "circle"]
SMALL = TowerConfig(layers=2, heads=2, channels=8)
PICTURES = np.random.default_rng(5).standard_normal((3, 3, 8, 8)).astype(np.float32)


def text_tower(seed=0, end=END, **changes):
    config = TowerConfig(**{"layers": 2, "heads": 2, "channels": 8, **changes})
    return TextTower(len(WORDS) + 2, 6, end, config, 5, rng=seed)


def vision(seed=0, **changes):
    config = TowerConfig(**{"layers": 2, "heads": 2, "channels": 8, **changes})
    return VisionTransformer(8, 4, 3, config, 5, rng=seed)


def conv(seed=0):
    return ConvImageEncoder(8, 3, 4, 2, 5, rng=seed)


# -- texts -----------------------------------------------------------------------------------------


def test_ids_end_with_an_end_token():
    a, red, blue, circle, square = range(2, 7)
    assert ids_with_end(CAPTIONS, WORDS, 3).tolist() == [
        [BEGIN, a, red, circle, END],
        [BEGIN, END, END, END, END],
        [BEGIN, a, blue, square, END],
        [BEGIN, circle, END, END, END],
    ]


@pytest.mark.parametrize(
    ("captions", "words", "error", "message"),
    [
        (["a pink circle"], WORDS, ValueError, "unknown word 'pink' in 'a pink circle'"),
        (["a a a a"], WORDS, ValueError, "has 4 words: at most 3 are allowed"),
        ("a red", WORDS, TypeError, "must be a list of texts"),
        (["a"], ("a", "b", "a"), ValueError, "a word comes twice among a, b, a"),
    ],
)
def test_captions_that_are_refused(captions, words, error, message):
    with pytest.raises(error, match=message):
        ids_with_end(captions, words, 3)


def test_a_text_is_read_at_its_first_end_token():
    """Other tokens after it, and none at all, give the same vector to the bit or almost; one before it gives
    another vector."""
    tower, rng = text_tower(), np.random.default_rng(1)
    ids = ids_with_end(CAPTIONS, WORDS, 4)
    after = np.arange(ids.shape[1]) > tower.ends(ids)[:, None]
    other = np.where(after, rng.integers(0, len(WORDS) + 2, ids.shape), ids)
    assert (other != ids).any()
    with no_grad():
        vectors = tower(ids).numpy()
        np.testing.assert_array_equal(tower(other).numpy(), vectors)
        for row, end, vector in zip(ids, tower.ends(ids), vectors, strict=True):
            np.testing.assert_allclose(tower(row[None, : end + 1]).numpy()[0], vector, atol=1e-6)
        before = ids.copy()
        before[:, 0] = 3
        assert np.abs(tower(before).numpy() - vectors).max(axis=1).min() > 1e-4


def test_each_word_and_its_place_count():
    tower = text_tower()
    with no_grad():
        x = tower(ids_with_end(["red circle", "circle red", "blue circle"], WORDS, 4)).numpy()
    assert np.abs(x[0] - x[1]).max() > 1e-4
    assert np.abs(x[0] - x[2]).max() > 1e-4


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([2, 3, END], r"ids have shape \(3,\): give a row for each text"),
        ([[2] * 6 + [END]], "texts of 7 tokens are longer than block_size=6"),
        ([[END, 2], [2, 3]], f"text 1 of 2 has no end token {END}"),
    ],
)
def test_ids_that_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        text_tower()(ids)


def test_an_id_outside_the_vocabulary():
    with pytest.raises(IndexError):
        text_tower()([[len(WORDS) + 2, END]])


# -- pictures --------------------------------------------------------------------------------------


def test_first_stream_of_a_picture():
    """Row 1 + i of the tokens is patch i as a vector, times the matrix, plus its position."""
    tower = vision()
    tokens = tower.tokens(PICTURES).numpy()
    place, weight = tower.place.weight.numpy(), tower.patches.weight.numpy().reshape(8, -1)
    np.testing.assert_allclose(tokens[:, 0], np.tile(tower.first.numpy() + place[0], (3, 1)), atol=1e-6)
    for i in range(4):
        y, x = 4 * (i // 2), 4 * (i % 2)
        patch = PICTURES[:, :, y : y + 4, x : x + 4].reshape(3, -1)
        np.testing.assert_allclose(tokens[:, 1 + i], patch @ weight.T + place[1 + i], atol=1e-5)


def test_every_patch_reaches_the_first_token():
    tower = vision()
    x = Tensor(PICTURES, requires_grad=True)
    tower(x)[:, 0].sum().backward()
    patches = np.abs(x.grad).reshape(3, 3, 2, 4, 2, 4).max(axis=(1, 3, 5))
    assert patches.min() > 0


def test_without_positions_the_order_of_patches_is_lost():
    tower = vision()
    swapped = np.concatenate([PICTURES[..., 4:], PICTURES[..., :4]], axis=-1)
    with no_grad():
        assert np.abs(tower(PICTURES).numpy() - tower(swapped).numpy()).max() > 1e-5
        tower.place.weight.data = np.zeros_like(tower.place.weight.data)
        np.testing.assert_allclose(tower(PICTURES).numpy(), tower(swapped).numpy(), atol=1e-5)


def test_a_picture_of_nine_patches_has_ten_tokens():
    """Three rows of three, and the first token."""
    model = VisionTransformer(6, 2, 3, SMALL, 5, rng=0)
    assert model.place.weight.shape == (10, 8)
    assert model(PICTURES[..., :6, :6]).shape == (3, 5)


def test_conv_encoder_sees_where_things_are():
    encoder = conv()
    swapped = np.concatenate([PICTURES[..., 4:], PICTURES[..., :4]], axis=-1)
    with no_grad():
        assert encoder(PICTURES).shape == (3, 5)
        assert np.abs(encoder(PICTURES).numpy() - encoder(swapped).numpy()).max() > 1e-2


def test_conv_encoder_by_hand():
    """Each picture is normalized over all its channels and pixels, and then goes through SiLU."""
    encoder = conv().astype(np.float64)
    with no_grad():
        x = PICTURES.astype(np.float64)
        for layer in encoder.convs:
            x = layer(x).data
            mean, variance = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
            x = (x - mean) / np.sqrt(variance + 1e-5)
            x = x / (1 + np.exp(-x))
        wanted = x.reshape(3, -1) @ encoder.projection.weight.data.T
        np.testing.assert_allclose(
            encoder(PICTURES.astype(np.float64)).numpy(), wanted, rtol=1e-9, atol=1e-12
        )


def test_the_width_inside_a_perceptron():
    """Four times the channels, if the config has none."""
    wide = lambda hidden: TowerMLP(TowerConfig(channels=8, hidden=hidden), rng=0).fc.weight.shape
    assert (wide(None), wide(5)) == ((32, 8), (5, 8))


@pytest.mark.parametrize("make", [vision, conv])
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8, 8), (2, 3, 8, 4)])
def test_pictures_that_are_refused(make, shape):
    with pytest.raises(ValueError, match=r"pictures have shape \(.*the encoder needs \(B, 3, 8, 8\)"):
        make()(np.zeros(shape, np.float32))


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="patches of 3 pixels do not fill a side of 8"):
        VisionTransformer(8, 3, 3, SMALL, 5, rng=0)
    with pytest.raises(ValueError, match="a side of 12 cannot be halved 3 times"):
        ConvImageEncoder(12, 3, 4, 3, 5, rng=0)
    with pytest.raises(ValueError, match=r"activation must be one of .* got 'relu'"):
        vision(activation="relu")
    with pytest.raises(ValueError, match="8 channels cannot be split into 3 equal heads"):
        text_tower(heads=3)


# -- the Transformer -------------------------------------------------------------------------------


def test_quick_gelu():
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(quick_gelu(Tensor(x)).numpy(), x / (1 + np.exp(-1.702 * x)), rtol=1e-12)
    difference = np.abs(quick_gelu(Tensor(x)).numpy() - ops.gelu(Tensor(x)).numpy())
    assert 0.01 < difference.max() < 0.0204
    assert gradcheck(quick_gelu, x[::10])


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_by_hand(causal):
    block = TowerBlock(TowerConfig(heads=1, channels=4, hidden=6), causal=causal, rng=3).astype(np.float64)
    for p in block.parameters():
        p.data = p.data + 0.1 * np.random.default_rng(p.size).standard_normal(p.shape)
    w = {name: p.numpy() for name, p in block.named_parameters()}
    x = np.random.default_rng(4).standard_normal((1, 3, 4))

    def norm(x, name):
        mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    q, k, v = np.split(norm(x, "ln1") @ w["attn.qkv.weight"].T + w["attn.qkv.bias"], 3, axis=-1)
    scores = np.exp(q @ k.swapaxes(1, 2) / 2) * (np.tri(3) if causal else 1)
    y = scores / scores.sum(axis=-1, keepdims=True) @ v
    x1 = x + y @ w["attn.proj.weight"].T + w["attn.proj.bias"]
    h = norm(x1, "ln2") @ w["mlp.fc.weight"].T + w["mlp.fc.bias"]
    expected = x1 + h / (1 + np.exp(-1.702 * h)) @ w["mlp.proj.weight"].T + w["mlp.proj.bias"]
    np.testing.assert_allclose(block(Tensor(x)).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_initial_weights():
    tower = TextTower(400, 300, END, TowerConfig(layers=3, channels=64), 100, rng=0)
    stds = {
        "token.weight": 0.02,
        "place.weight": 0.01,
        "projection.weight": 1 / 8,
        "blocks.1.attn.qkv.weight": 1 / 8,
        "blocks.1.attn.proj.weight": 1 / 8 / math.sqrt(6),
        "blocks.1.mlp.fc.weight": 1 / 8 / math.sqrt(2),
        "blocks.1.mlp.proj.weight": 1 / 8 / math.sqrt(6),
    }
    p = dict(tower.named_parameters())
    for name, std in stds.items():
        np.testing.assert_allclose(p[name].numpy().std(), std, rtol=0.03, err_msg=name)
    assert not any(w.numpy().any() for name, w in p.items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (text_tower, ids_with_end(CAPTIONS, WORDS, 4)),
        (lambda: text_tower(activation="gelu"), ids_with_end(CAPTIONS, WORDS, 4)),
        (vision, PICTURES),
        (conv, PICTURES),
    ],
)
def test_every_parameter_has_a_gradient(make, x):
    model = make()
    (model(x) * np.arange(1, 6)).sum().backward()
    for name, p in model.named_parameters():
        assert np.abs(p.grad).max() > 0, name


@pytest.mark.parametrize(
    "make",
    [
        lambda: VisionTransformer(4, 2, 1, TowerConfig(layers=1, heads=2, channels=4), 2, rng=0),
        lambda: ConvImageEncoder(4, 1, 2, 1, 2, rng=0),
    ],
)
def test_gradients_are_right(make):
    assert gradcheck(make(), np.random.default_rng(1).standard_normal((1, 1, 4, 4)))

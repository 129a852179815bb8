"""The text encoder: padding has no effect, every word has an effect, gradients, and inputs that it
refuses."""

import numpy as np
import pytest

from tinygen import nn, no_grad, ops
from tinygen.gradcheck import gradcheck
from tinygen.models.text_to_image.text_encoder import PADDING, TextEncoder, TextEncoderConfig

WORDS = ("a", "red", "blue", "circle", "square", "at", "the", "left")
CAPTIONS = ["a red circle", "", "a blue square at the left", "circle"]


def encoder(seed=0, **changes):
    config = TextEncoderConfig(
        **{"words": WORDS, "max_words": 6, "layers": 2, "heads": 2, "channels": 8} | changes
    )
    return TextEncoder(config, rng=np.random.default_rng(seed))


def test_tokens():
    ids, mask = encoder().tokens(CAPTIONS)
    a, red, blue, circle, square, at, the, left = range(2, 10)
    begin, _ = 0, PADDING
    assert ids.tolist() == [
        [begin, a, red, circle, _, _, _],
        [begin, _, _, _, _, _, _],
        [begin, a, blue, square, at, the, left],
        [begin, circle, _, _, _, _, _],
    ]
    np.testing.assert_array_equal(mask, ids != PADDING)


def test_shapes_and_the_last_norm():
    context, mask = encoder()(CAPTIONS)
    assert (context.shape, mask.shape, mask.dtype) == ((4, 7, 8), (4, 7), bool)
    np.testing.assert_allclose(context.data.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(context.data.var(axis=-1), 1, atol=1e-3)


def test_each_word_and_each_place_has_a_vector():
    """And so have the padding and the beginning of a text."""
    model = TextEncoder(TextEncoderConfig(("a", "red", "circle"), 4, heads=2, channels=8), rng=0)
    assert model.token.weight.shape == (5, 8)
    assert model.place.weight.shape == (5, 8)


def test_what_stands_in_the_padding_reaches_no_real_token():
    """To the bit: neither the encoder's own attention nor a cross-attention after it looks there."""
    model = encoder().eval()
    look = nn.CrossAttention(4, 2, 8, rng=np.random.default_rng(1))
    pixels = np.random.default_rng(2).standard_normal((len(CAPTIONS), 5, 4)).astype(np.float32)
    ids, mask = model.tokens(CAPTIONS)
    scribbled = np.where(mask, ids, np.random.default_rng(3).integers(0, len(WORDS) + 2, ids.shape))
    assert (scribbled != ids).any()
    with no_grad():
        clean, other = model.features(ids, mask), model.features(scribbled, mask)
        np.testing.assert_array_equal(clean.data[mask], other.data[mask])
        assert (clean.data[~mask] != other.data[~mask]).any()
        seen = [look(pixels, context, mask[:, None, None, :]).data for context in (clean, other)]
        np.testing.assert_array_equal(*seen)
        everything = model.features(scribbled, np.ones_like(mask))  # the test sees what a missing mask does
        assert (everything.data != clean.data).any(axis=-1)[[0, 1, 3]].all()


def test_a_caption_does_not_depend_on_those_beside_it():
    model = encoder().eval()
    with no_grad():
        together, mask = model(CAPTIONS)
        for i, caption in enumerate(CAPTIONS):
            alone, _ = model([caption])
            np.testing.assert_allclose(alone.data[0][mask[i]], together.data[i][mask[i]], atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_each_word_sees_all_others(layers):
    """Another last word changes the first token, and another first word the last: nothing is causal."""
    model = encoder(layers=layers).eval()
    with no_grad():
        context = model(["a red circle", "a red square", "the red circle"])[0].data
    assert np.abs(context[0, 0] - context[1, 0]).max() > 1e-3
    assert np.abs(context[0, 3] - context[2, 3]).max() > 1e-3


def test_the_order_of_words_counts():
    model = encoder().eval()
    with no_grad():
        context = model(["red circle", "circle red"])[0].data
    assert np.abs(context[0, 0] - context[1, 0]).max() > 1e-3


def test_gradients_flow_from_a_cross_attention_to_every_parameter():
    """Both are trained by one loss. Embeddings of words that do not occur get none."""
    model = encoder()
    look = nn.CrossAttention(4, 2, 8, rng=np.random.default_rng(1))
    pixels = np.random.default_rng(2).standard_normal((2, 5, 4)).astype(np.float32)
    context, mask = model(["a red circle", ""])
    ops.mse(look(pixels, context, mask[:, None, None, :]), pixels).backward()
    for name, p in [*model.named_parameters(), *look.named_parameters()]:
        assert p.grad is not None, name
        assert np.abs(p.grad).max() > 0, name
    used = np.unique(model.tokens(["a red circle", ""])[0])
    touched = np.flatnonzero(np.abs(model.token.weight.grad).max(axis=1))
    assert set(touched) == set(used) - {PADDING}


class WhatIsReal(nn.Module):
    """The vectors of the real tokens, times x, so that a gradient check has an input."""

    def __init__(self, model, captions):
        self.model = model
        self.ids, self.mask = model.tokens(captions)

    def forward(self, x):
        return self.model.features(self.ids, self.mask) * self.mask[..., None] * x


def test_gradients_are_right():
    module = WhatIsReal(encoder(layers=1, channels=4), ["a red circle", "left"])
    x = np.random.default_rng(1).standard_normal((2, 7, 4))
    assert gradcheck(module, x)


@pytest.mark.parametrize(
    ("captions", "error", "message"),
    [
        (
            ["a red circle", "a pink circle"],
            ValueError,
            r"unknown word 'pink' in 'a pink circle': the words are a, red, ",
        ),
        (["a a a a a a a"], ValueError, "has 7 words: at most 6 are allowed"),
        ("a red circle", TypeError, r"must be a list of texts, got the text 'a red circle'"),
    ],
)
def test_what_is_refused(captions, error, message):
    with pytest.raises(error, match=message):
        encoder()(captions)


def test_a_word_that_comes_twice():
    with pytest.raises(ValueError, match="a word comes twice among a, b, a"):
        encoder(words=("a", "b", "a"))

"""Every layer that draws takes `rng=`, a generator or an int, and both make the same layer."""

import inspect

import numpy as np
import pytest

from tinygen import nn

LAYERS = {
    "Block": lambda rng: nn.Block(8, 2, causal=True, dropout=0.5, rng=rng),
    "Conv1d": lambda rng: nn.Conv1d(2, 3, 3, rng=rng),
    "Conv2d": lambda rng: nn.Conv2d(2, 3, 3, rng=rng),
    "ConvTranspose1d": lambda rng: nn.ConvTranspose1d(2, 3, 3, rng=rng),
    "ConvTranspose2d": lambda rng: nn.ConvTranspose2d(2, 3, 3, rng=rng),
    "CrossAttention": lambda rng: nn.CrossAttention(8, 2, 4, dropout=0.5, rng=rng),
    "Downsample": lambda rng: nn.Downsample(4, rng=rng),
    "Dropout": lambda rng: nn.Dropout(0.5, rng=rng),
    "Embedding": lambda rng: nn.Embedding(5, 4, rng=rng),
    "GRU": lambda rng: nn.GRU(3, 4, layers=2, bidirectional=True, dropout=0.5, rng=rng),
    "GroupedQueryAttention": lambda rng: nn.GroupedQueryAttention(8, 2, dropout=0.5, rng=rng),
    "LSTM": lambda rng: nn.LSTM(3, 4, layers=2, bidirectional=True, dropout=0.5, rng=rng),
    "Linear": lambda rng: nn.Linear(3, 4, rng=rng),
    "MLP": lambda rng: nn.MLP(4, rng=rng),
    "MultiHeadAttention": lambda rng: nn.MultiHeadAttention(8, 2, dropout=0.5, rng=rng),
    "RNN": lambda rng: nn.RNN(3, 4, layers=2, bidirectional=True, dropout=0.5, rng=rng),
    "ResBlock": lambda rng: nn.ResBlock(4, 8, embedding=3, dropout=0.5, rng=rng),
    "SpatialAttention": lambda rng: nn.SpatialAttention(4, rng=rng),
    "SpatialTransformer": lambda rng: nn.SpatialTransformer(4, 2, 3, rng=rng),
    "SpectralNorm": lambda rng: nn.SpectralNorm(nn.Linear(20, 30, rng=0), rng=rng),
    "SwiGLU": lambda rng: nn.SwiGLU(4, rng=rng),
    "Upsample": lambda rng: nn.Upsample(4, rng=rng),
}


def test_rng_is_keyword_only_in_every_layer():
    found = {}
    for name in nn.__all__:
        if inspect.isclass(layer := getattr(nn, name)) and issubclass(layer, nn.Module):
            parameters = inspect.signature(layer).parameters
            if "rng" in parameters:
                found[name] = parameters["rng"].kind
    assert set(found) == set(LAYERS), "a layer that draws has its row in LAYERS, and no other has one"
    assert set(found.values()) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", LAYERS)
def test_an_int_is_the_seed_of_one_generator_for_all_of_the_layer(name):
    """A layer that handed the int on to its parts would give two of the same shape equal weights."""
    layer, other = LAYERS[name](0), LAYERS[name](np.random.default_rng(0))
    state, expected = layer.state_dict(), other.state_dict()
    assert list(state) == list(expected)
    for key in state:
        np.testing.assert_array_equal(state[key], expected[key])
    mine, theirs = ([rng.bit_generator.state for _, rng in x.named_generators()] for x in (layer, other))
    assert mine == theirs


@pytest.mark.parametrize("name", LAYERS)
def test_another_seed_is_another_layer(name):
    if name != "Dropout":  # it has no weights
        a, b = LAYERS[name](0).state_dict(), LAYERS[name](1).state_dict()
        assert any(not np.array_equal(a[key], b[key]) for key in a)

"""A layer computes in the dtype of its weight, whatever comes in; a parameter keeps its dtype."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn, no_grad
from tinygen.optim import Adam


def rng(seed=0):
    return np.random.default_rng(seed)


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3, rng=rng()), (2, 4)),
    "Conv1d": (lambda: nn.Conv1d(4, 3, 2, rng=rng()), (2, 4, 5)),
    "Conv2d": (lambda: nn.Conv2d(4, 3, 2, rng=rng()), (2, 4, 3, 3)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 3, 2, rng=rng()), (2, 4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, rng=rng()), (2, 4, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (2, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (2, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "BatchNorm": (lambda: nn.BatchNorm(4), (5, 4)),
    "BatchNorm, evaluated": (lambda: nn.BatchNorm(4).eval(), (5, 4)),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2, use_rotary=True, rng=rng()), (2, 3, 4)),
    "Block": (lambda: nn.Block(4, 2, causal=True, rng=rng()), (2, 3, 4)),
    "ResBlock": (lambda: nn.ResBlock(4, 8, rng=rng()), (2, 4, 3, 3)),
    "ResBlock, the identity": (lambda: nn.ResBlock(4, 4, rng=rng()), (2, 4, 3, 3)),
    "RNN": (lambda: nn.RNN(4, 3, rng=rng()), (2, 3, 4)),
    "LSTM": (lambda: nn.LSTM(4, 3, layers=2, rng=rng()), (2, 3, 4)),
    "GRU": (lambda: nn.GRU(4, 3, bidirectional=True, rng=rng()), (2, 3, 4)),
}


def outputs(y):
    return [t for part in y for t in outputs(part)] if isinstance(y, tuple) else [y]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_in_the_dtype_of_its_weight(name):
    make, shape = LAYERS[name]
    x = rng(1).normal(size=shape)
    expected = outputs(make()(x.astype(np.float32)))
    for given in (x, Tensor(x), Tensor(x, requires_grad=True)):
        layer = make()
        ys = outputs(layer(given))
        for y, wanted in zip(ys, expected, strict=True):
            assert y.dtype == np.float32
            np.testing.assert_array_equal(y.numpy(), wanted.numpy())
        (ys[0] * ys[0]).sum().backward()
        assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
        if isinstance(given, Tensor) and given.requires_grad:
            assert given.grad.dtype == np.float64
    wide = make().astype(np.float64)
    assert {y.dtype for y in outputs(wide(x.astype(np.float32)))} == {np.dtype(np.float64)}
    ints = rng(2).integers(-3, 3, size=shape)
    assert {y.dtype for y in outputs(make()(ints))} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", LAYERS)
def test_weights_in_float16_are_computed_with_in_float32(name):
    """As if the weights, rounded to float16, were float32."""
    make, shape = LAYERS[name]
    x = rng(1).normal(size=shape).astype(np.float32)
    half, rounded = make().astype(np.float16), make()
    for p, q in zip(rounded.named_tensors(Tensor), half.named_tensors(Tensor), strict=True):
        p[1].data = q[1].data.astype(np.float32) if q[1].dtype == np.float16 else q[1].data
        assert q[1].dtype.kind != "f" or q[1].dtype == np.float16
    for module in (half, rounded):
        y = outputs(module(x))
        assert {part.dtype for part in y} == {np.dtype(np.float32)}
        (y[0] * y[0]).sum().backward()
    for y, wanted in zip(outputs(half(x)), outputs(rounded(x)), strict=True):
        np.testing.assert_allclose(y.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-6)
    for p, q in zip(rounded.parameters(), half.parameters(), strict=True):
        assert q.grad.dtype == np.float16
        np.testing.assert_allclose(q.grad, p.grad, rtol=2e-3, atol=1e-6)


def test_an_embedding_in_float16_gives_float32():
    table = nn.Embedding(4, 3, rng=rng())
    exact = table.weight.numpy()
    rows = table.astype(np.float16)([1, 3])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.numpy(), exact.astype(np.float16)[[1, 3]].astype(np.float32))


def test_float16_is_refused_where_it_would_lose_numbers_or_steps():
    layer = nn.Linear(2, 2, rng=rng())
    layer.weight.data = np.array([[1, -7e4], [np.inf, 0]])
    before = layer.weight.numpy().copy()
    with pytest.raises(ValueError, match="weight has a number of size 7e\\+04, too large for float16"):
        layer.astype(np.float16)
    np.testing.assert_array_equal(layer.weight.numpy(), before)
    assert layer.bias.dtype == np.float32
    layer.weight.data = np.array([[1, 65504], [np.inf, 0]])
    layer.astype(np.float16)
    with pytest.raises(TypeError, match=r"a parameter is float16.* train in float32"):
        Adam(layer.parameters())


def test_states_of_recurrent_layers_too():
    lstm = nn.LSTM(4, 3, rng=rng())
    state = tuple(rng(i).normal(size=(1, 2, 3)) for i in range(2))
    y, end = lstm(rng(1).normal(size=(2, 3, 4)), tuple(map(Tensor, state)))
    assert {t.dtype for t in (y, *end)} == {np.dtype(np.float32)}


def test_the_whole_model_stays_float32_through_training():
    net = nn.Sequential(nn.Linear(3, 4, rng=rng()), nn.LayerNorm(4), nn.Linear(4, 1, rng=rng()))
    net[0].weight.data = rng(1).normal(0, 0.02, (4, 3))
    net[2].bias.data = [0.5]
    for p in net.parameters():
        p.data = p.data * 0.5 + rng(2).normal(size=p.shape)
    optimizer = Adam(net.parameters(), lr=1e-2)
    for x in (rng(3).normal(size=(8, 3)), Tensor(rng(4).normal(size=(8, 3)))):
        y = net(x)
        assert y.dtype == np.float32
        ((y - rng(5).normal(size=(8, 1))) ** 2).mean().backward()
        optimizer.step()
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}
    assert {x.dtype for x in net.state_dict().values()} == {np.dtype(np.float32)}
    with no_grad():
        assert net(np.ones((1, 3))).dtype == np.float32


@pytest.mark.parametrize("name", ["Linear", "LayerNorm", "GRU"])
def test_gradcheck_still_works_in_float64(name):
    make, shape = LAYERS[name]
    report = gradcheck(make(), rng(1).normal(size=shape))
    assert report

"""The compiled rnn, lstm and gru against their definitions; their panels and tiles."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.kernels import registry

numba = pytest.importorskip("numba")
pytest.importorskip("scipy")

from tinygen.kernels.compiled import recurrent, tile  # noqa: E402

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
every_op = pytest.mark.parametrize("name", GATES)


@pytest.fixture(autouse=True, scope="module")
def at_every_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "LEAST", 0)
        patch.setattr(recurrent, "FEW", 0)
        yield


def draw(name, batch, steps, hidden, seed, bias=True):
    rng = np.random.default_rng(seed)
    g, states = GATES[name], 2 if name == "lstm" else 1
    shapes = [(batch, steps, g * hidden), (g * hidden, hidden), (g * hidden,), *[(batch, hidden)] * states]
    arrays = [rng.standard_normal(s, dtype=np.float32) for s in shapes]
    arrays[1] *= np.float32(1 / np.sqrt(hidden))
    return arrays if bias else [*arrays[:2], None, *arrays[3:]]


def run(name, arrays, lengths, reverse):
    """The values, and the gradients of a weighted sum of all."""
    xs = [None if a is None else Tensor(a, requires_grad=True) for a in arrays]
    values = getattr(ops, name)(*xs, lengths, reverse)
    rng = np.random.default_rng(1)
    sum((v * rng.standard_normal(v.shape, dtype=np.float32)).sum() for v in values).backward()
    return [v.numpy() for v in values] + [x.grad for x in xs if x is not None]


def assert_equals_definition(name, arrays, lengths=None, reverse=False):
    assert getattr(recurrent, name)(*arrays, lengths, reverse) is not NotImplemented
    with tinygen.kernels("off"):
        expected = run(name, arrays, lengths, reverse)
    for a, b in zip(run(name, arrays, lengths, reverse), expected, strict=True):
        assert a.dtype == np.float32
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-5 * max(np.abs(b).max(), 1.0)


@given(
    st.sampled_from(list(GATES)),
    st.integers(1, 11),
    st.integers(1, 6),
    st.sampled_from([1, 2, 3, 15, 16, 17, 63, 64, 65, 70]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=120)
def test_random_shapes(name, batch, steps, hidden, seed, bias, padded, reverse):
    lengths = np.random.default_rng(seed).integers(0, steps + 1, batch) if padded else None
    assert_equals_definition(name, draw(name, batch, steps, hidden, seed, bias), lengths, reverse)


@every_op
def test_long_sequences_of_many_units(name):
    assert_equals_definition(name, draw(name, 32, 40, 160, 0))


@every_op
def test_strides(name):
    x, w, b, *state = draw(name, 5, 7, 6, 0)
    wide = np.zeros((7, 10, 2 * x.shape[2]), np.float32)
    strided = wide.swapaxes(0, 1)[::2, :, ::-2]
    strided[...] = x
    columns = np.zeros((w.shape[1], 3 * w.shape[0]), np.float32).T[::3]
    columns[...] = w
    state = [np.repeat(s, 2, axis=1)[:, ::2] for s in state]
    assert_equals_definition(name, [strided, columns, b[::-1], *state], np.arange(3, 8, dtype=np.uint8))


@every_op
def test_gates_far_beyond_their_range(name):
    x, *rest = draw(name, 3, 4, 5, 0)
    assert_equals_definition(name, [x * np.float32(1e4), *rest])


@every_op
def test_the_padding_may_hold_anything(name):
    """NaN too: nothing of it is read."""
    x, *rest = draw(name, 4, 5, 6, 0)
    lengths = np.array([5, 0, 2, 3])
    x[np.arange(5) >= lengths[:, None]] = np.nan
    for a in run(name, [x, *rest], lengths, False):
        assert np.isfinite(a).all()


@every_op
def test_nan_stays_with_its_sequence(name):
    x, *rest = draw(name, 5, 4, 6, 0)
    x[2, 1] = np.nan
    y = getattr(ops, name)(Tensor(x), *rest)[0].numpy()
    assert np.isnan(y[2, 1:]).all()
    assert np.isfinite(y[2, 0]).all()
    assert np.isfinite(y[[0, 1, 3, 4]]).all()


@every_op
def test_same_bits_every_time(name):
    arrays = draw(name, 13, 9, 48, 0)
    first = run(name, arrays, None, False)
    for _ in range(3):
        for a, again in zip(first, run(name, arrays, None, False), strict=True):
            np.testing.assert_array_equal(a, again)


@every_op
def test_the_rule_may_be_asked_twice_and_writes_into_nothing(name):
    arrays = draw(name, 5, 4, 6, 0)
    for a in arrays:
        a.flags.writeable = False
    values, rule = getattr(recurrent, name)(*arrays)
    given = tuple(np.ones_like(v) for v in values)
    for g in given:
        g.flags.writeable = False
    for first, second in zip(rule(given), rule(given), strict=True):
        np.testing.assert_array_equal(first, second)
    for v, w in zip(values, getattr(recurrent, name)(*arrays)[0], strict=True):
        np.testing.assert_array_equal(v, w)


def test_what_the_kernels_do_not_take_is_left_to_the_definition():
    arrays = draw("lstm", 4, 5, 6, 0)
    mixed = [arrays[0], *(a.astype(np.float64) for a in arrays[1:])]
    assert recurrent.lstm(*mixed) is NotImplemented
    x, w, b, h, c = arrays
    assert recurrent.lstm(x, w, b[:1], h, c) is NotImplemented  # broadcast
    assert recurrent.lstm(x, w, b, h, c, np.array(3)) is NotImplemented
    recurrent.FEW = 32
    assert recurrent.lstm(*arrays) is NotImplemented  # 20 time steps in all
    recurrent.FEW = 0
    with pytest.raises(ValueError, match="first state must be"):
        ops.lstm(*(Tensor(a) for a in (x, w, b, h[:1], c)))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers(kind):
    layer = getattr(nn, kind)(5, 20, 2, True, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((6, 8, 5), dtype=np.float32)
    found = []
    for mode in ("off", "auto"):
        with tinygen.kernels(mode):
            layer.zero_grad()
            y, _ = layer(x, lengths=[8, 3, 1, 7, 8, 2])
            y.sum().backward()
            found.append([y.data, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(np.abs(a).max(), 1.0)


# -- panels and tiles ------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 150), st.booleans())
@settings(max_examples=40)
def test_panels_hold_the_matrix(k, n, transposed):
    matrix = np.arange(1, k * n + 1, dtype=np.float32)
    matrix = matrix.reshape(n, k).T if transposed else matrix.reshape(k, n)
    panels = tile.panels_of(matrix)
    together = panels.swapaxes(0, 1).reshape(k, -1)
    np.testing.assert_array_equal(together[:, :n], matrix)
    assert not together[:, n:].any()
    assert panels.flags.c_contiguous


@functools.cache
def called(function):
    """Inner functions become a part of their kernels: alone, they have no wrapper that Python could call."""
    return numba.njit(lambda *args: function(*args))


@given(st.integers(1, 4), st.integers(1, 70), st.integers(1, 150), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_products_of_rows_and_panels(tiles, k, n, seed):
    rng = np.random.default_rng(seed)
    a, matrix = (rng.standard_normal(s, dtype=np.float32) for s in [(tiles * tile.ROWS, k), (k, n)])
    panels = tile.panels_of(matrix)
    c = rng.standard_normal((len(a), len(panels) * tile.WIDTH), dtype=np.float32)
    before = c.copy()
    called(tile.multiply_rows)(a, panels, c)
    np.testing.assert_allclose(c[:, :n], before[:, :n] + a @ matrix, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(c[:, n:], before[:, n:])


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 5))
@settings(max_examples=40)
def test_transposed(n, k, apart):
    x = np.arange(n * (k + apart), dtype=np.float32).reshape(n, k + apart)[:, apart:]
    y = np.full((k, n + apart), -1, np.float32)
    called(tile.transpose)(x, y)
    np.testing.assert_array_equal(y[:, :n], x.T)
    assert (y[:, n:] == -1).all()

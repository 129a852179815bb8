"""The recurrent ops: one step by hand, gates that are open or shut, lengths and direction."""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, ops

rng = np.random.default_rng(0)
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
every_op = pytest.mark.parametrize("name", GATES)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(params=["off", "auto"], autouse=True)
def kernels(request, at_every_size):
    with tinygen.kernels(request.param):
        yield


def arguments(name, batch=3, steps=5, hidden=2):
    g, states = GATES[name], 2 if name == "lstm" else 1
    shapes = [(batch, steps, g * hidden), (g * hidden, hidden), (g * hidden,), *[(batch, hidden)] * states]
    return [rng.normal(size=s) for s in shapes]


def gradients(name, arrays, *options, weights=None):
    """The values, and the gradients of Σ weights · value."""
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    values = getattr(ops, name)(*xs, *options)
    if weights is None:
        weights = [np.random.default_rng(1).normal(size=v.shape) for v in values]
    sum((v * w).sum() for v, w in zip(values, weights, strict=True)).backward()
    return [v.numpy() for v in values], [x.grad for x in xs]


# -- by hand ---------------------------------------------------------------------------------------


def test_rnn_by_hand():
    x, w, b, h = np.array([[[0.5], [-1.0]]]), np.array([[2.0]]), np.array([0.25]), np.array([[0.1]])
    y, last = ops.rnn(x, w, b, h)
    first = np.tanh(0.5 + 2 * 0.1 + 0.25)
    np.testing.assert_allclose(y[0, :, 0], [first, np.tanh(-1 + 2 * first + 0.25)])
    assert last == y[:, 1]


def test_lstm_by_hand():
    x, u = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, -1.0, 0.5, 2.0])
    b, h, c = np.array([0.0, 0.3, 0.0, -0.1]), 0.7, -0.4
    y, last, cell = ops.lstm(x[None, None], u[:, None], b, np.array([[h]]), np.array([[c]]))
    i, f, g, o = x + u * h + b
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(cell, [[new]])
    np.testing.assert_allclose(last, [[sigmoid(o) * np.tanh(new)]])
    np.testing.assert_array_equal(y[:, 0], last)


def test_gru_by_hand():
    x, w, b, h = np.array([0.1, 0.2, 0.3]), np.array([1.0, -1.0, 0.5]), np.array([0.2, -0.3, 0.6]), 0.7
    y, _ = ops.gru(x[None, None], w[:, None], b, np.array([[h]]))
    u = w * h + b
    r, z = sigmoid(x[0] + u[0]), sigmoid(x[1] + u[1])
    n = np.tanh(x[2] + r * u[2])  # the bias of u within what r lets through
    np.testing.assert_allclose(y, [[[(1 - z) * n + z * h]]])


# -- gates that are open or shut -------------------------------------------------------------------

OPEN, SHUT = 100.0, -100.0  # sigmoid is 1, and 0, to the last bit of float32


def gates(*columns, steps=6):
    """x (1, steps, G) with one constant or array for each gate."""
    return np.stack([np.broadcast_to(c, steps) for c in columns], axis=-1)[None].astype(np.float32)


def zero_state(count):
    return [np.zeros((1, 1), np.float32)] * count


def test_an_lstm_with_open_gates_adds_up_its_input():
    v = rng.normal(size=6).astype(np.float32)
    weight = np.zeros((4, 1), np.float32)
    _, _, c = ops.lstm(gates(OPEN, OPEN, v, OPEN), weight, None, *zero_state(2))
    np.testing.assert_allclose(c, [[np.tanh(v).sum()]], rtol=1e-6)


def test_an_lstm_that_neither_forgets_nor_reads_keeps_its_cell():
    """And the gradient of the last cell by the first is 1, over any number of steps: the constant error
    carousel (Hochreiter & Schmidhuber 1997, section 3.2)."""
    h, c = np.zeros((1, 1), np.float32), Tensor(np.array([[0.5]], np.float32), requires_grad=True)
    x = gates(SHUT, OPEN, 1.0, OPEN, steps=200)
    y, _, last = ops.lstm(x, np.zeros((4, 1), np.float32), None, h, c)
    np.testing.assert_allclose(last.numpy(), 0.5)
    np.testing.assert_allclose(y.numpy(), np.tanh(0.5), rtol=1e-6)
    last.sum().backward()
    assert c.grad == 1


def test_a_gru_with_a_shut_update_gate_is_a_simple_network():
    x, w = gates(OPEN, SHUT, rng.normal(size=6)), np.array([[0], [0], [1.5]], np.float32)
    y, _ = ops.gru(x, w, None, *zero_state(1))
    expected, _ = ops.rnn(x[..., 2:], w[2:], None, *zero_state(1))
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_a_gru_with_an_open_update_gate_keeps_its_state():
    h = np.array([[0.3]], np.float32)
    y, last = ops.gru(gates(0.0, OPEN, 1.0), np.zeros((3, 1), np.float32), None, h)
    np.testing.assert_array_equal(y, np.float32(0.3))
    np.testing.assert_array_equal(last, h)


# -- lengths and direction -------------------------------------------------------------------------


@every_op
def test_the_padding_plays_no_part(name):
    arrays, lengths = arguments(name), np.array([2, 5, 0])
    after = np.arange(5) >= lengths[:, None]
    for reverse in (False, True):
        values, grads = gradients(name, arrays, lengths, reverse)
        other = [np.where(after[..., None], 1e3, arrays[0]), *arrays[1:]]
        again, grads_again = gradients(name, other, lengths, reverse)
        for a, b in zip(values + grads, again + grads_again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not values[0][after].any()
        assert not grads[0][after].any()
        for first, last in zip(arrays[3:], values[1:], strict=True):
            np.testing.assert_array_equal(last[2], first[2])  # the sequence of length 0


@every_op
@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_batch_is_its_sequences_one_by_one(name, reverse):
    arrays, lengths = arguments(name), np.array([2, 5, 3])
    weights = [np.random.default_rng(2).normal(size=v.shape) for v in getattr(ops, name)(*arrays)]
    values, grads = gradients(name, arrays, lengths, reverse, weights=weights)
    total = [np.zeros_like(a) for a in arrays]
    for i, n in enumerate(lengths):
        row, end = slice(i, i + 1), [np.s_[i : i + 1, :n], *[np.s_[i : i + 1]] * (len(arrays) - 3)]
        alone = [arrays[0][row, :n], *arrays[1:3], *(a[row] for a in arrays[3:])]
        found, dalone = gradients(
            name, alone, None, reverse, weights=[w[e] for w, e in zip(weights, end, strict=True)]
        )
        for v, e, a in zip(values, end, found, strict=True):
            np.testing.assert_allclose(v[e], a, rtol=1e-12)
        for t, e, d in zip(total, [end[0], np.s_[:], np.s_[:], *end[1:]], dalone, strict=True):
            t[e] += d
    for a, b in zip(grads, total, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@every_op
def test_reverse_is_the_flipped_sequence(name):
    x, *rest = arguments(name)
    y, *last = getattr(ops, name)(x, *rest, None, True)
    flipped, *expected = getattr(ops, name)(x[:, ::-1], *rest)
    np.testing.assert_array_equal(y, flipped[:, ::-1])
    np.testing.assert_array_equal(last, expected)


@every_op
def test_full_lengths_change_nothing(name):
    arrays = arguments(name)
    plain, full = (gradients(name, arrays, lengths) for lengths in (None, np.full(3, 5)))
    for a, b in zip((*plain[0], *plain[1]), (*full[0], *full[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@every_op
def test_a_sequence_in_two_halves(name):
    """The last state of the first half is the first of the second: values, and gradients through both."""
    arrays = arguments(name)
    values, grads = gradients(name, arrays)
    x, *rest = (Tensor(a, requires_grad=True) for a in arrays)
    y1, *middle = getattr(ops, name)(x[:, :2], *rest)
    y2, *last = getattr(ops, name)(x[:, 2:], *rest[:2], *middle)
    found = [np.concatenate([y1, y2], axis=1), *last]
    weights = [np.random.default_rng(1).normal(size=v.shape) for v in values]
    sum((v * w).sum() for v, w in zip(found, weights, strict=True)).backward()
    for a, b in zip(found, values, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-12)
    for a, b in zip((x, *rest), grads, strict=True):
        np.testing.assert_allclose(a.grad, b, rtol=1e-9, atol=1e-12)


@every_op
def test_no_gradient_from_the_future(name):
    for t in range(5):
        x, *rest = (Tensor(a, requires_grad=True) for a in arguments(name))
        getattr(ops, name)(x, *rest)[0][:, t].sum().backward()
        assert not x.grad[:, t + 1 :].any()
        assert x.grad[:, : t + 1].any()


# -- errors ----------------------------------------------------------------------------------------


def test_shapes_that_do_not_fit():
    x, w, b, h, c = (Tensor(a) for a in arguments("lstm"))
    with pytest.raises(ValueError, match=r"lstm\(.* x must be \(B, T, 4·H\) .* got \(3, 5, 8\) and \(2, 8\)"):
        ops.lstm(x, w.T, b, h, c)
    with pytest.raises(ValueError, match=r"first state must be \(3, 2\), got \(1, 2\)"):
        ops.lstm(x, w, b, h, c[:1])
    with pytest.raises(ValueError, match="no time steps"):
        ops.lstm(x[:, :0], w, b, h, c)
    with pytest.raises(ValueError, match=r"got \(3, 8\)"):
        ops.lstm(x[:, 0], w, b, h, c)

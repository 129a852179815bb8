"""Ops on shapes: errors, several outputs, and which of them share memory."""

import numpy as np
import pytest

from tinygen import Tensor, ops

X = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: X.reshape(4, 2), ValueError, r"reshape\(float64 \(2, 3\), \(4, 2\)\): cannot reshape"),
        (lambda: np.squeeze(X, 0), ValueError, r"squeeze: axis 0 of shape \(2, 3\) is not of size 1"),
        (lambda: np.squeeze(X, (0, 1)), ValueError, "squeeze: axis 0 of shape"),
        (lambda: np.squeeze(X, 2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda: np.expand_dims(X, 4), np.exceptions.AxisError, "axis 4 is out of bounds"),
        (lambda: np.transpose(X, (0, 0)), ValueError, r"transpose\(.*repeated axis"),
        (lambda: np.stack([X, X.T]), ValueError, r"one shape, got \[\(2, 3\), \(3, 2\)\]"),
        (lambda: np.concatenate([X, X.T]), ValueError, r"concatenate\(float64 \(2, 3\), float64 \(3, 2\)\)"),
        (lambda: np.split(X, 2, 1), ValueError, r"split\(float64 \(2, 3\), 2, 1\).*equal division"),
        (lambda: np.pad(X, 1, mode="empty"), ValueError, "np.pad: mode 'empty' has no gradient rule"),
        (lambda: np.repeat(X, [1, 2, 3], 0), ValueError, r"^repeat\(float64 \(2, 3\), \[1, 2, 3\], 0\)"),
        (lambda: np.broadcast_to(X, (3, 3)), ValueError, r"broadcast_to\(float64 \(2, 3\), \(3, 3\)\)"),
        (lambda: np.roll(X, 1, 5), np.exceptions.AxisError, "axis 5 is out of bounds"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_split_gives_a_tuple():
    parts = np.split(X, 3, axis=1)
    assert type(parts) is tuple
    assert [p.shape for p in parts] == [(2, 1)] * 3
    assert all(np.shares_memory(p.data, X.data) for p in parts)
    assert [p.shape for p in np.split(X, 2)] == [(1, 3)] * 2
    assert [p.shape for p in np.split(X, [1], axis=1)] == [(2, 1), (2, 2)]
    assert [p.shape for p in np.array_split(X, 2, axis=0)] == [(1, 3)] * 2
    left, right = ops.split(X.data, [2], 1)
    assert type(left) is np.ndarray
    assert right.shape == (2, 1)


def test_a_split_joined_again_is_what_it_was():
    y = np.concatenate(np.split(X, [1, 1, 2], axis=-1), axis=-1)
    np.testing.assert_array_equal(y.numpy(), X.data)


def test_what_undoes_what():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    t = Tensor(x)
    for there_and_back in (
        np.flip(np.flip(t, 1), 1),
        np.roll(np.roll(t, (1, -2), (0, 2)), (-1, 2), (0, 2)),
        t.transpose(2, 0, 1).transpose(1, 2, 0),
        np.moveaxis(np.moveaxis(t, 0, 2), 2, 0),
        np.squeeze(np.expand_dims(t, (1, 3))),
        np.pad(t, ((1, 0), (0, 2), (0, 0)))[1:, :-2],
        np.tril(t) + np.triu(t, 1),
        np.ravel(t).reshape(2, 3, 4),
    ):
        np.testing.assert_array_equal(there_and_back.numpy(), x)


def test_on_arrays_they_are_numpys():
    x = np.arange(6.0).reshape(2, 3)
    for f, g in [
        (ops.ravel, np.ravel),
        (ops.squeeze, np.squeeze),
        (lambda x: ops.expand_dims(x, -1), lambda x: np.expand_dims(x, -1)),
        (lambda x: ops.stack([x, x], 1), lambda x: np.stack([x, x], 1)),
        (lambda x: ops.concatenate([x, x], 1), lambda x: np.concatenate([x, x], 1)),
        (lambda x: ops.tile(x, np.int64(2)), lambda x: np.tile(x, 2)),
        (lambda x: ops.repeat(x, np.int64(2), 0), lambda x: np.repeat(x, 2, 0)),
    ]:
        assert type(f(x)) is np.ndarray
        np.testing.assert_array_equal(f(x), g(x))


def test_lists_and_numbers_may_be_joined_to_tensors():
    y = np.concatenate([X, np.ones((1, 3))])
    assert y.shape == (3, 3)
    z = np.stack([X[0, 0], 2.0])
    assert z.numpy().tolist() == [0, 2]

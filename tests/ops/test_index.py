"""Indexing: repeated entries, errors, and indices that are tensors."""

import numpy as np
import pytest

from tinygen import Tensor, ops
from tinygen.ops.index import checked_ids

X = np.arange(12.0).reshape(3, 4)


def leaf():
    return Tensor(X.copy(), requires_grad=True)


def test_gradients_of_repeated_entries_are_added():
    x = leaf()
    x[[0, 0, 2]].sum().backward()
    assert x.grad[:, 0].tolist() == [2, 0, 1]
    w = Tensor(np.zeros((3, 2)), requires_grad=True)
    (ops.embedding(w, np.array([1, 1, 1, 0])) * np.arange(1.0, 5.0)[:, None]).sum().backward()
    assert w.grad.tolist() == [[4, 4], [6, 6], [0, 0]]


@pytest.mark.parametrize("ids", [[1, 1, 0], (1, 1, 0), [[1], [1], [0]]], ids=str)
def test_ids_may_be_lists(ids):
    w = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows = ops.embedding(w, ids)
    np.testing.assert_array_equal(rows.numpy(), w.data[np.array(ids)])
    rows.sum().backward()
    assert w.grad.tolist() == [[1, 1], [2, 2], [0, 0]]


@pytest.mark.parametrize(
    "index", [[0, 0, 1], np.array([0, 0, 1]), (np.array([0, 0, 1]), 1), ([0, 0, 1], slice(2))]
)
def test_scatter_add_is_np_add_at(index):
    values = np.random.default_rng(0).normal(size=X[index].shape)
    expected = np.zeros_like(X)
    np.add.at(expected, index, values)
    np.testing.assert_array_equal(ops.scatter_add(values, index, X.shape), expected)
    x = Tensor(values, requires_grad=True)
    y = ops.scatter_add(x, index, X.shape)
    (y * X).sum().backward()
    np.testing.assert_array_equal(x.grad, X[index])


def test_scatter_add_takes_the_dtype_of_what_is_added():
    assert ops.scatter_add(np.ones(2, np.float32), [0, 0], (3,)).dtype == np.float32


def test_tensors_as_indices():
    x = leaf()
    rows, mask = Tensor([2, 0]), Tensor(X[0] > 1)
    np.testing.assert_array_equal(x[rows].numpy(), X[[2, 0]])
    np.testing.assert_array_equal(x[rows, 1].numpy(), X[[2, 0], 1])
    np.testing.assert_array_equal(x[:, mask].numpy(), X[:, X[0] > 1])
    np.testing.assert_array_equal(x[x > 5].numpy(), X[X > 5])
    np.testing.assert_array_equal(np.take(x, rows, 1).numpy(), X[:, [2, 0]])
    x[rows][:, mask].sum().backward()
    assert x.grad.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]]


def test_one_logit_a_row():
    logits, targets = leaf(), np.array([1, 3, 0])
    picked = np.take_along_axis(logits, targets[:, None], -1)
    assert picked.numpy().tolist() == [[1], [7], [8]]
    np.testing.assert_array_equal(ops.take_along_axis(logits, targets[:, None]).numpy(), picked.numpy())
    picked.sum().backward()
    np.testing.assert_array_equal(logits.grad, np.eye(4)[targets])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: x[3], IndexError, r"getitem\(float64 \(3, 4\), 3\): index 3 is out of bounds"),
        (lambda x: x[[0, 5]], IndexError, r"getitem\(float64 \(3, 4\), \[0, 5\]\)"),
        (lambda x: x[0, 0, 0], IndexError, "too many indices"),
        (lambda x: x["a"], IndexError, "only integers, slices"),
        (lambda x: x[1.5], IndexError, "only integers, slices"),
        (lambda x: x[np.ones((2, 4), bool)], IndexError, "boolean index did not match"),
        (lambda x: np.take_along_axis(x, np.ones(3, int), 1), ValueError, r"x \(3, 4\): same ndim"),
        (lambda x: np.take_along_axis(x, np.array([[4]]), 1), IndexError, "out of bounds"),
        (lambda x: ops.embedding(x, np.array([0, 3])), IndexError, r"ids must be in \[0, 3\); got 0 to 3"),
        (lambda x: ops.embedding(x, np.array([-1, 0])), IndexError, r"ids must be in \[0, 3\); got -1 to 0"),
        (lambda x: ops.embedding(x, np.array([0.0])), TypeError, "must be integers, got float64"),
        (lambda x: ops.embedding(x, np.array([True])), TypeError, "embedding ids must be integers, got bool"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(leaf())


def test_the_last_axis_is_the_one_taken_along():
    x = np.arange(8.0).reshape(2, 2, 2)
    assert ops.take_along_axis(Tensor(x), np.array([[[1], [0]]])).numpy().tolist() == [[[1], [2]], [[5], [6]]]


def test_reading_by_slices_makes_views():
    """As in NumPy: no copy is made until the gradient needs one."""
    x = leaf()
    assert np.shares_memory(x[1:].numpy(), x.data)
    assert not np.shares_memory(x[[1, 2]].numpy(), x.data)


def test_masks_are_no_integers_to_take():
    """NumPy refuses them too; as an index they would choose."""
    x, mask = Tensor(np.arange(4.0), requires_grad=True), np.array([True, False, True, True])
    for indices in (mask, Tensor(mask), mask.tolist(), np.array([0.0, 2.0])):
        with pytest.raises(TypeError, match=r"take: indices must be integers, .* x\[mask\]"):
            np.take(x, indices)
        with pytest.raises(TypeError, match="take_along_axis: indices must be integers"):
            np.take_along_axis(x, indices, 0)
    assert x[mask].shape == (3,)


def test_checked_ids():
    """Ids that are valid, or ignored, come back as they are; the error says the range that was found."""
    ids = np.array([2, 0, -100])
    same, invalid = checked_ids("targets", ids, 3, -100)
    assert same is ids
    assert invalid is None
    with pytest.raises(IndexError, match=r"^ids must be in \[0, 3\); got -100 to 2$"):
        checked_ids("ids", ids, 3)
    with pytest.raises(IndexError, match=r"^ids must be in \[0, 2\) or -100, which is ignored; got 0 to 2$"):
        checked_ids("ids", ids, 2, -100)
    with pytest.raises(TypeError, match=r"^ids must be integers, got bool$"):
        checked_ids("ids", ids > 0, 3)
    assert checked_ids("ids", ids[:0], 3)[0].size == 0

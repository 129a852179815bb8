"""Reductions: ties, conventions and errors."""

import math

import numpy as np
import pytest

from tinygen import Tensor, grad, hessian, ops


def slope(f, x):
    return grad(lambda x: f(x).sum())(np.asarray(x)).numpy().tolist()


def test_ties_share_the_gradient():
    x = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    third = 1 / 3
    assert slope(lambda x: x.max(axis=1), x) == [[0, 0.5, 0.5], [third, third, third]]
    assert slope(lambda x: x.min(axis=1), x) == [[1, 0, 0], [third, third, third]]
    assert slope(lambda x: x.max(), x) == [[0, 0.5, 0.5], [0, 0, 0]]
    assert slope(lambda x: x.max(axis=0, keepdims=True), x) == [[0, 1, 1], [1, 0, 0]]


def test_thirds_are_exact_in_float64_replays_too():
    x = Tensor(np.ones(3), requires_grad=True)
    weight = Tensor(np.array(1.0), requires_grad=True)
    grad(lambda x: x.max() * weight)(x)[0].backward()
    assert weight.grad == 1 / 3


def test_variance():
    x = np.array([1.0, 2.0, 4.0])
    assert ops.var(x) == pytest.approx(14 / 9)
    assert ops.var(x, ddof=1) == pytest.approx(7 / 3)
    assert ops.std(x) == pytest.approx(math.sqrt(14 / 9))
    assert slope(np.var, x) == pytest.approx(2 / 3 * (x - x.mean()))
    n = hessian(np.var)(x).numpy()
    np.testing.assert_allclose(n, 2 / 3 * (np.eye(3) - 1 / 3), atol=1e-15)
    with pytest.raises(ValueError, match="var over 1 entries with ddof=1 divides by 0"):
        np.var(Tensor([2.0]), ddof=1)


def test_the_spread_of_equal_numbers():
    assert slope(np.var, [2.0, 2.0]) == [0, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        assert not np.isfinite(slope(np.std, [2.0, 2.0])).any()  # a kink; the docstring says so


def test_logsumexp():
    assert ops.logsumexp(np.zeros(8)) == pytest.approx(math.log(8))
    assert ops.logsumexp(np.array([1000.0, 1000.0])) == pytest.approx(1000 + math.log(2))
    assert ops.logsumexp(np.array([-np.inf, 0.0])) == 0
    with np.errstate(divide="ignore"):
        assert ops.logsumexp(np.array([-np.inf, -np.inf])) == -np.inf
    x = np.array([[0.3, -1.0, 2.0]])
    np.testing.assert_allclose(slope(lambda x: ops.logsumexp(x, -1), x), ops.softmax(x))


def test_shapes_of_logsumexp():
    x = np.zeros((2, 3, 4))
    for axis, shape, kept in [(None, (), (1, 1, 1)), (1, (2, 4), (2, 1, 4)), ((0, -1), (3,), (1, 3, 1))]:
        assert ops.logsumexp(Tensor(x), axis).shape == shape
        assert ops.logsumexp(Tensor(x), axis, True).shape == kept


def test_axes_are_dropped_unless_they_are_kept():
    x = Tensor(np.ones((2, 3)))
    for f in (np.sum, np.mean, np.var, np.std, np.max, np.min, ops.logsumexp):
        assert f(x).shape == ()
        assert f(x, axis=1).shape == (2,)
        assert f(x, axis=1, keepdims=True).shape == (2, 1)


def test_argmax_and_argmin():
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 0.0]]), requires_grad=True)
    assert np.argmax(x, 1).numpy().tolist() == [1, 0]
    assert np.argmin(x, axis=1).numpy().tolist() == [0, 1]
    assert int(np.argmax(x)) == 1
    assert not x.argmax(1).requires_grad
    assert x.argmax(1).dtype == np.int64


def test_reductions_of_ints():
    x = Tensor([[1, 2], [3, 4]])
    assert np.cumsum(x, 0).numpy().tolist() == [[1, 2], [4, 6]]
    assert x.max(axis=0).numpy().tolist() == [3, 4]
    assert x.max().dtype == np.int64


@pytest.mark.parametrize(
    "f",
    [np.sum, np.mean, np.var, np.max, np.min, ops.logsumexp, np.cumsum, np.argmax],
    ids=lambda f: f.__name__,
)
def test_an_axis_that_is_not_there(f):
    with pytest.raises(np.exceptions.AxisError):
        f(Tensor(np.ones((2, 3))), axis=2)


@pytest.mark.parametrize("f", [np.max, np.min, ops.logsumexp, np.argmax], ids=lambda f: f.__name__)
def test_the_extremes_of_nothing(f):
    with pytest.raises(ValueError, match=r"float64 \(2, 0\)"):
        f(Tensor(np.ones((2, 0))), axis=1)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_the_mean_of_nothing():
    x = Tensor(np.ones((2, 0)), requires_grad=True)
    y = x.mean(axis=1)
    with np.errstate(all="raise"):  # nothing is divided by its 0 entries
        y.backward(np.ones(2))
    assert x.grad.shape == (2, 0)


def test_the_running_sum_goes_back_from_the_end():
    assert slope(lambda x: np.cumsum(x) * np.array([1.0, 10.0, 100.0]), [0.0, 0.0, 0.0]) == [111, 110, 100]

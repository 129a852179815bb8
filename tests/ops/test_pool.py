"""Pooling and upsampling: closed forms, the definition written out as loops, ties, errors.

Gradients of many calls, to the second order and against torch, are in test_every_op.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, gradcheck, ops


@pytest.fixture(autouse=True)
def definitions():
    with tinygen.kernels("off"):
        yield


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_small_examples_by_hand():
    x = np.array([[[[1.0, 5.0, 2.0, 0.0], [3.0, 7.0, 1.0, 1.0]]]])
    np.testing.assert_array_equal(ops.max_pool2d(x, 2), [[[[7.0, 2.0]]]])
    np.testing.assert_array_equal(ops.avg_pool2d(x, 2), [[[[4.0, 1.0]]]])
    np.testing.assert_array_equal(ops.max_pool2d(x, (1, 3), 1), [[[[5.0, 5.0], [7.0, 7.0]]]])
    np.testing.assert_array_equal(ops.avg_pool2d(x, (2, 1)), [[[[2.0, 6.0, 1.5, 0.5]]]])
    np.testing.assert_array_equal(ops.avg_pool2d(x, 2, 2, 1)[0, 0, 0], [0.25, 1.75, 0.0])  # zeros count
    np.testing.assert_array_equal(ops.max_pool2d(-x, 2, 2, 1)[0, 0, 0], [-1.0, -2.0, 0.0])  # padding does not
    np.testing.assert_array_equal(ops.max_pool1d(x[:, :, 0], 2), [[[5.0, 2.0]]])
    np.testing.assert_array_equal(
        ops.upsample_nearest(x[:, :, :, :2], 2)[0, 0],
        [[1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 5.0], [3.0, 3.0, 7.0, 7.0], [3.0, 3.0, 7.0, 7.0]],
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [2, 3, (1, 3)])
def test_a_constant_map_stays_so(kernel, dtype):
    x = np.full((2, 3, 7, 6), 3.0, dtype)
    for y in (ops.avg_pool2d(x, kernel), ops.max_pool2d(x, kernel), ops.upsample_nearest(x, 2)):
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.full_like(y, 3.0))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_pooling_undoes_upsampling(scale):
    x = np.rint(4 * normal(2, 3, 4, 5))
    up = ops.upsample_nearest(x, scale)
    np.testing.assert_array_equal(ops.avg_pool2d(up, scale), x)
    np.testing.assert_array_equal(ops.max_pool2d(up, scale), x)
    np.testing.assert_array_equal(up[:, :, ::scale, ::scale], x)


def test_upsampling_is_the_adjoint_of_summing_blocks():
    x, y = np.rint(4 * normal(2, 3, 4, 5)), np.rint(4 * normal(2, 3, 8, 10, seed=1))
    assert (ops.upsample_nearest(x, 2) * y).sum() == (x * 4 * ops.avg_pool2d(y, 2)).sum()


def test_of_equals_the_first_gets_the_gradient():
    """The first in the order of reading: left to right, then down."""
    x = Tensor(np.array([[[[1.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]]]), requires_grad=True)
    ops.max_pool2d(x, 2, 1).backward(np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]))
    np.testing.assert_array_equal(x.grad, [[[[0.0, 11.0, 0.0], [100.0, 1000.0, 0.0], [0.0, 0.0, 0.0]]]])


def test_ties_as_in_torch():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).integers(0, 3, (3, 2, 7, 6)).astype(np.float32)
    for kernel, stride, padding in [(2, 2, 0), (3, 1, 1), ((2, 3), (2, 1), (1, 0)), (4, 3, 2)]:
        x, reference = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        y = ops.max_pool2d(x, kernel, stride, padding)
        z = torch.nn.functional.max_pool2d(reference, kernel, stride, padding)
        np.testing.assert_array_equal(y.numpy(), z.detach().numpy())
        g = np.random.default_rng(1).integers(1, 9, y.shape).astype(np.float32)
        y.backward(g)
        z.backward(torch.tensor(g))
        np.testing.assert_array_equal(x.grad, reference.grad.numpy())


def test_no_samples_and_no_channels():
    for pool in (ops.max_pool2d, ops.avg_pool2d):
        for n, channels in ((0, 2), (2, 0)):
            x = Tensor(np.zeros((n, channels, 4, 4)), requires_grad=True)
            y = pool(x, 2)
            assert y.shape == (n, channels, 2, 2)
            y.sum().backward()
            assert x.grad.shape == x.shape


def test_minus_infinity_and_nan():
    """Where a window sees nothing but -inf, an entry of the map gets the gradient, not the padding."""
    x = Tensor(np.full((1, 1, 3, 3), -np.inf), requires_grad=True)
    y = ops.max_pool2d(x, 2, 2, 1)
    np.testing.assert_array_equal(y.numpy(), np.full((1, 1, 2, 2), -np.inf))
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(x.grad[0, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    holed = np.zeros((1, 1, 2, 4))
    holed[0, 0, 1, 0] = np.nan
    np.testing.assert_array_equal(ops.max_pool2d(holed, 2), [[[[np.nan, 0.0]]]])


def by_loops(x, kernel, stride, padding, reduce, fill):
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=fill)
    h, w = ((n - k) // s + 1 for n, k, s in zip(padded.shape[2:], kernel, stride, strict=True))
    y = np.zeros((*x.shape[:2], h, w))
    for n, c, i, j in np.ndindex(*y.shape):
        top, left = i * stride[0], j * stride[1]
        y[n, c, i, j] = reduce(padded[n, c, top : top + kernel[0], left : left + kernel[1]])
    return y


@st.composite
def setups(draw):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [draw(st.integers(max(k - 2 * p, 1), 5)) for k, p in zip(kernel, padding, strict=True)]
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *size)
    x = np.random.default_rng(draw(st.integers(0, 99))).permutation(np.prod(shape)).reshape(shape) * 0.1 - 2
    return x, kernel, stride, padding


@given(setups())
def test_the_definition(setup):
    np.testing.assert_array_equal(ops.max_pool2d(*setup), by_loops(*setup, np.max, -np.inf))
    np.testing.assert_allclose(ops.avg_pool2d(*setup), by_loops(*setup, np.mean, 0.0), rtol=1e-13, atol=1e-13)


@given(setups())
def test_gradients_of_both_orders(setup):
    x, *numbers = setup
    x = x[:1]
    assert gradcheck(lambda x: ops.max_pool2d(x, *numbers), x, order=2)
    assert gradcheck(lambda x: ops.avg_pool2d(x, *numbers), x, order=2)
    assert gradcheck(lambda x: np.square(ops.max_pool2d(x, *numbers)), x, order=2)  # with a second derivative


def test_a_second_derivative_through_upsampling():
    assert gradcheck(lambda x: np.exp(ops.upsample_nearest(x, 2)), normal(1, 2, 2, 1), order=2)


X = np.zeros((2, 4, 5, 5))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda: ops.max_pool2d(X[0], 2), ["max_pool2d", r"\(4, 5, 5\)", r"\(2, 2\)", r"x\[None\]"]),
        (lambda: ops.max_pool1d(X, 2), ["max_pool1d", "needs 3 axes"]),
        (lambda: ops.avg_pool2d(X[:, :, :0], 2), ["avg_pool2d", r"\(2, 4, 0, 5\)", "above 0"]),
        (lambda: ops.avg_pool2d(X, 6), [r"\(2, 4, 5, 5\)", r"\(6, 6\)", "smaller kernel"]),
        (lambda: ops.avg_pool2d(X, 0), ["kernel must be an int of at least 1"]),
        (lambda: ops.max_pool2d(X, 2, stride=0), ["stride must be an int of at least 1"]),
        (lambda: ops.max_pool2d(X, 3, padding=2), [r"\(2, 2\)", "more than half of the kernel"]),
        (lambda: ops.max_pool2d(X, (2, 2, 2)), [r"got \(2, 2, 2\)"]),
        (lambda: ops.upsample_nearest(X[0], 2), [r"\(N, C, H, W\)", r"\(4, 5, 5\)"]),
        (lambda: ops.upsample_nearest(X, 0), ["scale of at least 1", "0"]),
    ],
)
def test_what_does_not_fit(f, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are looked for one by one)
        f()
    for word in words:
        assert caught.match(word)

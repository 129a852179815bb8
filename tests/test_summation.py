"""Sums over many rows beside the same sums in float64: in ops, and in the gradients of what was broadcast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, ops
from tinygen.summation import MANY, sum_over

N = 2**18
ROWS = np.full((N, 2), 0.1, np.float32)  # a plain loop over the rows is off by 1e-3


@given(st.sampled_from([1, MANY - 1, MANY, MANY + 1, 2 * MANY + 37]), st.booleans(), st.integers(0, 3))
def test_sum_over_is_sum(n, keepdims, how):
    """Every entry counts once: the sums are of small integers, and so exact. Any layout, any leading axes."""
    x = np.random.default_rng(n).integers(-8, 9, (n, 3, 2)).astype(np.float32)
    x = [x, x[::-1], np.asfortranarray(x), x.transpose(1, 0, 2)][how]
    for axis in (0, (0,), (0, 1), (0, 2), (1, 2), -1, None, (0, 1, 2)):
        found, expected = sum_over(x, axis, keepdims), x.sum(axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape
        assert found.dtype == np.float32


@pytest.mark.parametrize(
    "reduce",
    [
        lambda x: np.sum(x, axis=0),
        lambda x: N * np.mean(x, axis=0),
        lambda x: N * np.var(x + np.resize([0.5, -0.5], (N, 1)).astype(np.float32), axis=0) * 0.4,
    ],
)
def test_many_rows(reduce):
    exact = N * np.float64(np.float32(0.1))
    np.testing.assert_allclose(reduce(Tensor(ROWS)).numpy(), exact, rtol=2e-6)


@pytest.mark.parametrize("floor", ["off", "auto"])
@pytest.mark.parametrize("layer", ["broadcast", "linear", "conv", "layer norm", "batch norm"])
def test_gradients_of_what_many_rows_share(layer, floor):
    """Each bias is added to N rows, and the gradient of each row is 0.1."""
    bias = Tensor(np.zeros(2, np.float32), requires_grad=True)
    x = ROWS.reshape(N // 4, 2, 2, 2) if layer == "conv" else ROWS
    one, identity = Tensor(np.ones(2, np.float32)), np.eye(2, dtype=np.float32)
    with tinygen.kernels(floor):
        y = {
            "broadcast": lambda x: x + bias,
            "linear": lambda x: ops.linear(x, Tensor(identity), bias),
            "conv": lambda x: ops.conv2d(x, Tensor(identity[:, :, None, None]), bias),
            "layer norm": lambda x: ops.layer_norm(x, one, bias),
            "batch norm": lambda x: ops.batch_norm(x, one, bias),
        }[layer](Tensor(x))
        y.backward(x)
    np.testing.assert_allclose(bias.grad, N * np.float64(np.float32(0.1)), rtol=2e-6)


@pytest.mark.parametrize("floor", ["off", "auto"])
def test_float16_norms_of_large_entries(floor):
    """The squares of 300s are beyond float16: the norms compute in float32, and give float16 again."""
    x = np.array([[300, -300, 300, -300], [900, 300, -300, -900]], np.float16)
    weight, bias = np.ones(4, np.float16), np.zeros(4, np.float16)
    exact = x.astype(np.float64)
    centered = exact / np.sqrt((exact**2).mean(axis=1, keepdims=True))  # the means are 0
    for y in (
        ops.layer_norm(Tensor(x), Tensor(weight), Tensor(bias)),
        ops.rms_norm(Tensor(x), Tensor(weight)),
        ops.group_norm(Tensor(x), 1, Tensor(weight), Tensor(bias)),
    ):
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.numpy(), centered, rtol=1e-3)
    assert np.var(Tensor(x / 4)).item() == pytest.approx(np.var(exact / 4), rel=1e-3)

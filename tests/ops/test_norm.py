"""Normalisation: what is normalised over what, and invariances."""

import numpy as np
import pytest

from tinygen import ops, vjp

rng = np.random.default_rng(0)


def moments(y, axes):
    return y.mean(axis=axes), (y * y).mean(axis=axes)


def test_each_normalizes_over_its_axes():
    x = rng.normal(3.0, 5.0, size=(4, 6, 5, 5))
    one, zero = np.ones(6), np.zeros(6)
    np.testing.assert_allclose(moments(ops.batch_norm(x, one, zero), (0, 2, 3))[1], 1, rtol=1e-5)
    groups = ops.group_norm(x, 3, one, zero).reshape(4, 3, -1)
    for mean, square in (
        moments(ops.layer_norm(x, np.ones(5), np.zeros(5)), -1),
        moments(ops.batch_norm(x, one, zero), (0, 2, 3)),
        moments(groups, -1),
    ):
        np.testing.assert_allclose(mean, 0, atol=1e-12)
        np.testing.assert_allclose(square, 1, rtol=1e-3)
    y = ops.rms_norm(x, np.ones(5))
    np.testing.assert_allclose((y * y).mean(axis=-1), 1, rtol=1e-3)


def test_weights_and_biases_are_per_channel():
    x, w, b = rng.normal(size=(2, 4, 3)), rng.normal(size=4), rng.normal(size=4)
    plain = ops.group_norm(x, 2, np.ones(4), np.zeros(4))
    np.testing.assert_allclose(ops.group_norm(x, 2, w, b), plain * w[:, None] + b[:, None])
    plain = ops.batch_norm(x, np.ones(4), np.zeros(4))
    np.testing.assert_allclose(ops.batch_norm(x, w, b), plain * w[:, None] + b[:, None])


def test_special_cases_of_one_another():
    x = rng.normal(size=(3, 4))
    one, zero = np.ones(4), np.zeros(4)
    np.testing.assert_allclose(ops.group_norm(x, 1, one, zero), ops.layer_norm(x, one, zero))
    np.testing.assert_allclose(ops.batch_norm(x, one, zero), ops.layer_norm(x.T, np.ones(3), np.zeros(3)).T)
    centered = x - x.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(ops.rms_norm(centered, one, eps=1e-5), ops.layer_norm(x, one, zero))


@pytest.mark.parametrize("norm", ["layer", "rms", "group", "batch"])
def test_the_gradient_is_orthogonal_to_what_changes_nothing(norm):
    """Scaling x changes nothing (with eps 0), and shifting it neither, but for RMS norm."""
    x, w, b = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4)
    f = {
        "layer": lambda x: ops.layer_norm(x, w, b, eps=0.0),
        "rms": lambda x: ops.rms_norm(x, w, eps=0.0),
        "group": lambda x: ops.group_norm(x, 1, w, b, eps=0.0),
        "batch": lambda x: ops.batch_norm(x, w, b, eps=0.0),
    }[norm]
    axis = 0 if norm == "batch" else -1
    y, pull = vjp(f, x)
    np.testing.assert_allclose(y.numpy(), f(x * 7.0))
    (dx,) = pull(rng.normal(size=(3, 4)))
    np.testing.assert_allclose((dx.numpy() * x).sum(axis=axis), 0, atol=1e-12)
    if norm != "rms":
        np.testing.assert_allclose(dx.numpy().sum(axis=axis), 0, atol=1e-12)


def test_constant_rows_are_sent_to_the_bias():
    y = ops.layer_norm(np.full((2, 3), 5.0), np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert y.tolist() == [[1, 2, 3]] * 2


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="6 channels cannot be split into 4 equal groups"):
        ops.group_norm(np.zeros((1, 6, 2)), 4, np.ones(6), np.zeros(6))
